"""`import`: store the products of a catalog, from images or from vectors computed elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike_client.cli.import_run import ImportOptions, finish, print_report, run_import
from lookalike_client.cli.session import CommandFailed, Session, pass_session
from lookalike_client.transfer.catalog_csv import CatalogError, CatalogFile
from lookalike_client.transfer.feature_metadata import CatalogMetadata, CategoryPerRow, Metadata, OneCategory
from lookalike_client.transfer.features import Features
from lookalike_client.transfer.import_batches import ImageRows, Source

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)

_CATEGORY_COLUMN = "gender"
_IMAGES_PER_REQUEST = 16
_VECTORS_PER_STREAM = 256


@click.command("import")
@click.argument("catalog", metavar="[CATALOG.csv]", type=FILE, required=False)
@click.option(
    "--vectors", metavar="FILE.npy", type=FILE, help="Vectors [n, dim] of the server's model, instead of images."
)
@click.option("--ids", metavar="FILE.npy", type=FILE, help="With --vectors: the product's id of each row.")
@click.option("--category", metavar="NAME", help="With --vectors: the category of all products.")
@click.option("--categories", metavar="FILE.npy", type=FILE, help="With --vectors: the category of each row.")
@click.option(
    "--catalog",
    "metadata",
    metavar="CATALOG.csv",
    type=FILE,
    help="With --vectors: title, category and attributes of each product, by its id.",
)
@click.option("--category-column", metavar="NAME", help=f"The column of the category.  [default: {_CATEGORY_COLUMN}]")
@click.option("--skip-existing", is_flag=True, help="Skip products that the server already has.")
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    help=f"Products per request.  [default: {_IMAGES_PER_REQUEST}; {_VECTORS_PER_STREAM} with --vectors]",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Requests at a time.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows, or products.")
@pass_session
def import_command(
    session: Session,
    catalog: Path | None,
    vectors: Path | None,
    ids: Path | None,
    category: str | None,
    categories: Path | None,
    metadata: Path | None,
    category_column: str | None,
    skip_existing: bool,
    batch: int | None,
    concurrency: int,
    limit: int | None,
) -> None:
    """Store the products of a catalog.

    CATALOG.csv has the columns product_id, gender (or --category-column), title and image, a path relative to
    the file; every further column becomes an attribute. Invalid rows are listed, and the others are imported.

    --vectors and --ids import vectors of the server's model that were computed elsewhere, from NumPy arrays. Rows
    with the same id are images of one product, up to eight. --category, --categories or --catalog gives the
    products' categories.
    """
    _check_usage(catalog, vectors, ids, (category, categories, metadata), category_column)
    source: Source
    try:
        if vectors and ids:
            known = _metadata(category, categories, metadata, category_column or _CATEGORY_COLUMN)
            source = Features(vectors, ids, known)
            if isinstance(known, CatalogMetadata):
                _note_missing(session, known.count_missing(source.ids()), metadata, vectors)
            _check_model(session, source)
        else:
            assert catalog is not None  # noqa: S101 - see _check_usage
            source = ImageRows(CatalogFile(catalog, category_column or _CATEGORY_COLUMN))
    except CatalogError as error:
        raise CommandFailed(str(error)) from error
    options = ImportOptions(
        skip_existing=skip_existing,
        batch=batch or (_VECTORS_PER_STREAM if vectors else _IMAGES_PER_REQUEST),
        concurrency=concurrency,
        limit=limit,
        streamed=vectors is not None,
    )
    report = run_import(session, source, options)
    if session.as_json:
        session.print_json(report)
    else:
        print_report(session, report)
    finish(session, report, source.unit)


def open_catalog(path: Path, category_column: str) -> CatalogFile:
    """Open a catalog; a `CatalogError` ends the command."""
    try:
        return CatalogFile(path, category_column)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error


def _check_usage(
    catalog: Path | None,
    vectors: Path | None,
    ids: Path | None,
    metadata: tuple[str | None, Path | None, Path | None],
    category_column: str | None,
) -> None:
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
    if category_column is not None and metadata[2] is None:
        raise click.UsageError("--category-column needs a CSV: CATALOG.csv or --catalog.")


def _metadata(category: str | None, categories: Path | None, catalog: Path | None, column: str) -> Metadata:
    if category is not None:
        return OneCategory(category)
    if categories is not None:
        return CategoryPerRow(categories)
    assert catalog is not None  # noqa: S101 - see _check_usage
    return CatalogMetadata(CatalogFile(catalog, column, needs_images=False))


def _note_missing(session: Session, count: int, catalog: Path | None, vectors: Path) -> None:
    if count:
        session.err.print(f"{count:,} products of {catalog} have no row in {vectors} and are skipped", soft_wrap=True)


def _check_model(session: Session, features: Features) -> None:
    with session.client() as client:
        model = client.model()
    features.check_dim(model.name, model.dim)
