"""`export`: write products and their embeddings to NumPy arrays or a Parquet file."""

from __future__ import annotations

import asyncio
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import click

from lookalike_client.cli.hints import category_hints
from lookalike_client.cli.interrupt import interruptible
from lookalike_client.cli.progress import ProgressBar, ProgressLines, progress_on
from lookalike_client.cli.session import INTERRUPTED, CommandFailed, Session, pass_session, printable
from lookalike_client.transfer.export_npy import IDS, PRODUCTS, VECTORS, NpyWriter
from lookalike_client.transfer.export_parquet import ParquetWriter
from lookalike_client.transfer.export_writer import ExportError, ExportWriter

_NPY, _PARQUET = "npy", "parquet"


@dataclass
class ExportProgress:
    """How far an export is: products, and their vectors of dimension `dim`."""

    done: int = 0
    vectors: int = 0
    dim: int = 0


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER|FILE",
    required=True,
    help="Where to write: a folder for npy, a file for parquet.",
)
@click.option("--category", metavar="NAME", default="", help="Only this category.")
@click.option(
    "--format",
    "form",
    type=click.Choice([_NPY, _PARQUET]),
    help="NumPy arrays or a Parquet file.  [default: npy; parquet for a FILE.parquet]",
)
@click.option("--force", is_flag=True, help="Overwrite the files if they exist.")
@pass_session
def export(session: Session, out: Path, category: str, form: str | None, force: bool) -> None:
    """Write products and their embeddings to files.

    npy: FOLDER gets vectors.npy (float32 [n, dim]) and ids.npy ([n]) with a row for each image, and products.csv with
    titles, categories and attributes; `lookalike import` can read them. parquet: one FILE with all of it.

    The files appear when the export is complete. Each product is as it was when it was read; for a snapshot of the
    whole catalog, see `lookalike-server backup`.
    """
    start = time.monotonic()
    try:
        writer = _writer(out, form or (_PARQUET if out.suffix.lower() == ".parquet" else _NPY), force=force)
        total = _total(session, category)
        with interruptible(), writer, category_hints(session, category):
            progress = _run(session, category, writer, total)
            if not progress.done:
                raise CommandFailed("the catalog is empty; nothing was written")
            paths = writer.finish()
    except ExportError as error:
        raise CommandFailed(str(error)) from error
    except OSError as error:
        raise CommandFailed(f"{error.filename or out}: {error.strerror}; nothing was written") from error
    except KeyboardInterrupt:
        session.err.print("lookalike: export interrupted; nothing was written")
        click.get_current_context().exit(INTERRUPTED)
    _print_report(session, writer, progress, paths, time.monotonic() - start)


def _writer(out: Path, form: str, *, force: bool) -> NpyWriter | ParquetWriter:
    return ParquetWriter(out, force=force) if form == _PARQUET else NpyWriter(out, force=force)


def _total(session: Session, category: str) -> int:
    with session.client() as client:
        counts = {each.name: each.count for each in client.categories()}
    return counts.get(category, 0) if category else sum(counts.values())


def _run(session: Session, category: str, writer: ExportWriter, total: int) -> ExportProgress:
    progress = ExportProgress()
    with progress_on(session.err, total, "products", "exporting") as observer:
        asyncio.run(_export(session, category, writer, progress, observer))
    return progress


async def _export(
    session: Session,
    category: str,
    writer: ExportWriter,
    progress: ExportProgress,
    observer: ProgressBar | ProgressLines,
) -> None:
    async with session.async_client() as client:
        async for each in client.export_products(category):
            # nothing is read while this writes, so that a slow disk slows the server down, by flow control
            writer.add(each)
            progress.done += 1
            progress.vectors += len(each.vectors)
            progress.dim = each.vectors.shape[1]
            observer.advanced(progress)


def _print_report(
    session: Session, writer: NpyWriter | ParquetWriter, progress: ExportProgress, paths: list[Path], seconds: float
) -> None:
    for note in writer.notes:
        session.err.print(printable(note), soft_wrap=True)
    if session.as_json:
        session.print_json(
            {
                "files": list(map(str, paths)),
                "products": progress.done,
                "vectors": progress.vectors,
                "dim": progress.dim,
                "seconds": seconds,
                "notes": list(writer.notes),
            }
        )
        return
    session.out.print(
        f"exported {progress.done:,} products, {progress.vectors:,} vectors of dimension {progress.dim},"
        f" in {seconds:.1f} s to {', '.join(map(str, paths))}",
        soft_wrap=True,
    )
    if isinstance(writer, NpyWriter):
        session.out.print(f"to import them: {_command(writer, paths[0].parent)}", soft_wrap=True)


def _command(writer: NpyWriter, folder: Path) -> str:
    files = {"--vectors": VECTORS, "--ids": IDS, "--catalog": PRODUCTS}
    words = ["lookalike", "import", *(word for option, name in files.items() for word in (option, str(folder / name)))]
    if writer.category_column != "gender":
        words += ["--category-column", writer.category_column]
    return shlex.join(words)
