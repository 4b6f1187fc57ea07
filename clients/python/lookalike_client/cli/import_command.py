"""`import`: store the products of a catalog, from images or from vectors computed elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike_client.cli.catalog_options import catalog_options
from lookalike_client.cli.delete_missing import remove_missing
from lookalike_client.cli.failed_rows import failed_rows_file
from lookalike_client.cli.import_run import ImportOptions, finish, print_report, run_import
from lookalike_client.cli.import_usage import check_comparison, check_usage
from lookalike_client.cli.session import CommandFailed, Session, pass_session
from lookalike_client.transfer.catalog_columns import CatalogOptions
from lookalike_client.transfer.catalog_csv import CatalogFile
from lookalike_client.transfer.catalog_error import CatalogError
from lookalike_client.transfer.feature_metadata import CatalogMetadata, CategoryPerRow, Metadata, OneCategory
from lookalike_client.transfer.features import Features
from lookalike_client.transfer.import_batches import ImageRows, Source

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)

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
@catalog_options
@click.option("--skip-existing", is_flag=True, help="Skip products that the server already has.")
@click.option("--changed-only", is_flag=True, help="Skip rows that are as the server has them.")
@click.option(
    "--compare-images",
    is_flag=True,
    help="With --changed-only: also compare the images, which the server sends for that.",
)
@click.option("--delete-missing", is_flag=True, help="In the end delete products that the file does not have.")
@click.option("--yes", is_flag=True, help="With --delete-missing: delete without asking.")
@click.option(
    "--failed-rows",
    metavar="FILE.csv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all failed rows with their reasons to a file.",
)
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
    reading: CatalogOptions,
    skip_existing: bool,
    changed_only: bool,
    compare_images: bool,
    delete_missing: bool,
    yes: bool,
    failed_rows: Path | None,
    batch: int | None,
    concurrency: int,
    limit: int | None,
) -> None:
    """Store the products of a catalog.

    CATALOG.csv has the columns product_id, gender, title and image, a path relative to the file, or those that
    options name; every further column becomes an attribute. Invalid rows are listed, and the others are imported.
    A row replaces the product of its id.

    --vectors and --ids import vectors of the server's model that were computed elsewhere, from NumPy arrays. Rows
    with the same id are images of one product, up to eight. --category, --categories or --catalog gives the
    products' categories.
    """
    check_usage(catalog, vectors, ids, (category, categories, metadata), reading)
    check_comparison(
        vectors,
        skip_existing=skip_existing,
        changed_only=changed_only,
        compare_images=compare_images,
        delete_missing=delete_missing,
        yes=yes,
        limit=limit,
    )
    source: Source
    try:
        if vectors and ids:
            known = _metadata(category, categories, metadata, reading)
            source = Features(vectors, ids, known)
            if isinstance(known, CatalogMetadata):
                _note_missing(session, known.count_missing(source.ids()), metadata, vectors)
            _check_model(session, source)
        else:
            assert catalog is not None  # noqa: S101 - see check_usage
            source = ImageRows(CatalogFile(catalog, reading), compare_images=compare_images)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error
    options = ImportOptions(
        skip_existing=skip_existing,
        changed_only=changed_only,
        batch=batch or (_VECTORS_PER_STREAM if vectors else _IMAGES_PER_REQUEST),
        concurrency=concurrency,
        limit=limit,
        streamed=vectors is not None,
    )
    with failed_rows_file(failed_rows, {catalog, metadata}) as write:
        report = run_import(session, source, options, write)
    if delete_missing:
        report = remove_missing(session, source, report, yes=yes)
    if session.as_json:
        session.print_json(report)
    else:
        print_report(session, report, source.unit)
    finish(session, report, source.unit)


def open_catalog(path: Path, reading: CatalogOptions) -> CatalogFile:
    """Open a catalog; a `CatalogError` ends the command."""
    try:
        return CatalogFile(path, reading)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error


def _metadata(category: str | None, categories: Path | None, catalog: Path | None, reading: CatalogOptions) -> Metadata:
    if category is not None:
        return OneCategory(category)
    if categories is not None:
        return CategoryPerRow(categories)
    assert catalog is not None  # noqa: S101 - see check_usage
    return CatalogMetadata(CatalogFile(catalog, reading, needs_images=False))


def _note_missing(session: Session, count: int, catalog: Path | None, vectors: Path) -> None:
    if count:
        session.err.print(f"{count:,} products of {catalog} have no row in {vectors} and are skipped", soft_wrap=True)


def _check_model(session: Session, features: Features) -> None:
    with session.client() as client:
        model = client.model()
    features.check_dim(model.name, model.dim)
