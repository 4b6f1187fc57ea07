"""Writes the sample catalog to disk atomically."""

import csv
import tempfile
from pathlib import Path

from tools.sample_catalog.catalog import products

COLUMNS = (
    "product_id",
    "gender",
    "category",
    "sub_category",
    "product_type",
    "color",
    "pattern",
    "price",
    "title",
    "image",
)


def write_sample(folder: Path, seed: int = 7, *, overwrite: bool = False) -> int:
    """Write `catalog.csv` and `images/*.jpg` (240 x 320 portraits on white) into a folder.

    The folder appears complete or not at all: the catalog is drawn beside it and renamed into place.

    Args:
        folder: Where to write; its parents are created. It must be missing or empty, or hold an earlier sample.
        seed: Another seed gives the same products with other dyes, sizes, cuts and prices.
        overwrite: Replace an earlier sample.

    Returns:
        The number of products.

    Raises:
        FileExistsError: The folder holds a sample and `overwrite` is off, or it holds other files.
    """
    folder = folder.resolve()
    _check_free(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        # not the scratch folder itself, which only this user can read
        draft = Path(scratch) / "draft"
        count = _write(draft, seed)
        replaced = Path(scratch) / "replaced"
        if folder.exists():
            folder.rename(replaced)
        try:
            draft.rename(folder)
        except OSError:
            if replaced.exists():
                replaced.rename(folder)
            raise
    return count


def _check_free(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose a folder")
    held = {entry.name for entry in folder.iterdir()}
    if not held:
        return
    if held != {"catalog.csv", "images"}:
        raise FileExistsError(f"{folder} holds files that are not a sample catalog; choose another folder")
    if not overwrite:
        raise FileExistsError(f"{folder} already holds a sample catalog; pass --overwrite, or choose another folder")


def _write(draft: Path, seed: int) -> int:
    (draft / "images").mkdir(parents=True)
    count = 0
    with (draft / "catalog.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for product in products():
            # no chroma subsampling: with it, red stripes bleed into white ones
            product.draw(seed).save(draft / product.image, "JPEG", quality=90, subsampling=0)
            kind = product.kind
            rows.writerow(
                (
                    product.product_id,
                    product.gender,
                    kind.category,
                    kind.sub_category,
                    product.product_type,
                    product.color,
                    product.pattern,
                    product.price(seed),
                    product.title,
                    product.image,
                )
            )
            count += 1
    return count
