"""The Search page shows the server's results: by id, by browsing and by image."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from e2e.gallery.shop import Shop
from e2e.gallery.visitor import CARD, TIMEOUT_MS, Card, Visitor
from lookalike_client import AnyOf, Between, LookalikeError, Neighbor, ProductInput

PASTE = """async ([name, encoded]) => {
    const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], name, {type: "image/jpeg"}));
    document.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true}));
}"""
DATA_TRANSFER = """([name, encoded]) => {
    const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
    return transfer;
}"""


def first_id(shop: Shop) -> str:
    """Return the smallest product id of the catalog."""
    product_id: str = next(shop.client.products(page_size=1)).id
    return product_id


def as_cards(neighbors: list[Neighbor]) -> list[Card]:
    """Return the cards that the page should show for search results."""
    return [
        Card(each.product.id, each.product.title, f"{each.similarity:.4f}", f"{each.distance:.4f}")
        for each in neighbors
    ]


def test_search_by_id(shop: Shop, visitor: Visitor) -> None:
    """An id shows the server's neighbors in their order, with titles, scores and images."""
    product = shop.client.get(first_id(shop)).product
    visitor.open(shop.url)
    visitor.page.get_by_text("By id", exact=True).click()
    visitor.settle()
    visitor.fill("Product id", product.id)
    visitor.sees_query(product.title)
    expected = shop.client.search(product_id=product.id, k=12, collapse_duplicates=True).neighbors
    assert visitor.cards() == as_cards(expected)
    assert visitor.loaded() == 12
    alternatives = [each.get_attribute("alt") for each in visitor.page.locator(f"{CARD} img").all()]
    assert alternatives == [each.product.title for each in expected]


def test_click_through(shop: Shop, visitor: Visitor, record_property: Callable[[str, object], None]) -> None:
    """A click on a neighbor's image makes it the next query; the Back button returns to the previous one."""
    product = shop.client.get(first_id(shop)).product
    first, second = (each.product for each in shop.client.search(product_id=product.id, k=30).neighbors[::29])
    visitor.open(f"{shop.url}/?id={product.id}&k=30&collapse=0")
    visitor.sees_query(product.title)
    visitor.loaded()
    clicked = time.perf_counter()
    visitor.click_image(29)
    expect(visitor.page.locator(".st-key-query")).to_contain_text(f"{second.id} in ", timeout=TIMEOUT_MS)
    expect(visitor.page.locator(CARD).first).to_be_visible()
    record_property(visitor.page.url.partition("?")[2], time.perf_counter() - clicked)
    expected = shop.client.search(product_id=second.id, k=30).neighbors
    assert visitor.cards() == as_cards(expected)
    visitor.page.go_back()
    expect(visitor.page.locator(".st-key-query")).to_contain_text(f"{product.id} in ", timeout=TIMEOUT_MS)
    assert visitor.cards()[0].id == first.id


def test_keyboard_alone(sample: Shop, visitor: Visitor) -> None:
    """Tab reaches a neighbor's button, which shows its focus, and Enter makes it the next query."""
    visitor.open(f"{sample.url}/?id=S0001")
    visitor.sees_query("Red striped T-shirt")
    target = visitor.cards()[3]
    button = visitor.similar(target.id)
    visitor.page.get_by_label("Product id", exact=True).focus()
    for _ in range(40):
        visitor.page.keyboard.press("Tab")
        if button.evaluate("element => element === document.activeElement"):
            break
    else:
        raise AssertionError("40 tabs do not reach the fourth neighbor")
    assert button.evaluate("element => getComputedStyle(element, '::after').outlineStyle") == "solid"
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator(".st-key-query")).to_contain_text(f"{target.id} in ", timeout=TIMEOUT_MS)


def test_browse_a_category(shop: Shop, visitor: Visitor) -> None:
    """A category is shown in pages of 24 thumbnails, ordered by id; a clicked one becomes the query."""
    category = shop.client.categories()[0]
    products = list(shop.client.products(category.name))
    visitor.open(shop.url)
    visitor.choose("Category to browse", f"{category.name} ({category.count})")
    assert [each.id for each in visitor.cards()] == [each.id for each in products[:24]]
    visitor.page.get_by_test_id("stPagination").get_by_role("button", name="Page 2", exact=True).click()
    expect(visitor.similar(products[24].id)).to_be_visible(timeout=TIMEOUT_MS)
    assert [each.id for each in visitor.cards()] == [each.id for each in products[24:48]]
    assert visitor.loaded() == 24
    visitor.similar(products[30].id).click()
    visitor.sees_query(products[30].title)


