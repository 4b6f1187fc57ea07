"""A page object: what a visitor does on the gallery's pages, and what they see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

CARD = '[class*="st-key-card-"]'
TIMEOUT_MS = 60_000
"""The timeout of every expectation, in milliseconds; the machine may be busy."""


@dataclass(frozen=True)
class Card:
    """The content of a card; empty scores where it shows none."""

    id: str
    title: str
    similarity: str
    distance: str


class Visitor:
    """A visitor of the gallery in one browser page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, url: str) -> None:
        """Open a URL, and wait until the page is complete."""
        self.page.goto(url)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has content, its script has ended, and no stale element is left."""
        expect(self.page.get_by_test_id("stMain").get_by_test_id("stElementContainer").first).to_be_attached(
            timeout=TIMEOUT_MS
        )
        running = self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(running).to_be_visible(timeout=TIMEOUT_MS)
        expect(self.page.locator('[data-testid="stSkeleton"]')).to_have_count(0, timeout=TIMEOUT_MS)
        expect(self.page.locator('[data-stale="true"]')).to_have_count(0, timeout=TIMEOUT_MS)

    def button(self, name: str) -> Locator:
        """Return the button with exactly this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def similar(self, product_id: str) -> Locator:
        """Return the button of the card of a product."""
        card = self.page.locator(CARD).filter(has=self.page.get_by_text(product_id, exact=True))
        return card.get_by_role("button", name="Find similar")

    def text(self, text: str) -> Locator:
        """Return the first element that contains this text."""
        return self.page.get_by_text(text).first

    def sees(self, text: str) -> None:
        """Wait until this text is visible."""
        expect(self.text(text)).to_be_visible(timeout=TIMEOUT_MS)

    def sees_query(self, title: str) -> None:
        """Wait until the query has this title and its result is complete."""
        heading = self.page.locator(".st-key-query-title")
        expect(heading).to_have_text(title, timeout=TIMEOUT_MS)
        self.settle()

    def cards(self) -> list[Card]:
        """Return the cards in the order of the page."""
        self.settle()
        cards = []
        for text in self.page.locator(CARD).all_inner_texts():
            title, name = [line for line in text.splitlines() if line.strip()][:2]
            assert "Find similar" in text, text
            similarity = re.search(r"similarity (\S+)", text)
            distance = re.search(r"distance (\S+)", text)
            cards.append(
                Card(
                    name.replace("\N{WORD JOINER}", ""),
                    title,
                    similarity.group(1) if similarity else "",
                    distance.group(1) if distance else "",
                )
            )
        return cards

    def loaded(self) -> int:
        """Wait until the images of all cards have loaded, and return their number."""
        images = self.page.locator(f"{CARD} img")
        for image in images.all():
            image.scroll_into_view_if_needed()
            self.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
        return images.count()

    def click_image(self, position: int) -> None:
        """Click at the image of a card; forced, because the card's button covers it."""
        image = self.page.locator(f"{CARD} img").nth(position)
        image.scroll_into_view_if_needed()
        image.click(force=True)

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a list on the Search page."""
        before = self.page.url
        box = self.page.get_by_role("combobox", name=label, exact=False)
        box.click()
        box.fill(option.partition(" (")[0])
        self.page.get_by_role("option", name=option).first.click()
        self._wait_for_new_url(before)

    def fill(self, label: str, text: str) -> None:
        """Fill a field on the Search page, and press Enter."""
        before = self.page.url
        box = self.page.get_by_label(label, exact=True)
        box.fill(text)
        box.press("Enter")
        self._wait_for_new_url(before)

    def upload(self, file: Path) -> None:
        """Select a file in the first uploader."""
        self.page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(file)

    def _wait_for_new_url(self, url: str) -> None:
        # every choice on the Search page changes the URL before its result is shown
        self.page.wait_for_url(lambda current: current != url, timeout=TIMEOUT_MS)
        self.settle()
