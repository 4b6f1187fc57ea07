"""The Catalog and Server pages, and what holds on every page."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from e2e.gallery.shop import TINY, Shop, open_shop
from e2e.gallery.visitor import CARD, TIMEOUT_MS, Visitor
from lookalike_client import ProductInput

PAGES = ("", "?id=S0001", "catalog", "server", "products")
# A title and an id that would render as HTML, Markdown, a link or an icon if they were not escaped.
HOSTILE = (
    "<img src=x onerror='window.owned=1'><script>window.owned=1</script> **b** [l](http://evil.example) :smile: $x$"
)
HOSTILE_ID = "<b>x</b>*y*[z](http://evil.example) :material/home: www.evil.example a@evil.example #"


def test_catalog(shop: Shop, visitor: Visitor) -> None:
    """The Catalog page counts products per category and attribute, and shows the index of each category."""
    categories = shop.client.categories(include_attributes=True)
    visitor.open(f"{shop.url}/catalog")
    visitor.sees(f"{sum(each.count for each in categories):,}")
    for title in ("Products per category", "By sub category", f"By {shop.color}", "By product type"):
        expect(visitor.page.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=TIMEOUT_MS)
    chart = visitor.page.get_by_test_id("stVegaLiteChart").first
    for each in categories:
        bar = chart.locator(f'[aria-label^="products: {each.count}; name: {each.name};"]')
        expect(bar).to_be_attached(timeout=TIMEOUT_MS)
    rows = visitor.page.get_by_test_id("stTable").locator("tbody tr")
    expect(rows).to_have_count(len(categories), timeout=TIMEOUT_MS)
    for row, each in zip(rows.all(), categories, strict=True):
        cells = [cell.strip() for cell in row.locator("th, td").all_inner_texts()]
        assert cells[:3] == [each.name, f"{each.count:,}", each.index_kind]
        assert cells[3] == "1 (exact)" or each.index_kind == "hnsw"


def test_server(sample: Shop, visitor: Visitor) -> None:
    """The Server page shows the model, its batch profiles, and the latencies, batches and stages of searches."""
    model = sample.client.model()
    visitor.open(f"{sample.url}/server")
    for fact in (model.name, model.backbone, model.provider, model.digest[:16], f"{model.dim:,} dimensions"):
        visitor.sees(fact)
    chart = visitor.page.get_by_test_id("stVegaLiteChart").first
    for profile in model.batch_profiles:
        expect(chart).to_contain_text(f"{profile.batch_size} x {profile.concurrency}", timeout=TIMEOUT_MS)
    visitor.page.get_by_role("button", name="Send 20 queries").click()
    visitor.sees("Stages of the last search")
    visitor.settle()
    for name in ("Latency of the last", "Searches by batch size", "Stages of the last search"):
        expect(
            visitor.page.get_by_label(name).or_(visitor.page.locator(f'[aria-label^="{name}"]')).first
        ).to_be_attached(timeout=TIMEOUT_MS)
    visitor.sees("ms in the server · a batch of")
    bars = visitor.page.get_by_test_id("stVegaLiteChart").last.locator("path[aria-roledescription=bar]")
    expect(bars).to_have_count(5, timeout=TIMEOUT_MS)
    assert bars.evaluate_all("bars => Math.max(...bars.map(bar => bar.getBoundingClientRect().height))") > 20


def test_no_warning_of_a_model(tiny: Shop, visitor: Visitor) -> None:
    """A model other than ResNet50 is no reason for a warning."""
    visitor.open(f"{tiny.url}/server")
    visitor.sees(tiny.client.model().backbone)
    expect(visitor.page.get_by_test_id("stAlert").filter(has_text="weights")).to_have_count(0)


def test_warning_of_random_weights(tmp_path: Path, visitor: Visitor) -> None:
    """Every page of a model with random weights says that results are meaningless."""
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    manifest = json.loads((folder / "model.json").read_text())
    manifest |= {"backbone": "resnet50", "weights": "random(seed=0)"}
    (folder / "model.json").write_text(json.dumps(manifest))
    with open_shop(tmp_path / "none", folder, tmp_path / "data") as shop:
        for page in ("", "server"):
            visitor.open(f"{shop.url}/{page}")
            visitor.sees("The model's weights are random")


def test_the_server_is_named(sample: Shop, visitor: Visitor) -> None:
    """Every page shows the product's name and the server's address."""
    for page in PAGES:
        visitor.open(f"{sample.url}/{page}")
        visitor.sees(f"Lookalike \N{MIDDLE DOT} {sample.address}")


def test_one_color_a_category(sample: Shop, visitor: Visitor) -> None:
    """A category has the same color in every chart of the Catalog page, and another one than the others."""
    visitor.open(f"{sample.url}/catalog")
    names = [each.name for each in sample.client.categories()]
    bars = visitor.page.locator('[data-testid="stVegaLiteChart"] path[aria-roledescription=bar]')
    expect(bars.nth(12)).to_be_attached(timeout=TIMEOUT_MS)
    visitor.settle()
    drawn = bars.evaluate_all("bars => bars.map(bar => [bar.getAttribute('aria-label'), bar.getAttribute('fill')])")
    colors: dict[str, set[str]] = {}
    for label, fill in drawn:
        # the legend has no title, so that a bar of the histogram names its part after a blank
        part = re.search(r"; (?:part| ): ([^;]*)", label or "")
        assert part is not None, label
        colors.setdefault(part[1], set()).add(fill)
    assert set(colors) == set(names)
    assert all(len(each) == 1 for each in colors.values()), colors
    assert len(set.union(*colors.values())) == len(names)


def test_no_page_may_be_framed(sample: Shop) -> None:
    """Every response forbids other sites to frame it, and Streamlit's metrics are not public."""
    for path, status in (("/", 200), ("/_stcore/health", 200), ("/_stcore/metrics", 404), ("/_stcore/metrics/", 404)):
        port = int(sample.url.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == status, path
            assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
            assert response.headers["X-Frame-Options"] == "DENY"


def test_empty_catalog(tiny: Shop, visitor: Visitor) -> None:
    """The Search and Catalog pages say that the catalog is empty, and what to do."""
    for page in ("", "catalog"):
        visitor.open(f"{tiny.url}/{page}")
        visitor.sees("The catalog is empty. Add a product")


def test_server_stops_and_restarts(sample: Shop, visitor: Visitor) -> None:
    """Without a server every page says what to do, and continues by itself with the same view after a restart."""
    visitor.open(f"{sample.url}/?id=S0001&k=5")
    cards = visitor.cards()
    sample.stop()
    try:
        visitor.similar(cards[1].id).click()
        visitor.sees("The server does not respond.")
        visitor.sees(sample.address)
        visitor.sees("make run")
        for page in PAGES[2:]:
            other = Visitor(visitor.page.context.new_page())
            other.page.goto(f"{sample.url}/{page}")
            other.sees("The server does not respond.")
            other.page.close()
    finally:
        sample.start()
    expect(visitor.page.locator(".st-key-query")).to_contain_text(f"{cards[1].id} in ", timeout=TIMEOUT_MS)
    expect(visitor.text("The server does not respond.")).to_have_count(0, timeout=TIMEOUT_MS)
    assert len(visitor.cards()) == 5


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 101), ("localhost", 101), ("other.example", 403)])
def test_host_names(sample: Shop, host: str, status: int) -> None:
    """A request for another host name (DNS rebinding) gets no WebSocket."""
    port = int(sample.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode()}
    connection.request("GET", "/_stcore/stream", headers={"Host": f"{host}:{port}"} | handshake | key)
    with contextlib.closing(connection):
        assert connection.getresponse().status == status


