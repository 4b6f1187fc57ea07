"""`import`: put a catalog's products into the server, from images or from features that were made elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike_client.cli.import_run import ImportOptions, finish, print_report, run_import
from lookalike_client.cli.session import CommandFailed, Session, pass_session
from lookalike_client.transfer.catalog_csv import CatalogError, CatalogFile
from lookalike_client.transfer.feature_metadata import CatalogFacts, CategoryOfEachRow, Facts, OneCategory
from lookalike_client.transfer.features import Features
from lookalike_client.transfer.import_batches import ImageRows, Source

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)

_COLUMN = "gender"
_IMAGES_A_REQUEST = 16
_VECTORS_A_STREAM = 256


@click.command("import")
@click.argument("catalog", metavar="[CATALOG.csv]", type=FILE, required=False)
@click.option("--vectors", metavar="FILE.npy", type=FILE, help="Features [n, dim] of the server's model, not images.")
@click.option("--ids", metavar="FILE.npy", type=FILE, help="The product's id of each row of --vectors.")
@click.option("--category", metavar="NAME", help="With --vectors: the category of all products.")
@click.option("--categories", metavar="FILE.npy", type=FILE, help="With --vectors: the category of each row.")
@click.option(
    "--catalog",
    "facts",
    metavar="CATALOG.csv",
    type=FILE,
    help="With --vectors: title, category and attributes of each product, found by its id.",
)
@click.option("--category-column", metavar="NAME", help=f"The column that partitions.  [default: {_COLUMN}]")
@click.option("--skip-existing", is_flag=True, help="Leave out products that the server holds already.")
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    help=f"Products a request.  [default: {_IMAGES_A_REQUEST}; {_VECTORS_A_STREAM} with --vectors]",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Requests at once.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows, or products.")
@pass_session
def import_command(
    session: Session,
    catalog: Path | None,
    vectors: Path | None,
    ids: Path | None,
    category: str | None,
    categories: Path | None,
    facts: Path | None,
    category_column: str | None,
    skip_existing: bool,
    batch: int | None,
    in_flight: int,
    limit: int | None,
) -> None:
    """Put a catalog's products into the server.

    CATALOG.csv has the columns product_id, gender (or --category-column), title and image, a path relative to
    the file; every further column becomes an attribute. Bad rows are listed, and the others are imported.

    With --vectors and --ids instead, features that were made elsewhere with the server's model are imported from
    NumPy arrays. Rows of the same id are images of one product, up to eight. Say with --category, --categories or
    --catalog what the products' categories are.
    """
    _check_usage(catalog, vectors, ids, (category, categories, facts), category_column)
    source: Source
    try:
        if vectors and ids:
            known = _facts(category, categories, facts, category_column or _COLUMN)
            source = Features(vectors, ids, known)
            if isinstance(known, CatalogFacts):
                _note_missing(session, known.without(source.ids()), facts, vectors)
            _check_model(session, source)
        else:
            assert catalog is not None  # noqa: S101 - see _check_usage
            source = ImageRows(CatalogFile(catalog, category_column or _COLUMN))
    except CatalogError as error:
        raise CommandFailed(str(error)) from error
    options = ImportOptions(
        skip_existing=skip_existing,
        batch=batch or (_VECTORS_A_STREAM if vectors else _IMAGES_A_REQUEST),
        in_flight=in_flight,
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
    """The catalog, or the command's failure."""
    try:
        return CatalogFile(path, category_column)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error


def _check_usage(
    catalog: Path | None,
    vectors: Path | None,
    ids: Path | None,
    facts: tuple[str | None, Path | None, Path | None],
    category_column: str | None,
) -> None:
    given = sum(each is not None for each in facts)
    if (vectors is None) != (ids is None):
        raise click.UsageError("--vectors and --ids go together: the rows of one belong to the ids of the other.")
    if vectors is None:
        if given:
            raise click.UsageError("--category, --categories and --catalog go with --vectors and --ids.")
        if catalog is None:
            raise click.UsageError("Give CATALOG.csv, or --vectors and --ids.")
        return
    if catalog is not None:
        raise click.UsageError(f"With --vectors the catalog is an option: --catalog {catalog}.")
    if given != 1 or facts[0] == "":
        raise click.UsageError("With --vectors give exactly one of --category, --categories and --catalog.")
    if category_column is not None and facts[2] is None:
        raise click.UsageError("--category-column is a column of a CSV, and none is given.")


def _facts(category: str | None, categories: Path | None, catalog: Path | None, column: str) -> Facts:
    if category is not None:
        return OneCategory(category)
    if categories is not None:
        return CategoryOfEachRow(categories)
    assert catalog is not None  # noqa: S101 - see _check_usage
    return CatalogFacts(CatalogFile(catalog, column, needs_images=False))


def _note_missing(session: Session, count: int, catalog: Path | None, vectors: Path) -> None:
    if count:
        session.err.print(f"{count:,} products of {catalog} have no row in {vectors} and are left out", soft_wrap=True)


def _check_model(session: Session, features: Features) -> None:
    with session.client() as client:
        model = client.model()
    features.check_dim(model.name, model.dim)
