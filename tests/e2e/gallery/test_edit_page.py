"""The page that changes the catalog: nothing is replaced or removed without a yes."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from e2e.gallery.shop import Shop
from e2e.gallery.visitor import SECONDS, Visitor
from lookalike_client import LookalikeError, ProductInput


def fill(visitor: Visitor, product_id: str, category: str, title: str, attributes: str, image: Path) -> None:
    """Fill the form of a product and send it."""
    visitor.upload(image)
    expect(visitor.page.get_by_test_id("stFileChip")).to_be_visible(timeout=SECONDS)
    visitor.page.get_by_label("Product id", exact=True).fill(product_id)
    box = visitor.page.get_by_role("combobox", name="Category")
    box.fill(category)
    box.press("Enter")
    visitor.page.get_by_label("Title", exact=True).fill(title)
    visitor.page.get_by_label("Attributes, one a line").fill(attributes)
    visitor.button("Store").click()


def doom(visitor: Visitor, product_id: str) -> None:
    """Name a product to delete."""
    visitor.page.get_by_role("tab", name="Delete").click()
    box = visitor.page.get_by_label("Id of the product to delete", exact=True)
    box.fill(product_id)
    box.press("Enter")


def test_add_then_delete(shop: Shop, visitor: Visitor) -> None:
    """A product that is added is stored as it was written and found at once; deleted, after a yes, it is gone."""
    known = next(shop.client.products(page_size=1))
    visitor.open(f"{shop.url}/products")
    fill(visitor, "new-1", known.category, "A new one", "color=plaid\nprice = 12.50\n", shop.image(known.id))
    visitor.sees(f"new-1 is stored in {known.category}.")
    stored = shop.client.get("new-1").product
    assert (stored.category, stored.title) == (known.category, "A new one")
    assert dict(stored.attributes) == {"color": "plaid", "price": "12.50"}
    assert shop.client.image("new-1").data == shop.image(known.id).read_bytes()
    visitor.open(f"{shop.url}/?id={known.id}&k=50&collapse=0&is.color=plaid")
    assert [each.id for each in visitor.cards()] == ["new-1"]

    visitor.open(f"{shop.url}/products")
    doom(visitor, "new-1")
    visitor.button("Delete this product").click()
    visitor.button("Keep it").click()
    expect(visitor.page.get_by_role("dialog")).to_have_count(0, timeout=SECONDS)
    assert shop.client.get("new-1").product == stored
    visitor.button("Delete this product").click()
    visitor.button("Delete it").click()
    visitor.sees("new-1 is deleted.")
    with pytest.raises(LookalikeError, match="NOT_FOUND"):
        shop.client.get("new-1")


def test_replacing_wants_a_yes(sample: Shop, visitor: Visitor) -> None:
    """A product of an id that exists replaces it only after a yes; its new image is then shown, not the old one."""
    sample.client.upsert([ProductInput("known", "Men", title="Before", images=[sample.image("S0001")])])
    try:
        visitor.open(f"{sample.url}/?id=known")
        before = visitor.page.locator(".st-key-question img").get_attribute("src")
        visitor.open(f"{sample.url}/products")
        fill(visitor, "known", "Men", "After", "", sample.image("S0100"))
        visitor.sees("Replace this product?")
        visitor.button("Leave it").click()
        expect(visitor.page.get_by_role("dialog")).to_have_count(0, timeout=SECONDS)
        assert sample.client.get("known").product.title == "Before"
        visitor.button("Store").click()
        visitor.button("Replace it").click()
        visitor.sees("known is replaced.")
        assert sample.client.get("known").product.title == "After"
        visitor.open(f"{sample.url}/?id=known")
        visitor.asks_from("After")
        assert visitor.page.locator(".st-key-question img").get_attribute("src") != before
    finally:
        sample.client.delete(["known"])


def test_rejected_product(sample: Shop, visitor: Visitor, tmp_path: Path) -> None:
    """A product with a damaged image, or without an id, gets the server's own words, and nothing is stored."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(sample.image("S0001").read_bytes()[:2000])
    (status,) = sample.client.upsert([ProductInput("broken", "Men", images=[broken])])
    visitor.open(f"{sample.url}/products")
    fill(visitor, "broken", "Men", "", "", broken)
    visitor.sees("The server rejected this:")
    visitor.sees(str(status.violations[0]))
    with pytest.raises(LookalikeError, match="NOT_FOUND"):
        sample.client.get("broken")
    visitor.page.get_by_label("Product id", exact=True).fill("")
    visitor.button("Store").click()
    visitor.sees("products[0].id")


def test_lines_that_are_no_attributes(sample: Shop, visitor: Visitor) -> None:
    """A line that is no name=value is named, and nothing is stored."""
    visitor.open(f"{sample.url}/products")
    fill(visitor, "lines", "Men", "", "color=red\nno attribute\n", sample.image("S0001"))
    visitor.sees("These lines are not:")
    expect(visitor.page.get_by_test_id("stText").filter(has_text="no attribute")).to_be_visible()
    with pytest.raises(LookalikeError, match="NOT_FOUND"):
        sample.client.get("lines")


def test_deleting_what_is_not_there(sample: Shop, visitor: Visitor) -> None:
    """An unknown id is rejected in the server's words, and there is nothing to confirm."""
    visitor.open(f"{sample.url}/products")
    doom(visitor, "nobody")
    visitor.sees("The server rejected this:")
    expect(visitor.button("Delete this product")).to_have_count(0)
