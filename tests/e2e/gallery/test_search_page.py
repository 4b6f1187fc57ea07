"""The page that searches: it shows what the server answers, by id, by browsing and by image."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from e2e.gallery.shop import Shop
from e2e.gallery.visitor import CARD, SECONDS, Card, Visitor
from lookalike_client import AnyOf, Between, Neighbor, ProductInput

PASTE = """async ([name, encoded]) => {
    const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], name, {type: "image/jpeg"}));
    document.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true}));
}"""
DROPPED = """([name, encoded]) => {
    const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
    const dropped = new DataTransfer();
    dropped.items.add(new File([bytes], name, {type: "image/jpeg"}));
    return dropped;
}"""


def first_id(shop: Shop) -> str:
    """A product of the catalog: the first by id."""
    first: str = next(shop.client.products(page_size=1)).id
    return first


def as_cards(neighbors: list[Neighbor]) -> list[Card]:
    """What the page should show of an answer."""
    return [
        Card(each.product.id, each.product.title, f"{each.similarity:.4f}", f"{each.distance:.4f}")
        for each in neighbors
    ]


def test_search_by_id(shop: Shop, visitor: Visitor) -> None:
    """An id shows the neighbors that the server answers, in its order, with titles, scores and images."""
    product = shop.client.get(first_id(shop)).product
    visitor.open(shop.url)
    visitor.page.get_by_text("By id", exact=True).click()
    visitor.settle()
    visitor.write("Product id", product.id)
    visitor.asks_from(product.title)
    expected = shop.client.search(product_id=product.id, k=12, collapse_duplicates=True).neighbors
    assert visitor.cards() == as_cards(expected)
    assert visitor.loaded() == 12
    alternatives = [each.get_attribute("alt") for each in visitor.page.locator(f"{CARD} img").all()]
    assert alternatives == [each.product.title for each in expected]


def test_click_through(shop: Shop, visitor: Visitor, timings: list[tuple[str, float]]) -> None:
    """A click on a neighbor's image makes it the next query; the way back leads to the one before."""
    product = shop.client.get(first_id(shop)).product
    first, second = (each.product for each in shop.client.search(product_id=product.id, k=30).neighbors[::29])
    visitor.open(f"{shop.url}/?id={product.id}&k=30&collapse=0")
    visitor.asks_from(product.title)
    visitor.loaded()
    clicked = time.perf_counter()
    visitor.click_image(29)
    expect(visitor.page.locator(".st-key-question")).to_contain_text(f"{second.id} in ", timeout=SECONDS)
    expect(visitor.page.locator(CARD).first).to_be_visible()
    timings.append((visitor.page.url.partition("?")[2], time.perf_counter() - clicked))
    answer = shop.client.search(product_id=second.id, k=30).neighbors
    assert visitor.cards() == as_cards(answer)
    visitor.page.go_back()
    expect(visitor.page.locator(".st-key-question")).to_contain_text(f"{product.id} in ", timeout=SECONDS)
    assert visitor.cards()[0].id == first.id


def test_keyboard_alone(sample: Shop, visitor: Visitor) -> None:
    """Tab reaches a neighbor's button, which shows that it has the focus, and Enter makes it the next query."""
    visitor.open(f"{sample.url}/?id=S0001")
    visitor.asks_from("Red striped T-shirt")
    wanted = visitor.cards()[3]
    button = visitor.button(f"Look from {wanted.id}")
    visitor.page.get_by_label("Product id", exact=True).focus()
    for _ in range(40):
        visitor.page.keyboard.press("Tab")
        if button.evaluate("one => one === document.activeElement"):
            break
    else:
        raise AssertionError("40 tabs do not reach the fourth neighbor")
    assert button.evaluate("one => getComputedStyle(one, '::after').outlineStyle") == "solid"
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator(".st-key-question")).to_contain_text(f"{wanted.id} in ", timeout=SECONDS)


def test_browse_a_category(shop: Shop, visitor: Visitor) -> None:
    """Thumbnails come in pages of 24 by id, of one category, and one that is clicked becomes the query."""
    category = shop.client.categories()[0]
    products = list(shop.client.products(category.name))
    visitor.open(shop.url)
    visitor.choose("Category to browse", f"{category.name} ({category.count})")
    assert [each.id for each in visitor.cards()] == [each.id for each in products[:24]]
    visitor.page.get_by_test_id("stPagination").get_by_role("button", name="Page 2", exact=True).click()
    expect(visitor.button(f"Look from {products[24].id}")).to_be_visible(timeout=SECONDS)
    assert [each.id for each in visitor.cards()] == [each.id for each in products[24:48]]
    assert visitor.loaded() == 24
    visitor.button(f"Look from {products[30].id}").click()
    visitor.asks_from(products[30].title)


