"""The Products page: nothing is replaced or deleted without confirmation."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from e2e.gallery.shop import Shop
from e2e.gallery.visitor import TIMEOUT_MS, Visitor
from lookalike_client import LookalikeError, ProductInput


def submit_product(visitor: Visitor, product_id: str, category: str, title: str, attributes: str, image: Path) -> None:
    """Fill the product form, and submit it."""
    visitor.upload(image)
    expect(visitor.page.get_by_test_id("stFileChip")).to_be_visible(timeout=TIMEOUT_MS)
    visitor.page.get_by_label("Product id", exact=True).fill(product_id)
    box = visitor.page.get_by_role("combobox", name="Category")
    box.fill(category)
    box.press("Enter")
    visitor.page.get_by_label("Title", exact=True).fill(title)
    visitor.page.get_by_label("Attributes, one per line").fill(attributes)
    visitor.button("Store").click()


def choose_for_deletion(visitor: Visitor, product_id: str) -> None:
    """Enter the id of a product on the Delete tab."""
    visitor.page.get_by_role("tab", name="Delete").click()
    box = visitor.page.get_by_label("Id of the product to delete", exact=True)
    box.fill(product_id)
    box.press("Enter")


def test_add_then_delete(shop: Shop, visitor: Visitor) -> None:
    """A new product is stored as entered and found at once; it is deleted only after confirmation."""
    sample = next(shop.client.products(page_size=1))
    visitor.open(f"{shop.url}/products")
    submit_product(
        visitor, "new-1", sample.category, "A new product", "color=plaid\nprice = 12.50\n", shop.image(sample.id)
    )
    visitor.sees(f"new-1 is stored in {sample.category}.")
    stored = shop.client.get("new-1").product
    assert (stored.category, stored.title) == (sample.category, "A new product")
    assert dict(stored.attributes) == {"color": "plaid", "price": "12.50"}
    assert shop.client.image("new-1").data == shop.image(sample.id).read_bytes()
    visitor.open(f"{shop.url}/?id={sample.id}&k=50&collapse=0&is.color=plaid")
    assert [each.id for each in visitor.cards()] == ["new-1"]

    visitor.open(f"{shop.url}/products")
    choose_for_deletion(visitor, "new-1")
    visitor.button("Delete this product").click()
    visitor.button("Cancel").click()
    expect(visitor.page.get_by_role("dialog")).to_have_count(0, timeout=TIMEOUT_MS)
    assert shop.client.get("new-1").product == stored
    visitor.button("Delete this product").click()
    visitor.button("Delete").click()
    visitor.sees("new-1 is deleted.")
    with pytest.raises(LookalikeError, match="NOT_FOUND"):
        shop.client.get("new-1")


def test_replacing_asks_for_confirmation(sample: Shop, visitor: Visitor) -> None:
    """An existing id is replaced only after confirmation; the page then shows the new image."""
    sample.client.upsert([ProductInput("existing", "Men", title="Before", images=[sample.image("S0001")])])
    try:
        visitor.open(f"{sample.url}/?id=existing")
        before = visitor.page.locator(".st-key-query img").get_attribute("src")
        visitor.open(f"{sample.url}/products")
        submit_product(visitor, "existing", "Men", "After", "", sample.image("S0100"))
        visitor.sees("Replace this product?")
        visitor.button("Cancel").click()
        expect(visitor.page.get_by_role("dialog")).to_have_count(0, timeout=TIMEOUT_MS)
        assert sample.client.get("existing").product.title == "Before"
        visitor.button("Store").click()
        visitor.button("Replace").click()
        visitor.sees("existing is replaced.")
        assert sample.client.get("existing").product.title == "After"
        visitor.open(f"{sample.url}/?id=existing")
        visitor.sees_query("After")
        assert visitor.page.locator(".st-key-query img").get_attribute("src") != before
    finally:
        sample.client.delete(["existing"])


def test_rejected_product(sample: Shop, visitor: Visitor, tmp_path: Path) -> None:
    """A damaged image or a missing id shows the server's error, and nothing is stored."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(sample.image("S0001").read_bytes()[:2000])
    (status,) = sample.client.upsert([ProductInput("broken", "Men", images=[broken])])
    visitor.open(f"{sample.url}/products")
    submit_product(visitor, "broken", "Men", "", "", broken)
    visitor.sees("The server rejected this:")
    visitor.sees(str(status.violations[0]))
    with pytest.raises(LookalikeError, match="NOT_FOUND"):
        sample.client.get("broken")
    visitor.page.get_by_label("Product id", exact=True).fill("")
    visitor.button("Store").click()
    visitor.sees("products[0].id")


def test_invalid_attribute_lines(sample: Shop, visitor: Visitor) -> None:
    """A line other than name=value is shown as invalid, and nothing is stored."""
    visitor.open(f"{sample.url}/products")
    submit_product(visitor, "lines", "Men", "", "color=red\nno attribute\n", sample.image("S0001"))
    visitor.sees("These lines are invalid:")
    expect(visitor.page.get_by_test_id("stText").filter(has_text="no attribute")).to_be_visible()
    with pytest.raises(LookalikeError, match="NOT_FOUND"):
        sample.client.get("lines")


def test_delete_unknown_id(sample: Shop, visitor: Visitor) -> None:
    """An unknown id shows the server's error, and there is nothing to confirm."""
    visitor.open(f"{sample.url}/products")
    choose_for_deletion(visitor, "unknown")
    visitor.sees("The server rejected this:")
    expect(visitor.button("Delete this product")).to_have_count(0)
