"""`lookalike import` of a fashion data set of 2,906 products as it is unpacked: its own header, its own folders."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from lookalike_client import Client
from support.catalogs import FASHION_COLOR, FASHION_HEADER, stored
from support.paths import SHARED

Lookalike = Callable[..., Result]

CATALOG = SHARED / "catalog" / "catalog.csv"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CATALOG.exists(), reason="shared/catalog is not beside the checkout"),
]


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Lay the data set out as it is unpacked: images by category and gender, named by their ids, and one CSV."""
    with CATALOG.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path / "fashion.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{FASHION_HEADER}\n")
        writer = csv.writer(file)
        for row in rows:
            product_id = row["product_id"]
            folder = tmp_path / row["category"] / row["gender"] / "Images" / "images_with_product_ids"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CATALOG.parent / row["image"], folder / f"{product_id}.jpg")
            names = ("gender", "category", "sub_category", "product_type", FASHION_COLOR.lower())
            writer.writerow(
                [product_id, *(row[name] for name in names), "Casual", row["title"], f"{product_id}.jpg", "http://x"]
            )
    return path


@pytest.mark.timeout(300)
def test_it_is_imported_without_an_option(lookalike: Lookalike, real: Client, unpacked: Path) -> None:
    """All 2,906 products are stored, in the categories of their genders, with the file's other columns; once only."""
    result = lookalike("import", unpacked)
    assert result.exit_code == 0, result.output[:2000]
    assert result.stdout.startswith("imported 2,906 of 2,906 rows in ")
    counts = {category.name: category.count for category in real.categories()}
    assert counts == {"Men": 811, "Women": 769, "Boys": 759, "Girls": 567}
    product = stored(real)["1636"]
    assert (product.title, product.image_uri) == ("Nike Men Air Zoom Century Shoes", "1636.jpg")
    names = ["Category", "SubCategory", "ProductType", FASHION_COLOR, "Usage", "ImageURL"]
    assert sorted(product.attributes) == sorted(names)

    (unpacked.parent / "Footwear").rename(unpacked.parent / "Shoes")
    again = lookalike("import", unpacked, "--changed-only", "--compare-images")
    assert "added 0, changed 0, unchanged 2,906, failed 0" in again.stdout