def test_filter_by_attribute(shop: Shop, visitor: Visitor) -> None:
    """A value chosen among an attribute's leaves only products that have it, the nearest ones, and k of them."""
    product_id = first_id(shop)
    product = shop.client.get(product_id).product
    own = next(each for each in shop.client.categories(include_attributes=True) if each.name == product.category)
    colors = next(each for each in own.attributes if each.name == "color").top_values
    color = next(each for each in colors if each.value != product.attributes["color"])
    visitor.open(f"{shop.url}/?id={product_id}")
    visitor.choose("color", f"{color.value} ({color.count})")
    expected = shop.client.search(
        product_id=product_id, k=12, filters=[AnyOf("color", [color.value])], collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)
    assert {each.product.attributes["color"] for each in expected} == {color.value}


def test_numbers_between(sample: Shop, visitor: Visitor) -> None:
    """An attribute of numbers is filtered between two bounds."""
    visitor.open(f"{sample.url}/?id=S0001&k=100")
    visitor.write("price from", "15")
    visitor.write("price to", "18")
    expected = sample.client.search(
        product_id="S0001", k=100, filters=[Between("price", 15, 18)], collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)
    assert all(15 <= float(each.product.attributes["price"]) <= 18 for each in expected)
    assert "min.price=15.0" in visitor.page.url
    assert "max.price=18.0" in visitor.page.url


def test_where_how_many_and_one_of_each(sample: Shop, visitor: Visitor) -> None:
    """Every category can be searched, for as many neighbors as wanted, with one of each value of an attribute."""
    visitor.open(f"{sample.url}/?id=S0001")
    visitor.choose("Search in", "all categories")
    visitor.write("Neighbors", "5")
    visitor.choose("One of each", "color")
    expected = sample.client.search(
        product_id="S0001", k=5, all_categories=True, group_by="color", collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)


def test_duplicates_are_one_card(shop: Shop, visitor: Visitor) -> None:
    """Products with the same image are one card that names the others, until that is switched off."""
    image = shop.image(first_id(shop)).read_bytes()
    category = shop.client.get(first_id(shop)).product.category
    twins = [ProductInput(f"twin-{n}", category, title=f"Twin {n}", images=[image]) for n in range(3)]
    assert all(each.ok for each in shop.client.upsert(twins))
    try:
        visitor.open(f"{shop.url}/?id=twin-0")
        together = visitor.cards()
        expected = shop.client.search(product_id="twin-0", k=12, collapse_duplicates=True).neighbors
        assert together == as_cards(expected)
        others = expected[0].duplicates
        assert {expected[0].product.id, *(each.id for each in others)} >= {"twin-1", "twin-2"}
        visitor.button(f"+{len(others)} with this image").first.click()
        visitor.sees(f"{others[0].id}  {others[0].title}")
        visitor.page.keyboard.press("Escape")
        visitor.page.get_by_text("Collapse duplicates", exact=True).click()
        expect(visitor.button("Look from twin-2")).to_be_visible(timeout=SECONDS)
        apart = visitor.cards()
        assert apart == as_cards(shop.client.search(product_id="twin-0", k=12).neighbors)
        assert {each.similarity for each in apart[:3]} == {"1.0000"}
    finally:
        shop.client.delete([each.id for each in twins])


def test_link_shows_the_same_again(sample: Shop, visitor: Visitor, browser: Browser) -> None:
    """The link of a view shows somebody else the same query, the same choices and the same answer."""
    visitor.open(f"{sample.url}/?id=S0001")
    visitor.choose("Search in", "Women")
    visitor.choose("color", "navy (")
    visitor.choose("color", "red (")
    visitor.write("price to", "40")
    visitor.write("Neighbors", "7")
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
    """Whoever looks at another page and comes back finds the query and its answer again."""
    visitor.open(f"{sample.url}/?id=S0001&k=5")
    cards = visitor.cards()
    visitor.page.get_by_role("link", name="Catalog").click()
    visitor.sees("Products per category")
    visitor.page.get_by_role("link", name="Search").click()
    visitor.asks_from("Red striped T-shirt")
    assert visitor.cards() == cards


