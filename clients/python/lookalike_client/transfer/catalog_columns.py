"""Which column of a catalog's CSV is what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike_client.transfer.catalog_error import CatalogError

DEFAULT_CATEGORY = "gender"
"""The column of the category unless another one is named."""

_KNOWN = {
    "id": ("product_id",),
    "category": (DEFAULT_CATEGORY,),
    "title": ("title", "product_title"),
    "image": ("image",),
}
"""The names that are recognized by themselves, best first; `ProductTitle` and `Product Title` are `product_title`."""

_MAX_SHOWN = 50
"""The most columns in a message, and the most characters of each."""


@dataclass(frozen=True)
class CatalogOptions:
    """How to read a catalog's CSV.

    Attributes:
        id_column: The column of the id; None: `product_id`.
        category_column: The column whose value is the product's category; None: `gender`.
        title_column: The column of the title; None: `title` or `product_title`.
        image_column: The column of the image's path; None: `image`.
        columns: The columns that become attributes; None: all that have a name and no other use.
        ignore_columns: Columns that do not become attributes.
        numeric: Attributes that are numbers, to be written as the server's filters read them.
        encoding: The encoding of the file; None: UTF-8, or UTF-16 where it begins so.
        allow_outside: Whether images may be outside the folder of the CSV.
    """

    id_column: str | None = None
    category_column: str | None = None
    title_column: str | None = None
    image_column: str | None = None
    columns: tuple[str, ...] | None = None
    ignore_columns: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    encoding: str | None = None
    allow_outside: bool = False

    def named(self, role: str) -> str | None:
        """Return the column that is named for "id", "category", "title" or "image"."""
        name: str | None = getattr(self, f"{role}_column")
        return name


@dataclass(frozen=True, slots=True)
class CatalogColumns:
    """The places of a header's columns, counted from 0.

    Attributes:
        count: How many there are.
        id: The place of the id.
        category: The place of the category.
        title: The place of the title.
        image: The place of the image's path; None where there is no such column.
        attributes: The names and places of the attributes.
        names: The names of the first four, for messages.
    """

    count: int
    id: int
    category: int
    title: int
    image: int | None
    attributes: tuple[tuple[str, int], ...]
    names: dict[str, str]


def find_columns(path: Path, header: Sequence[str], options: CatalogOptions, *, needs_images: bool) -> CatalogColumns:
    """Find the columns of a header.

    Args:
        path: The CSV, for messages.
        header: The names of the columns, without blanks around them.
        options: How to read it.
        needs_images: Whether it must have a column of images.

    Raises:
        CatalogError: A column is missing, or there more than once.
    """
    places = {name: place for place, name in reversed(list(enumerate(header)))}
    listed = _shown(header) or "none"
    unknown = [name for name in (*(options.columns or ()), *options.ignore_columns) if name not in places]
    if unknown:
        raise CatalogError(f"{path} lacks {_list(unknown)}; its columns are: {listed}")
    names = {role: _choose(role, options.named(role), header) for role in _KNOWN}
    missing = [
        role
        for role, name in names.items()
        if name not in places and (role != "image" or needs_images or options.image_column)
    ]
    if missing:
        options_for_them = " and ".join(f"--{role}-column" for role in missing)
        hint = " (are its cells separated by commas?)" if len(header) < 2 else f"; {options_for_them} can name others"
        raise CatalogError(f"{path} lacks {_list([names[role] for role in missing])}; its columns are: {listed}{hint}")
    own = set(names.values())
    kept = [
        (name, place)
        for place, name in enumerate(header)
        # spreadsheets and data frames write index columns without a name, which are ignored
        if name and name not in own and name not in options.ignore_columns
        if options.columns is None or name in options.columns
    ]
    used = [name for name in header if name in own] + [name for name, _ in kept]
    if repeated := sorted({name for name in used if used.count(name) > 1}):
        raise CatalogError(f"{path} has {_list(repeated)} more than once")
    if unusable := [name for name in options.numeric if name not in dict(kept)]:
        raise CatalogError(f"{path} has no attribute {', '.join(unusable)}, which --numeric names")
    image = places.get(names["image"])
    return CatalogColumns(
        len(header), places[names["id"]], places[names["category"]], places[names["title"]], image, tuple(kept), names
    )


def _choose(role: str, named: str | None, header: Sequence[str]) -> str:
    """Return the column of a role; the first of the known names where the header has none."""
    known = _KNOWN[role]
    if named is not None:
        return named
    for name in known:
        if name in header:
            return name
    for name in known:
        for column in header:
            if _plain(column) == _plain(name):
                return column
    return known[0]


def _plain(name: str) -> str:
    return "".join(each for each in name.casefold() if each.isalnum())


def _list(columns: Sequence[str]) -> str:
    return f"the column{'s' if len(columns) > 1 else ''} {_shown(columns)}"


def _shown(columns: Sequence[str]) -> str:
    """Return names for a message of one line, in which no name can control a terminal."""
    plain = ["".join(each if each.isprintable() else " " for each in name)[:_MAX_SHOWN] for name in columns]
    more = [f"and {len(plain) - _MAX_SHOWN} more"] if len(plain) > _MAX_SHOWN else []
    return ", ".join(plain[:_MAX_SHOWN] + more)
