"""Products for tests: catalogs on disk, image files, and what a server has stored."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lookalike_client import Client, Product, ProductInput
from support.serving import encoded, noise

COLUMNS = ("product_id", "gender", "title", "image", "color")

FASHION_COLOR = "Colour"  # codespell:ignore - a column of the data set
FASHION_HEADER = (
    f"ProductId, Gender, Category, SubCategory, ProductType, {FASHION_COLOR}, Usage, ProductTitle, Image, ImageURL"
)
"""The first line of the CSV of a fashion data set of 2,906 products."""


def image_file(name: str) -> bytes:
    """Make an image file; another name is another image."""
    return bytes(encoded(noise(zlib.crc32(name.encode()))).encoded)


def write_catalog(
    folder: Path,
    rows: Iterable[Sequence[str]],
    *,
    columns: Sequence[str] = COLUMNS,
    encoding: str = "utf-8",
) -> Path:
    """Write a CSV with these rows."""
    path = folder / "catalog.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def write_products(folder: Path, *ids: str) -> Path:
    """Write a CSV of valid products with an image each."""
    return write_catalog(folder, [good_row(folder, product_id) for product_id in ids])


def good_row(folder: Path, product_id: str) -> tuple[str, ...]:
    """Write a product's image and return its row."""
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / f"{product_id}.jpg").write_bytes(image_file(product_id))
    return (product_id, "Men", f"Product {product_id}", f"images/{product_id}.jpg", "red")


def put(
    client: Client,
    product_id: str,
    category: str = "Men",
    title: str = "",
    attributes: Mapping[str, str] | None = None,
    looks_like: str = "",
) -> None:
    """Store a product; its image is `image_file` of its id, or of another product's."""
    image = image_file(looks_like or product_id)
    product = ProductInput(
        product_id, category, title or f"title {product_id}", attributes=attributes or {}, images=[image]
    )
    (status,) = client.upsert([product])
    assert status.ok, status


def stored(client: Client) -> dict[str, Product]:
    """Return a server's products by id."""
    return {product.id: product for product in client.products()}


def stored_vectors(client: Client) -> dict[str, np.ndarray]:
    """Return the embeddings of a server's products by id, float32 [images, dim] each."""
    return {exported.product.id: exported.vectors for exported in client.export_products()}