def test_filter_by_attribute(shop: Shop, visitor: Visitor) -> None:
    """A selected attribute value limits the result to the k nearest products with that value."""
    product_id = first_id(shop)
    product = shop.client.get(product_id).product
    own = next(each for each in shop.client.categories(include_attributes=True) if each.name == product.category)
    colors = next(each for each in own.attributes if each.name == shop.color).top_values
    color = next(each for each in colors if each.value != product.attributes[shop.color])
    visitor.open(f"{shop.url}/?id={product_id}")
    visitor.choose(shop.color, f"{color.value} ({color.count})")
    expected = shop.client.search(
        product_id=product_id, k=12, filters=[AnyOf(shop.color, [color.value])], collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)
    assert {each.product.attributes[shop.color] for each in expected} == {color.value}


def test_filter_by_range(sample: Shop, visitor: Visitor) -> None:
    """A numeric attribute is filtered by a lower and an upper bound."""
    visitor.open(f"{sample.url}/?id=S0001&k=100")
    visitor.fill("price from", "15")
    visitor.fill("price to", "18")
    expected = sample.client.search(
        product_id="S0001", k=100, filters=[Between("price", 15, 18)], collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)
    assert all(15 <= float(each.product.attributes["price"]) <= 18 for each in expected)
    assert "min.price=15.0" in visitor.page.url
    assert "max.price=18.0" in visitor.page.url


def test_scope_k_and_group_by(sample: Shop, visitor: Visitor) -> None:
    """All categories are searched, for k neighbors, grouped by an attribute."""
    visitor.open(f"{sample.url}/?id=S0001")
    visitor.choose("Category to search", "all categories")
    visitor.fill("Neighbors", "5")
    visitor.choose("Group by", "color")
    expected = sample.client.search(
        product_id="S0001", k=5, all_categories=True, group_by="color", collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)


def test_duplicates_are_collapsed(shop: Shop, visitor: Visitor) -> None:
    """Products with the same image are one card that lists the others, unless collapsing is switched off."""
    image = shop.image(first_id(shop)).read_bytes()
    category = shop.client.get(first_id(shop)).product.category
    duplicates = [ProductInput(f"duplicate-{n}", category, title=f"Duplicate {n}", images=[image]) for n in range(3)]
    assert all(each.ok for each in shop.client.upsert(duplicates))
    try:
        visitor.open(f"{shop.url}/?id=duplicate-0")
        collapsed = visitor.cards()
        expected = shop.client.search(product_id="duplicate-0", k=12, collapse_duplicates=True).neighbors
        assert collapsed == as_cards(expected)
        others = expected[0].duplicates
        assert {expected[0].product.id, *(each.id for each in others)} >= {"duplicate-1", "duplicate-2"}
        visitor.button(f"+{len(others)} with this image").first.click()
        visitor.sees(f"{others[0].id}  {others[0].title}")
        visitor.page.keyboard.press("Escape")
        visitor.page.get_by_text("Collapse duplicates", exact=True).click()
        expect(visitor.similar("duplicate-2")).to_be_visible(timeout=TIMEOUT_MS)
        separate = visitor.cards()
        assert separate == as_cards(shop.client.search(product_id="duplicate-0", k=12).neighbors)
        assert {each.similarity for each in separate[:3]} == {"1.0000"}
    finally:
        shop.client.delete([each.id for each in duplicates])


def test_link_shows_the_same_view(sample: Shop, visitor: Visitor, browser: Browser) -> None:
    """The link to a view shows another visitor the same query, choices and result."""
    visitor.open(f"{sample.url}/?id=S0001")
    visitor.choose("Category to search", "Women")
    visitor.choose("color", "navy (")
    visitor.choose("color", "red (")
    visitor.fill("price to", "40")
    visitor.fill("Neighbors", "7")
    cards = visitor.cards()
    assert len(cards) == 7
    visitor.page.get_by_role("button", name="Link to this view").click()
    link = visitor.page.get_by_test_id("stCode").inner_text().strip()
    with browser.new_context() as context:
        other = Visitor(context.new_page())
        other.open(link)
        assert other.cards() == cards
        assert other.page.get_by_label("Neighbors", exact=True).input_value() == "7"
        assert float(other.page.get_by_label("price to", exact=True).input_value()) == 40
        expect(other.page.get_by_test_id("stSidebar")).to_contain_text("navy (")


def test_other_pages_keep_the_view(sample: Shop, visitor: Visitor) -> None:
    """The Search page keeps the query and its result while another page is shown."""
    visitor.open(f"{sample.url}/?id=S0001&k=5")
    cards = visitor.cards()
    visitor.page.get_by_role("link", name="Catalog").click()
    visitor.sees("Products per category")
    visitor.page.get_by_role("link", name="Search").click()
    visitor.sees_query("Red striped T-shirt")
    assert visitor.cards() == cards


@pytest.mark.parametrize(
    "parameter", ["k=0", "k=100000", "k=x", "collapse=maybe", "from=file:///etc", "min.price=nan", "z=1"]
)
def test_invalid_url_parameters(sample: Shop, visitor: Visitor, parameter: str) -> None:
    """An invalid URL parameter is named and ignored; the others apply."""
    visitor.open(f"{sample.url}/?id=S0001&{parameter}")
    visitor.sees("are invalid and were ignored")
    visitor.sees(parameter.partition("=")[0])
    assert len(visitor.cards()) == 12


