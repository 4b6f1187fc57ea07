"""The screenshots of the documentation, which show the sample catalog."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from e2e.gallery.shop import Shop
from e2e.gallery.visitor import TIMEOUT_MS, Visitor
from support.paths import ROOT

# Set by `make gallery-screenshots`; without it the test does not write to docs/.
UPDATE = "GALLERY_UPDATE_SCREENSHOTS"


@pytest.mark.screen(viewport={"width": 1200, "height": 860})
def test_screenshots_of_the_readme(sample: Shop, visitor: Visitor, tmp_path: Path) -> None:
    """The screenshots that the README shows have at most 150 KB each."""
    folder = ROOT / "docs" if os.environ.get(UPDATE) else tmp_path
    visitor.open(f"{sample.url}/?id=S0001&k=10")
    visitor.sees_query("Red striped T-shirt")
    visitor.loaded()
    visitor.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    save(visitor, folder / "gallery-search.png")

    visitor.open(f"{sample.url}/server")
    for _ in range(3):
        visitor.page.get_by_role("button", name="Send 20 queries").click()
        visitor.settle()
    expect(visitor.page.get_by_text("Stages of the last search")).to_be_visible(timeout=TIMEOUT_MS)
    expect(visitor.page.locator('[data-testid="stVegaLiteChart"] svg')).to_have_count(5, timeout=TIMEOUT_MS)
    visitor.page.set_viewport_size({"width": 1200, "height": 1400})
    visitor.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    save(visitor, folder / "gallery-server.png")


def save(visitor: Visitor, file: Path) -> None:
    """Write a screenshot with a palette, which takes a third of the size."""
    image = Image.open(io.BytesIO(visitor.page.screenshot()))
    image.convert("RGB").quantize(256, kmeans=3).save(file, optimize=True)
    assert file.stat().st_size < 150_000
