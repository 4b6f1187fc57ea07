"""The images of the documentation: drawn from the sample catalog alone, whenever the tests run."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from e2e.gallery.shop import ROOT, Shop
from e2e.gallery.visitor import SECONDS, Visitor

# `make gallery-screenshots` sets this; without it the images are drawn and judged, and docs/ stays as it is.
KEEP = "GALLERY_UPDATE_SCREENSHOTS"


@pytest.mark.screen(viewport={"width": 1200, "height": 860})
def test_screenshots_of_the_readme(sample: Shop, visitor: Visitor, tmp_path: Path) -> None:
    """The two pages that the README shows fit into 150 KB each."""
    folder = ROOT / "docs" if os.environ.get(KEEP) else tmp_path
    visitor.open(f"{sample.url}/?id=S0001&k=10")
    visitor.asks_from("Red striped T-shirt")
    visitor.loaded()
    visitor.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    keep(visitor, folder / "gallery-search.png")

    visitor.open(f"{sample.url}/server")
    for _ in range(3):
        visitor.page.get_by_role("button", name="Ask 20 questions now").click()
        visitor.settle()
    expect(visitor.page.get_by_text("ResponseStats of the last answer")).to_be_visible(timeout=SECONDS)
    expect(visitor.page.locator('[data-testid="stVegaLiteChart"] svg')).to_have_count(5, timeout=SECONDS)
    visitor.page.set_viewport_size({"width": 1200, "height": 1400})
    visitor.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    keep(visitor, folder / "gallery-server.png")


def keep(visitor: Visitor, file: Path) -> None:
    """Write what is on the screen with a palette, which is a third of the size."""
    image = Image.open(io.BytesIO(visitor.page.screenshot()))
    image.convert("RGB").quantize(256, kmeans=3).save(file, optimize=True)
    assert file.stat().st_size < 150_000
