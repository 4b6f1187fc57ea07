"""Somebody in front of a browser: what they do to the gallery's pages, and what they see there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

CARD = '[class*="st-key-card-"]'
SECONDS = 30_000
"""How long the browser waits for what must come, in milliseconds; the machine may be busy."""


@dataclass(frozen=True)
class Card:
    """What one card shows."""

    id: str
    title: str
    similarity: str
    distance: str


class Visitor:
    """Somebody in front of one browser page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, url: str) -> None:
        """Open an address and wait until the page stands still."""
        self.page.goto(url)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has something on it, its script has run, and nothing of the run before is left."""
        expect(self.page.get_by_test_id("stMain").get_by_test_id("stElementContainer").first).to_be_attached(
            timeout=SECONDS
        )
        running = self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(running).to_be_visible(timeout=SECONDS)
        expect(self.page.locator('[data-testid="stSkeleton"]')).to_have_count(0, timeout=SECONDS)
        expect(self.page.locator('[data-stale="true"]')).to_have_count(0, timeout=SECONDS)

    def button(self, name: str) -> Locator:
        """The button of exactly this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def text(self, text: str) -> Locator:
        """The first element that holds this text."""
        return self.page.get_by_text(text).first

    def sees(self, text: str) -> None:
        """Wait until the page shows a text."""
        expect(self.text(text)).to_be_visible(timeout=SECONDS)

    def asks_from(self, title: str) -> None:
        """Wait until the query is the product of this title and its answer is there."""
        heading = self.page.locator(".st-key-question-title")
        expect(heading).to_have_text(title, timeout=SECONDS)
        self.settle()

    def cards(self) -> list[Card]:
        """The cards, as they stand on the page."""
        self.settle()
        found = []
        for text in self.page.locator(CARD).all_inner_texts():
            name = re.search(r"Look from (.+)", text)
            similarity = re.search(r"similarity (\S+)", text)
            distance = re.search(r"distance (\S+)", text)
            assert name is not None, text
            title = text.strip().partition("\n")[0]
            found.append(
                Card(
                    name.group(1).replace("\N{WORD JOINER}", ""),
                    title,
                    similarity.group(1) if similarity else "",
                    distance.group(1) if distance else "",
                )
            )
        return found

    def loaded(self) -> int:
        """How many images stand on the cards, once all of them are there."""
        images = self.page.locator(f"{CARD} img")
        for image in images.all():
            image.scroll_into_view_if_needed()
            self.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
        return images.count()

    def click_image(self, place: int) -> None:
        """Click where a card's image is; the card's button lies over it, so what is clicked is the page's to say."""
        image = self.page.locator(f"{CARD} img").nth(place)
        image.scroll_into_view_if_needed()
        image.click(force=True)

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a list of the search page."""
        before = self.page.url
        box = self.page.get_by_role("combobox", name=label, exact=False)
        box.click()
        box.fill(option.partition(" (")[0])
        self.page.get_by_role("option", name=option).first.click()
        self._goes_on_from(before)

    def write(self, label: str, text: str) -> None:
        """Write into a field of the search page and press Enter."""
        before = self.page.url
        box = self.page.get_by_label(label, exact=True)
        box.fill(text)
        box.press("Enter")
        self._goes_on_from(before)

    def upload(self, file: Path) -> None:
        """Choose a file."""
        self.page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(file)

    def _goes_on_from(self, url: str) -> None:
        # every choice on the search page is in its address before its answer is on the screen
        self.page.wait_for_url(lambda now: now != url, timeout=SECONDS)
        self.settle()
