"""The commands. TensorFlow is imported only once the options have been validated."""

import logging
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lookalike_exporter import __version__
from lookalike_exporter.cli import renamed
from lookalike_exporter.cli.options import build_request, export_options, relocated
from lookalike_exporter.errors import ExportError
from lookalike_exporter.output.folder import read_folder
from lookalike_exporter.request import CustomNetwork, ExportRequest, KnownNetwork

if TYPE_CHECKING:
    from lookalike_exporter.output.manifest import Manifest

INTERRUPTED = 130


@click.group(cls=renamed.Commands)
@click.version_option(__version__)
def main() -> None:
    """Turn a Keras image network into a model folder for lookalike-server."""


@main.command(cls=renamed.Command)
@export_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to create: models/NAME.")
@click.option("--force", is_flag=True, help="Replace an existing model folder.")
@click.pass_context
def export(context: click.Context, /, **_: Any) -> None:
    """Write models/NAME/model.onnx and model.json.

    Exit status: 0 done, 1 rejected, 2 wrong usage, 69 the weights' host cannot be reached.
    """
    request = build_request(context)
    with _one_line_errors(request.out):
        manifest = _run(request)
    _show(manifest, request.out)


_model_file_option = click.option(
    "--model-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="The Keras file that the folder was exported from, where it is no longer where model.json says.",
)  # fmt: skip


@main.command(cls=renamed.Command)
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to create.")
@click.option("--force", is_flag=True, help="Replace an existing model folder.")
@_model_file_option
def reproduce(model: Path, out: Path, model_file: Path | None, *, force: bool) -> None:
    """Export a model folder again, as its model.json says, and check that the graph is the same.

    Exit status: 0 it is the same, 1 it is another or could not be built.
    """
    with _one_line_errors(out):
        original = read_folder(model)
        manifest = _run(_parse_arguments(relocated(original.arguments, model, model_file), out, force=force))
    _show(manifest, out)
    if manifest.graph.sha256 != original.digest:
        _fail(
            f"{out}: another graph than {model}'s; compare the digests of images and the tools in their model.json", 1
        )
    click.echo(f"the same graph as {model}'s")


@main.command(cls=renamed.Command)
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
              help="A folder of images to compare the results on.")  # fmt: skip
@click.option(
    "--max-images", type=click.IntRange(min=11), default=500, show_default=True, help="How many images to use at most."
)
@click.option("--min-recall", type=click.FloatRange(0, 1), metavar="SHARE",
              help="The least recall@10 against the fp32 graph; by default the precision's gate.")  # fmt: skip
@_model_file_option
def verify(model: Path, images: Path, max_images: int, min_recall: float | None, model_file: Path | None) -> None:
    """Compare a model folder with the Keras network and with its own fp32 graph, both rebuilt as model.json says.

    Exit status: 0 it keeps enough of their results, 1 it does not or cannot be compared.
    """
    with _one_line_errors(model), tempfile.TemporaryDirectory() as scratch:
        folder = read_folder(model)
        arguments = relocated(folder.arguments, model, model_file)
        request = _parse_arguments(arguments, Path(scratch) / "model", force=False)

        from lookalike_exporter.cli.tables import comparison_table
        from lookalike_exporter.verify import verify as compare

        comparisons = compare(folder, request, images, max_images, min_recall, _report)
    for line in comparison_table(comparisons):
        click.echo(line)
    if not all(comparison.passed for comparison in comparisons):
        _fail(f"{model} keeps too little of the results; see the last column", 1)


def _parse_arguments(arguments: tuple[str, ...], out: Path, *, force: bool) -> ExportRequest:
    """Build the request that a manifest's arguments make; a classifier was exported before it had to be allowed."""
    given = [*arguments, "--out", str(out), *(["--force"] if force else [])]
    try:
        request = build_request(export.make_context("export", given))
    except click.UsageError as error:
        raise ExportError(f"the arguments in model.json cannot be used here: {error.format_message()}") from error
    if isinstance(request.network, CustomNetwork):
        return replace(request, network=replace(request.network, allow_classifier=True))
    return request


def _run(request: ExportRequest) -> "Manifest":
    network = request.network
    if isinstance(network, KnownNetwork) and network.weights == "random":
        click.secho(
            "WARNING: random weights. The embeddings are MEANINGLESS: good for load tests, never for search.",
            fg="red", bold=True, err=True,
        )  # fmt: skip
    from lookalike_exporter.pipeline import export as run_pipeline

    return run_pipeline(request, _report)


def _show(manifest: "Manifest", out: Path) -> None:
    from lookalike_exporter.cli.tables import runtime_table

    for line in runtime_table(manifest.runtimes) if manifest.runtimes else ():
        click.echo(line)
    click.echo(f"{out}: {manifest.backbone}, weights {manifest.weights}, dimension {manifest.output.dim}")
    click.echo(f"digest {manifest.graph.sha256}")
    click.echo(
        f"parity over {manifest.parity.images} images: cosine >= {manifest.parity.cosine_min:.8f}, "
        f"difference <= {manifest.parity.max_abs_diff:.1e}"
    )


def _report(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def _one_line_errors(place: Path) -> Iterator[None]:
    """Print an error as one line and exit with its status; silence the libraries' own messages."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # A termination unwinds like Ctrl-C, so that it leaves nothing partial either.
    previous: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except ExportError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{error.filename or place}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was written", INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)
