"""The command line. TensorFlow is imported only once the options are known to be good."""

import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from lookalike_exporter import __version__
from lookalike_exporter.errors import ExportError

if TYPE_CHECKING:
    from lookalike_exporter.export import KnownNetwork, OwnNetwork

# Kept here as well as in `backbone.ARCHITECTURES` and `preprocess.MODES`, so that --help needs no
# TensorFlow; a test holds them together.
BACKBONES = ("resnet50", "squeezenet")
PREPROCESSING = ("caffe", "torch", "tf", "rescale", "none")

INTERRUPTED = 130


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Turn a Keras image network into a model folder for lookalike-server."""


@main.command()
@click.option("--backbone", type=click.Choice(BACKBONES), help="A known network, without its classifier.")
@click.option("--weights", metavar="imagenet|random|FILE", help="For --backbone: where its weights are from.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="For --weights random; 0 by default.")
@click.option("--model", type=click.Path(path_type=Path), help="Your own Keras model, .keras or .h5.")
@click.option("--preprocess", type=click.Choice(PREPROCESSING), help="For --model: what its pixels undergo.")
@click.option("--pooling", type=click.Choice(["avg", "max"]), default="avg", show_default=True,
              help="Over a feature map; a model that ends in vectors is taken as it is.")  # fmt: skip
@click.option("--metric", type=click.Choice(["cosine", "euclidean"]), default="cosine", show_default=True,
              help="For cosine, embeddings are normalised to length 1.")  # fmt: skip
@click.option("--resize", type=click.Choice(["bilinear", "nearest"]), default="bilinear", show_default=True,
              help="How the server resizes photos to the network's input.")  # fmt: skip
@click.option("--precision", type=click.Choice(["fp32"]), default="fp32", show_default=True,
              help="Of the graph's arithmetic.")  # fmt: skip
@click.option("--parity-images", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Photos to check the graph on, 16 or more; by default generated pictures.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new folder: models/NAME.")
@click.option("--force", is_flag=True, help="Replace the model folder that is there.")
def export(
    backbone: str | None,
    weights: str | None,
    seed: int | None,
    model: Path | None,
    preprocess: str | None,
    pooling: str,
    metric: str,
    resize: str,
    precision: str,
    parity_images: Path | None,
    out: Path,
    *,
    force: bool,
) -> None:
    """Write models/NAME/model.onnx and model.json.

    Exit status: 0 done, 1 refused, 2 wrong usage, 69 the weights' host cannot be reached.
    """
    _check_usage(backbone, weights, seed, model, preprocess)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # A termination unwinds like Ctrl-C, so that it leaves nothing half made either.
    signal.signal(signal.SIGTERM, _interrupt)
    if weights == "random":
        click.secho(
            "WARNING: random weights. The embeddings are MEANINGLESS: good for load tests, never for search.",
            fg="red", bold=True, err=True,
        )  # fmt: skip
    try:
        from lookalike_exporter import export as stages

        source: KnownNetwork | OwnNetwork
        if model is not None:
            source = stages.OwnNetwork(model, preprocess or "")
        else:
            source = stages.KnownNetwork(backbone or "", weights or "", seed or 0)
        request = stages.Request(source, out, pooling, metric, resize, precision, parity_images, force)
        manifest = stages.export(request, lambda line: click.echo(line, err=True))
    except ExportError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{error.filename or out}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was written", INTERRUPTED)
    click.echo(f"{out}: {manifest.backbone}, weights {manifest.weights}, dimension {manifest.output.dim}")
    click.echo(f"digest {manifest.graph.sha256}")
    click.echo(
        f"parity over {manifest.parity.images} images: cosine >= {manifest.parity.cosine_min:.8f}, "
        f"difference <= {manifest.parity.max_abs_diff:.1e}"
    )


def _check_usage(
    backbone: str | None, weights: str | None, seed: int | None, model: Path | None, preprocess: str | None
) -> None:
    """Refuses every combination in which an option would be ignored."""
    if model is None and backbone is None:
        raise click.UsageError("give --backbone with --weights, or --model with --preprocess")
    if model is not None:
        if backbone is not None or weights is not None or seed is not None:
            raise click.UsageError("--model brings its own weights: not with --backbone, --weights or --seed")
        if preprocess is None:
            raise click.UsageError("--model needs --preprocess: only you know what it was trained on")
        return
    if weights is None:
        raise click.UsageError("--backbone needs --weights imagenet, random or FILE")
    if preprocess is not None:
        raise click.UsageError("--preprocess is for --model; a known backbone has its own")
    if seed is not None and weights != "random":
        raise click.UsageError("--seed is for --weights random")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main(prog_name="lookalike-exporter")
