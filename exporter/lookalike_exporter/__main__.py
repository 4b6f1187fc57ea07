"""The command line. TensorFlow is imported only once the options are known to be good."""

import logging
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lookalike_exporter import __version__
from lookalike_exporter.errors import ExportError
from lookalike_exporter.options import export_options, request_of
from lookalike_exporter.request import KnownNetwork, Request

if TYPE_CHECKING:
    from lookalike_exporter.export import Exported

INTERRUPTED = 130


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Turn a Keras image network into a model folder for lookalike-server."""


@main.command()
@export_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new folder: models/NAME.")
@click.option("--force", is_flag=True, help="Replace the model folder that is there.")
@click.pass_context
def export(context: click.Context, /, **_: Any) -> None:
    """Write models/NAME/model.onnx and model.json.

    Exit status: 0 done, 1 refused, 2 wrong usage, 69 the weights' host cannot be reached.
    """
    request = request_of(context)
    with _telling(request.out):
        exported = _run(request)
    _show(exported, request.out)


@main.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new folder.")
@click.option("--force", is_flag=True, help="Replace the model folder that is there.")
def repeat(model: Path, out: Path, *, force: bool) -> None:
    """Export a model folder again, as its model.json says, and tell whether the same graph came of it.

    Exit status: 0 it is the same, 1 it is another or could not be made.
    """
    with _telling(out):
        from lookalike_exporter.verify import read_folder

        before = read_folder(model)
        exported = _run(_asked(before.arguments, out, force=force))
    _show(exported, out)
    if exported.manifest.graph.sha256 != before.digest:
        _fail(
            f"{out}: another graph than {model}'s; compare the digests of pictures and the tools in their model.json", 1
        )
    click.echo(f"the same graph as {model}'s")


@main.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
              help="Photos to compare the answers on.")  # fmt: skip
@click.option("--most", type=click.IntRange(min=11), default=500, show_default=True, help="Photos to take at most.")
@click.option("--min-overlap", type=click.FloatRange(0, 1), metavar="SHARE",
              help="Of the fp32 graph's ten nearest that must be kept; by default the precision's gate.")  # fmt: skip
def verify(model: Path, images: Path, most: int, min_overlap: float | None) -> None:
    """Compare a model folder with the Keras network and with its own fp32 graph, both made again as model.json says.

    Exit status: 0 it keeps enough of their answers, 1 it does not or cannot be compared.
    """
    with _telling(model), tempfile.TemporaryDirectory() as nowhere:
        from lookalike_exporter import verify as stages

        folder = stages.read_folder(model)
        request = _asked(folder.arguments, Path(nowhere) / "model", force=False)
        proof = stages.verify(folder, request, images, most, min_overlap, _say)
    for line in proof.lines:
        click.echo(line)
    if not proof.passed:
        _fail(f"{model} keeps too little; see the last column", 1)


def _asked(arguments: tuple[str, ...], out: Path, *, force: bool) -> Request:
    """The request that a manifest's arguments make."""
    given = [*arguments, "--out", str(out), *(["--force"] if force else [])]
    try:
        return request_of(export.make_context("export", given))
    except click.UsageError as error:
        raise ExportError(f"model.json's arguments cannot be followed here: {error.format_message()}") from error


def _run(request: Request) -> "Exported":
    source = request.source
    if isinstance(source, KnownNetwork) and source.weights == "random":
        click.secho(
            "WARNING: random weights. The embeddings are MEANINGLESS: good for load tests, never for search.",
            fg="red", bold=True, err=True,
        )  # fmt: skip
    from lookalike_exporter import export as stages

    return stages.export(request, _say)


def _show(exported: "Exported", out: Path) -> None:
    manifest = exported.manifest
    for line in exported.table:
        click.echo(line)
    click.echo(f"{out}: {manifest.backbone}, weights {manifest.weights}, dimension {manifest.output.dim}")
    click.echo(f"digest {manifest.graph.sha256}")
    click.echo(
        f"parity over {manifest.parity.images} images: cosine >= {manifest.parity.cosine_min:.8f}, "
        f"difference <= {manifest.parity.max_abs_diff:.1e}"
    )


def _say(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def _telling(place: Path) -> Iterator[None]:
    """Put what goes wrong into one line and an exit status; libraries keep quiet meanwhile."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # A termination unwinds like Ctrl-C, so that it leaves nothing half made either.
    before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except ExportError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{error.filename or place}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was written", INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main(prog_name="lookalike-exporter")