@pytest.mark.parametrize(
    "part", ["k=0", "k=100000", "k=x", "collapse=maybe", "from=file:///etc", "min.price=nan", "z=1"]
)
def test_bad_parts_of_a_link(sample: Shop, visitor: Visitor, part: str) -> None:
    """A part of an address that is not valid is named and left out, and the rest of it is shown."""
    visitor.open(f"{sample.url}/?id=S0001&{part}")
    visitor.sees("these parts of it were left out")
    visitor.sees(part.partition("=")[0])
    assert len(visitor.cards()) == 12


def test_unknown_product(sample: Shop, visitor: Visitor) -> None:
    """An id that is none, a path for instance, is rejected in the server's words, and another can be asked at once."""
    visitor.open(f"{sample.url}/?id=../../etc/passwd")
    visitor.sees("The server rejected this:")
    visitor.sees("../../etc/passwd")
    visitor.write("Product id", "S0001")
    visitor.asks_from("Red striped T-shirt")
    expect(visitor.text("The server rejected this:")).to_have_count(0)


def test_search_by_upload(shop: Shop, visitor: Visitor) -> None:
    """An image of a product finds that product first, among all categories; a neighbor is the next query."""
    product = shop.client.get(first_id(shop)).product
    visitor.open(f"{shop.url}/?from=image")
    visitor.upload(shop.image(product.id))
    visitor.asks_from("Your image")
    expected = shop.client.search(
        image=shop.image(product.id), k=12, all_categories=True, collapse_duplicates=True
    ).neighbors
    assert visitor.cards() == as_cards(expected)
    assert visitor.cards()[0].similarity == "1.0000"
    visitor.click_image(1)
    visitor.asks_from(expected[1].product.title)


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_image_pasted_or_dropped(sample: Shop, visitor: Visitor, way: str) -> None:
    """An image that is pasted anywhere on the page, or dropped on the field, is asked like one that is chosen."""
    visitor.open(f"{sample.url}/?from=image")
    expect(visitor.page.get_by_test_id("stFileUploaderDropzoneInput")).to_be_attached(timeout=SECONDS)
    image = ["S0042.jpg", base64.b64encode(sample.image("S0042").read_bytes()).decode()]
    if way == "paste":
        visitor.page.evaluate(PASTE, image)
    else:
        dropped = visitor.page.evaluate_handle(DROPPED, image)
        visitor.page.get_by_test_id("stFileUploaderDropzone").dispatch_event("drop", {"dataTransfer": dropped})
    visitor.asks_from("Your image")
    assert visitor.cards()[0].id == "S0042"


@pytest.mark.parametrize("kind", ["corrupt", "large", "text"])
def test_bad_image(sample: Shop, visitor: Visitor, tmp_path: Path, kind: str) -> None:
    """An image of 20 MB, a damaged one and a file that is none get the server's own words; a good one then works."""
    good = sample.image("S0001").read_bytes()
    file = tmp_path / "image.jpg"
    content = {"corrupt": good[: len(good) // 2], "large": good + bytes(20_000_000), "text": b"no image\n" * 50}
    file.write_bytes(content[kind])
    with pytest.raises(Exception, match="image") as rejected:
        sample.client.search(image=file, all_categories=True)
    visitor.open(f"{sample.url}/?from=image")
    visitor.upload(file)
    visitor.sees("The server rejected this:")
    (violation,) = rejected.value.violations  # type: ignore[attr-defined]
    visitor.sees(str(violation))
    visitor.upload(sample.image("S0001"))
    expect(visitor.page.locator(CARD).first).to_be_visible(timeout=SECONDS)
    assert visitor.cards()[0].id == "S0001"


def test_product_without_a_image(sample: Shop, visitor: Visitor) -> None:
    """A product that came as a vector stands in the answer with its scores and a plain sheet."""
    vector = sample.client.embed(sample.image("S0001")).values
    sample.client.upsert([ProductInput("bare", "Men", title="Bare", vectors=[vector])])
    try:
        visitor.open(f"{sample.url}/?id=S0001&k=3")
        assert visitor.cards()[0] == Card("bare", "Bare", "1.0000", "0.0000")
        assert visitor.loaded() == 3
        expect(visitor.page.get_by_alt_text("Bare (no image)")).to_be_visible()
    finally:
        sample.client.delete(["bare"])
