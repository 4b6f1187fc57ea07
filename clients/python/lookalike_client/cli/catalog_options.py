"""The options of `import` and `quickstart` that say how to read a catalog's CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

import click

from lookalike_client.transfer.catalog_columns import DEFAULT_CATEGORY, CatalogOptions

_NAMES = "NAME,..."


class _NamesType(click.ParamType[tuple[str, ...]]):
    name = _NAMES

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        # as the CSV itself would have them: a name with a comma is in quotes
        names = tuple(name.strip() for name in next(csv.reader([value], skipinitialspace=True), []))
        if not all(names) or not names:
            self.fail(f"{value!r} must be names of columns separated by commas", param, ctx)
        return names


_OPTIONS = (
    click.option("--id-column", metavar="NAME", help="The column of the id.  [default: product_id]"),
    click.option(
        "--category-column", metavar="NAME", help=f"The column of the category.  [default: {DEFAULT_CATEGORY}]"
    ),
    click.option("--title-column", metavar="NAME", help="The column of the title.  [default: title or ProductTitle]"),
    click.option("--image-column", metavar="NAME", help="The column of the image's path.  [default: image]"),
    click.option("--columns", metavar=_NAMES, type=_NamesType(), help="The only columns that become attributes."),
    click.option(
        "--ignore-columns", metavar=_NAMES, type=_NamesType(), default=(), help="Columns that become no attributes."
    ),
    click.option(
        "--numeric",
        metavar=_NAMES,
        type=_NamesType(),
        default=(),
        help="Columns of numbers, stored without currency and grouping; rows with anything else fail.",
    ),
    click.option("--encoding", metavar="NAME", help="The file's encoding, as cp1252.  [default: UTF-8 or UTF-16]"),
    click.option("--allow-outside", is_flag=True, help="Also read images outside the folder of the CSV."),
)


def catalog_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them as `reading`, a `CatalogOptions`."""

    @wraps(command)
    def with_options(*args: Any, **kwargs: Any) -> None:
        names = [each.name for each in fields(CatalogOptions)]
        command(*args, reading=CatalogOptions(**{name: kwargs.pop(name) for name in names}), **kwargs)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options
