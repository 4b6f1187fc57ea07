"""Which options of `import` go together."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import click

from lookalike_client.transfer.catalog_columns import CatalogOptions


def check_comparison(
    vectors: Path | None,
    *,
    skip_existing: bool,
    changed_only: bool,
    compare_images: bool,
    delete_missing: bool,
    yes: bool,
    limit: int | None,
) -> None:
    """Check the options that skip rows and delete products.

    Raises:
        click.UsageError: They contradict each other, or one needs another.
    """
    if changed_only and skip_existing:
        raise click.UsageError("Give one of --changed-only and --skip-existing.")
    if changed_only and vectors is not None:
        raise click.UsageError("--changed-only compares rows of a CSV, and vectors are not compared.")
    if compare_images and not changed_only:
        raise click.UsageError("--compare-images needs --changed-only.")
    if yes and not delete_missing:
        raise click.UsageError("--yes needs --delete-missing.")
    if delete_missing and limit is not None:
        raise click.UsageError("--delete-missing needs the whole file: leave out --limit.")


def check_usage(
    catalog: Path | None,
    vectors: Path | None,
    ids: Path | None,
    metadata: tuple[str | None, Path | None, Path | None],
    reading: CatalogOptions,
) -> None:
    """Check the options that name files.

    Raises:
        click.UsageError: One is missing, or they contradict each other.
    """
    given = sum(each is not None for each in metadata)
    if (vectors is None) != (ids is None):
        raise click.UsageError("--vectors and --ids need each other.")
    if vectors is None:
        if given:
            raise click.UsageError("--category, --categories and --catalog need --vectors and --ids.")
        if catalog is None:
            raise click.UsageError("Give CATALOG.csv, or --vectors and --ids.")
        return
    if catalog is not None:
        raise click.UsageError(f"With --vectors the catalog is an option: --catalog {catalog}.")
    if given != 1 or metadata[0] == "":
        raise click.UsageError("With --vectors give exactly one of --category, --categories and --catalog.")
    if metadata[2] is None:
        for each in fields(reading):
            if getattr(reading, each.name) != each.default:
                option = each.name.replace("_", "-")
                raise click.UsageError(f"--{option} needs a CSV: CATALOG.csv or --catalog.")