def test_unknown_product(sample: Shop, visitor: Visitor) -> None:
    """An unknown id, here a path, shows the server's error; the next id works at once."""
    visitor.open(f"{sample.url}/?id=../../etc/passwd")
    visitor.sees("The server rejected this:")
    visitor.sees("../../etc/passwd")
    visitor.fill("Product id", "S0001")
    visitor.sees_query("Red striped T-shirt")
    expect(visitor.text("The server rejected this:")).to_have_count(0)


def test_search_by_upload(shop: Shop, visitor: Visitor) -> None:
    """An uploaded image of a product finds that product first; a click on a neighbor makes it the next query."""
    product = shop.client.get(first_id(shop)).product
    visitor.open(f"{shop.url}/?from=image")
    visitor.upload(shop.image(product.id))
    visitor.sees_query("Your image")
    expected = shop.client.search(
        image=shop.image(product.id), k=12, all_categories=True, collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)
    assert visitor.cards()[0].similarity == "1.0000"
    visitor.click_image(1)
    visitor.sees_query(expected[1].product.title)


@pytest.mark.parametrize("method", ["paste", "drop"])
def test_image_pasted_or_dropped(sample: Shop, visitor: Visitor, method: str) -> None:
    """An image that is pasted anywhere on the page or dropped on the uploader is searched."""
    visitor.open(f"{sample.url}/?from=image")
    expect(visitor.page.get_by_test_id("stFileUploaderDropzoneInput")).to_be_attached(timeout=TIMEOUT_MS)
    image = ["S0042.jpg", base64.b64encode(sample.image("S0042").read_bytes()).decode()]
    if method == "paste":
        visitor.page.evaluate(PASTE, image)
    else:
        transfer = visitor.page.evaluate_handle(DATA_TRANSFER, image)
        visitor.page.get_by_test_id("stFileUploaderDropzone").dispatch_event("drop", {"dataTransfer": transfer})
    visitor.sees_query("Your image")
    assert visitor.cards()[0].id == "S0042"


@pytest.mark.parametrize("kind", ["corrupt", "large", "text"])
def test_bad_image(sample: Shop, visitor: Visitor, tmp_path: Path, kind: str) -> None:
    """A damaged image and a text show the server's error, 20 MB are not uploaded; a valid image then works."""
    good = sample.image("S0001").read_bytes()
    file = tmp_path / "image.jpg"
    content = {"corrupt": good[: len(good) // 2], "large": good + bytes(20_000_000), "text": b"no image\n" * 50}
    file.write_bytes(content[kind])
    visitor.open(f"{sample.url}/?from=image")
    visitor.upload(file)
    if kind == "large":
        visitor.sees("File must be 10.0MB or smaller.")
    else:
        with pytest.raises(LookalikeError) as error:
            sample.client.search(image=file, all_categories=True)
        (violation,) = error.value.violations
        visitor.sees("The server rejected this:")
        visitor.sees(f"Image: {violation.description}")
    visitor.upload(sample.image("S0001"))
    expect(visitor.page.locator(CARD).first).to_be_visible(timeout=TIMEOUT_MS)
    assert visitor.cards()[0].id == "S0001"


def test_product_without_an_image(sample: Shop, visitor: Visitor) -> None:
    """A product that was stored as a vector is shown with its scores and a placeholder."""
    vector = sample.client.embed(sample.image("S0001")).values
    sample.client.upsert([ProductInput("bare", "Men", title="Bare", vectors=[vector])])
    try:
        visitor.open(f"{sample.url}/?id=S0001&k=3")
        assert visitor.cards()[0] == Card("bare", "Bare", "1.0000", "0.0000")
        assert visitor.loaded() == 3
        expect(visitor.page.get_by_alt_text("Bare (no image)")).to_be_visible()
    finally:
        sample.client.delete(["bare"])


def test_find_by_title(shop: Shop, visitor: Visitor) -> None:
    """A part of a title, in any case, shows the products whose title or id contains it, by id; a click searches."""
    titles = [each.title for each in shop.client.products(page_size=1000)]
    word = max(titles[len(titles) // 2].split(), key=len)
    expected = [each for each in shop.client.products() if word.casefold() in each.title.casefold()][:24]
    visitor.open(shop.url)
    visitor.fill("Title or id contains", word.upper())
    assert [(each.id, each.title) for each in visitor.cards()] == [(each.id, each.title) for each in expected]
    visitor.fill("Title or id contains", "no such * title")
    visitor.sees("No title or id contains no such * title.")
    visitor.fill("Title or id contains", expected[0].id)
    visitor.similar(expected[0].id).click()
    expect(visitor.page.locator(".st-key-query")).to_contain_text(f"{expected[0].id} in ", timeout=TIMEOUT_MS)