def test_catalog_data_is_escaped(sample: Shop, visitor: Visitor) -> None:
    """Titles, ids, categories, attributes and values are shown verbatim: no HTML, Markdown, link or icon."""
    category, attribute = "<i>c</i>*d*", "**a** <u>"
    products = [
        ProductInput(
            f"{HOSTILE_ID}{n}", category, HOSTILE, attributes={attribute: v}, images=[sample.image(f"S000{n}")]
        )
        for n, v in enumerate(["<b>v</b>", "<b>v</b>", "*w*"], start=1)
    ]
    assert all(each.ok for each in sample.client.upsert(products))
    try:
        visitor.open(sample.url)
        visitor.choose("Category to browse", f"{category} (3)")
        assert [each.id for each in visitor.cards()] == [product.id for product in products]
        visitor.page.locator(CARD).first.get_by_role("button").click()
        expect(visitor.page.locator(".st-key-query")).to_contain_text(f"in {category}", timeout=TIMEOUT_MS)
        assert visitor.page.locator(".st-key-query-title").inner_text() == HOSTILE
        assert {(each.id, each.title) for each in visitor.cards()} == {(each.id, HOSTILE) for each in products[1:]}
        visitor.sees(f"{attribute}: <b>v</b>")
        expect(visitor.page.get_by_test_id("stSidebar")).to_contain_text(attribute)
        for page in ("catalog", "products"):
            visitor.page.get_by_role("link", name=page.capitalize()).click()
            visitor.page.wait_for_url(f"**/{page}")
            visitor.settle()
            check_escaped(visitor)
        visitor.page.get_by_role("link", name="Search").click()
        expect(visitor.page.locator(".st-key-query")).to_be_visible(timeout=TIMEOUT_MS)
        check_escaped(visitor)
    finally:
        sample.client.delete([product.id for product in products])


