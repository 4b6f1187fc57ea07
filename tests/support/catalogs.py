"""Catalogs on disk for tests."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from support.fake_state import image_file

COLUMNS = ("product_id", "gender", "title", "image", "color")


def write_catalog(
    folder: Path,
    rows: Iterable[Sequence[str]],
    *,
    columns: Sequence[str] = COLUMNS,
    encoding: str = "utf-8",
) -> Path:
    """A CSV with these rows."""
    path = folder / "catalog.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def write_products(folder: Path, *ids: str) -> Path:
    """A CSV of good products with an image each."""
    return write_catalog(folder, [good_row(folder, product_id) for product_id in ids])


def good_row(folder: Path, product_id: str) -> tuple[str, ...]:
    """A row whose image is there."""
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / f"{product_id}.jpg").write_bytes(image_file(product_id))
    return (product_id, "Men", f"Product {product_id}", f"images/{product_id}.jpg", "red")
