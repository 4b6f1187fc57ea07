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
    visitor.page.get_by_label("Product id *", exact=True).fill(product_id)
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
    """A damaged image shows the server's reason, by the name of the field, in the red box; nothing is stored."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(sample.image("S0001").read_bytes()[:2000])
    (status,) = sample.client.upsert([ProductInput("broken", "Men", images=[broken])])
    visitor.open(f"{sample.url}/products")
    submit_product(visitor, "broken", "Men", "", "", broken)
    box = visitor.page.get_by_test_id("stAlert")
    expect(box).to_contain_text("The server rejected this:", timeout=TIMEOUT_MS)
    expect(box).to_contain_text(f"Image 1: {status.violations[0].description}")
    with pytest.raises(LookalikeError, match="NOT_FOUND"):
        sample.client.get("broken")


def test_all_that_is_wrong_is_named_at_once(sample: Shop, visitor: Visitor) -> None:
    """What is missing and each invalid line are in one red box, by the fields' names; nothing is stored."""
    visitor.open(f"{sample.url}/products")
    visitor.sees("* required")
    visitor.page.get_by_label("Attributes, one per line").fill("color=red\nno <b>attribute</b>\ncolor=blue\n")
    visitor.button("Store").click()
    box = visitor.page.get_by_test_id("stAlert")
    expect(box).to_contain_text("Nothing was stored:", timeout=TIMEOUT_MS)
    expect(box.get_by_role("listitem")).to_have_text(
        [
            "Images: is missing",
            "Product id: is missing",
            "Category: is missing",
            "Attributes: 'no <b>attribute</b>' must be name=value with a name of its own",
            "Attributes: 'color=blue' must be name=value with a name of its own",
        ]
    )


def test_uploads_are_bounded(sample: Shop, visitor: Visitor, tmp_path: Path) -> None:
    """More than 8 files are dropped with the reason, and a file above the server's limit is not uploaded."""
    files = [sample.image(f"S{number:04}") for number in range(1, 10)]
    visitor.open(f"{sample.url}/products")
    visitor.sees("10MB per file")
    uploader = visitor.page.get_by_test_id("stFileUploaderDropzoneInput").first
    uploader.set_input_files(files)
    expect(visitor.page.get_by_test_id("stAlert")).to_contain_text(
        "Images: 9 files; a product has at most 8", timeout=TIMEOUT_MS
    )
    expect(visitor.page.get_by_test_id("stFileChip")).to_have_count(0)
    visitor.settle()
    visitor.page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(files[:8])
    expect(visitor.page.get_by_test_id("stAlert")).to_have_count(0, timeout=TIMEOUT_MS)
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(10 * 1024 * 1024 + 1))
    visitor.open(f"{sample.url}/products")
    visitor.upload(large)
    visitor.sees("File must be 10.0MB or smaller")


def test_delete_unknown_id(sample: Shop, visitor: Visitor) -> None:
    """An unknown id shows the server's error, and there is nothing to confirm."""
    visitor.open(f"{sample.url}/products")
    choose_for_deletion(visitor, "unknown")
    visitor.sees("The server rejected this:")
    expect(visitor.button("Delete this product")).to_have_count(0)
