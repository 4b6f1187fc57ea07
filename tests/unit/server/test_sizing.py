"""The formulas of docs/sizing.md: the same constants on the page, and the sizes of real catalogs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.doctor import sizing
from lookalike_server.domain.catalog import EmbeddedProduct, Product, StoredImage
from lookalike_server.store.sqlite import FILE
from support.paths import ROOT
from support.store_fixtures import MODEL, opened

PAGE = ROOT / "docs" / "sizing.md"
PRODUCTS = 400


def constants() -> dict[str, int]:
    """Read the constants from the page."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d,]+)( MiB)? \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(value.replace(",", "")) * (1 << 20 if unit else 1) for name, value, unit in rows}


def test_the_page_has_the_constants() -> None:
    """Each constant of the formulas is on the page with its value, and no other is."""
    ours = {name: value for name, value in vars(sizing).items() if name.isupper()}
    assert constants() == {name: value for name, value in ours.items() if name not in ("MIB", "USUAL_PIXELS")}


def test_the_page_has_the_sizes() -> None:
    """The page's table for a million products is what the formulas give."""
    rows = re.findall(r"^\| ([\d,]+) \| (.+ GB) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 5
    for text, cells in rows:
        dim, products = int(text.replace(",", "")), 1_000_000
        vectors = sizing.row_bytes(products, dim)
        graphs = sizing.graph_bytes(products, dim, 16, cosine=True)
        file = sizing.file_bytes(products, dim, products)
        total = file + graphs + 2 * vectors
        assert cells.split(" | ") == [f"{size / 1e9:.1f} GB" for size in (vectors, graphs, file, total)]


def catalog_bytes(folder: Path, dim: int, image_bytes: int) -> int:
    """Store products with an embedding each, and an image of this size where it is not 0; return the file's size."""
    source = np.random.default_rng(dim)
    with opened(folder, replace(MODEL, dim=dim)) as store:
        waiting = []
        for number in range(PRODUCTS):
            attributes = {"color": f"color {number % 50}", "price": str(number % 1000)}
            product = Product(f"sku-{number:09d}", "Shoes", f"A product called {number}", "", attributes)
            data = source.bytes(image_bytes)
            images = (StoredImage(hashlib.sha256(data).hexdigest(), "image/jpeg", data),) if data else ()
            vector = np.full((1, dim), number, dtype=np.float32)
            waiting.append(store.upsert(EmbeddedProduct(product, vector, images)))
        for each in waiting:
            each.result(timeout=120)
    return (folder / FILE).stat().st_size


@pytest.mark.parametrize(
    ("dim", "image_bytes", "least"),
    [(128, 0, 0.85), (512, 0, 0.95), (1024, 0, 0.95), (1536, 0, 0.95), (2048, 0, 0.95), (512, 3000, 0.95)],
)
def test_a_catalog_is_as_large_as_the_formula_says(tmp_path: Path, dim: int, image_bytes: int, least: float) -> None:
    """A real file has 0.95 to 1.05 of what the formula says, with short vectors from 0.85 on."""
    images = PRODUCTS if image_bytes else 0
    empty = 80 << 10  # a file without products
    found = catalog_bytes(tmp_path, dim, image_bytes) - empty
    assert least <= found / sizing.file_bytes(PRODUCTS, dim, PRODUCTS, images, image_bytes) <= 1.05
    # The control: the tolerance tells other vectors apart.
    assert (
        not least <= found / sizing.file_bytes(PRODUCTS, 2 * dim, PRODUCTS, images, image_bytes) <= 1.05 or dim == 512
    )