def check_escaped(visitor: Visitor) -> None:
    """Check that no element of the page comes from the hostile texts."""
    page = visitor.page
    assert page.evaluate("window.owned") is None
    main = page.locator('[data-testid="stMain"], [data-testid="stSidebar"]')
    for selector in (
        "img[src='x']",
        "b",
        "u",
        "i",
        "em",
        "a[href*='evil']",
        ".katex",
        "[data-testid='stIconMaterial']:has-text('home')",
    ):
        expect(main.locator(selector)).to_have_count(0)


@pytest.mark.screen(viewport={"width": 375, "height": 812}, device_scale_factor=2, has_touch=True)
@pytest.mark.parametrize("page", PAGES)
def test_phone(sample: Shop, visitor: Visitor, page: str) -> None:
    """On a phone nothing is wider than the screen, and the cards have two columns."""
    visitor.open(f"{sample.url}/{page}")
    width = visitor.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert width <= 375
    links = visitor.page.locator(".st-key-narrow-navigation").get_by_role("link")
    names = ("Search", "Catalog", "Server", "Products")
    expect(links).to_have_text([re.compile(f"{name}$") for name in names], timeout=TIMEOUT_MS)
    for link in links.all():
        expect(link).to_be_in_viewport()
    boxes = [each.bounding_box() for each in visitor.page.locator(CARD).all()[:4]]
    positions = [(round(box["x"]), round(box["y"])) for box in boxes if box]
    if page in PAGES[:2]:
        assert len({x for x, _ in positions}) == len({y for _, y in positions}) == 2


@pytest.mark.screen(viewport={"width": 1280, "height": 900}, color_scheme="dark")
@pytest.mark.parametrize("page", PAGES)
def test_dark(sample: Shop, visitor: Visitor, page: str) -> None:
    """The dark color scheme has light text on a dark background, with a contrast of at least 5:1."""
    visitor.open(f"{sample.url}/{page}")
    background = visitor.page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    text = visitor.page.get_by_test_id("stMain").evaluate("main => getComputedStyle(main).color")
    assert luminance(background) < 0.05
    assert (luminance(text) + 0.05) / (luminance(background) + 0.05) >= 5


def luminance(color: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)`, 0 to 1, as WCAG defines it."""
    parts = [int(each) / 255 for each in color.removeprefix("rgb(").removesuffix(")").split(",")[:3]]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
