"""The options of `export`, and the request they make. TensorFlow is not needed to validate them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from lookalike_exporter.errors import ExportError
from lookalike_exporter.networks.backbone_names import BACKBONES
from lookalike_exporter.request import CustomNetwork, ExportRequest, KnownNetwork, PcaOptions

# Here as well as in `preprocess.MODES`, so that --help needs no TensorFlow; a test keeps them in step.
PREPROCESSING = ("caffe", "torch", "tf", "rescale", "none")
POOLING = ("avg", "max", "flatten")
PRECISIONS = ("fp32", "fp16", "int8")
COLOR_MANAGEMENT = ("srgb", "none")

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


class _Size(click.ParamType[tuple[int, int]]):
    """HEIGHTxWIDTH, or one number for both, in pixels."""

    name = "HEIGHTxWIDTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if len(sides) not in (1, 2) or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
            self.fail(f"{value!r} is not a size; give HEIGHTxWIDTH in pixels, for instance 160x120", param, ctx)
        return int(sides[0]), int(sides[-1])


_OPTIONS = (
    click.option("--backbone", type=click.Choice(BACKBONES), metavar="NAME",
                 help=f"A known network, without its classifier: {', '.join(BACKBONES)}."),
    click.option("--weights", metavar="imagenet|random|FILE", help="For --backbone: where its weights come from."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="For --weights random; 0 by default."),
    click.option("--model", type=click.Path(path_type=Path), help="Your own Keras model, .keras or .h5."),
    click.option("--layer", metavar="NAME",
                 help="For --model: end at this layer's output instead of the last; MODEL/LAYER in a nested model."),
    click.option("--allow-classifier", is_flag=True, help="For --model: export a classifier with its head on."),
    click.option("--input-size", type=_Size(), help="The network's input size, where it can be changed."),
    click.option("--preprocess", type=click.Choice(PREPROCESSING),
                 help="Of the pixels; required with --model, for a --backbone by default what it was trained with."),
    click.option("--pooling", type=click.Choice(POOLING), default="avg", show_default=True,
                 help="Of a feature map; flatten keeps all of it. A model that ends in vectors is taken as it is."),
    click.option("--metric", type=click.Choice(["cosine", "euclidean"]), default="cosine", show_default=True,
                 help="For cosine, embeddings are normalized to length 1."),
    click.option("--resize", type=click.Choice(["bilinear", "nearest"]), default="bilinear", show_default=True,
                 help="How the server resizes images to the network's input; Keras' load_img uses nearest."),
    click.option("--pca-dim", type=click.IntRange(min=1), metavar="N",
                 help="Project embeddings to N dimensions, the principal components of those of --pca-images."),
    click.option("--pca-images", type=_FOLDER,
                 help="For --pca-dim: a folder of images of the kind that will be searched."),
    click.option("--center", is_flag=True, help="For --pca-dim: subtract the mean first; keeps fewer neighbors."),
    click.option("--whiten", is_flag=True, help="For --pca-dim: give each direction the same variance."),
    click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True,
                 help="Of the graph's arithmetic: fp16 for GPUs, int8 for CPUs."),
    click.option("--calibration-images", type=_FOLDER,
                 help="For int8: a folder of images of the kind that will be searched."),
    click.option("--eval-images", type=_FOLDER,
                 help="Images to evaluate a precision or projection on; else others of the folder it is made with."),
    click.option("--min-recall", type=click.FloatRange(0, 1), metavar="SHARE",
                 help="The least recall@10 of a variant; fp16 0.99, int8 0.88, a projection 0.90."),
    click.option("--allow-quality-drop", is_flag=True, help="Write a variant below its gate nevertheless."),
    click.option("--parity-images", type=_FOLDER,
                 help="Images to compare the fp32 graph with Keras on, 16 or more; by default generated ones."),
    # The last, where the arguments of older folders are completed with it.
    click.option("--color-management", type=click.Choice(COLOR_MANAGEMENT), default="srgb", show_default=True,
                 help="Convert images to sRGB by their color profiles, or ignore these, as Keras' load_img does."),
)  # fmt: skip


def export_options(command: F) -> F:
    """Add the options of an export to a command, without its destination."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_PATHS = ("--model", "--weights", "--pca-images", "--calibration-images", "--eval-images", "--parity-images")
"""The options that name files; `--weights` may also be a word."""


def relocated(arguments: Sequence[str], folder: Path, model_file: Path | None = None) -> tuple[str, ...]:
    """Return the arguments in a model folder's manifest with paths that hold in the current folder.

    A relative path is one from the model folder. One that leads nowhere from there stays as it is: older manifests
    have paths from the folder in which the export ran.

    Args:
        arguments: As in the manifest.
        folder: The model folder.
        model_file: Where the Keras model is now; None for where the manifest says.

    Raises:
        ExportError: The Keras model is not where the manifest says.
    """
    folder, moved = folder.resolve(), list(arguments)
    for at, option in enumerate(arguments[:-1]):
        if option in _PATHS and (folder / arguments[at + 1]).exists():
            moved[at + 1] = str(folder / arguments[at + 1])
        if option == "--model":
            moved[at + 1] = str(model_file or moved[at + 1])
            if not Path(moved[at + 1]).exists():
                raise ExportError(f"{moved[at + 1]}: no such model file, which model.json names; see --model-file")
    return tuple(moved)


def _from_folder(option: str, value: str, folder: Path) -> str:
    """Return a relative path of an option as one from the model folder, which can be read wherever that is moved to."""
    path = Path(value)
    if option not in _PATHS or path.is_absolute() or not path.exists():
        return value
    return os.path.relpath(path.resolve(), folder.resolve())


def arguments_of(context: click.Context) -> tuple[str, ...]:
    """Return the options that were set as arguments again, without the destination, paths from there."""
    arguments: list[str] = []
    for option in context.command.params:
        value = context.params.get(str(option.name))
        if option.name in ("out", "force") or _is_omitted(value) or value == option.get_default(context):
            continue
        arguments.append(option.opts[0])
        if not (isinstance(option, click.Option) and option.is_flag):
            text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
            arguments.append(_from_folder(option.opts[0], text, context.params["out"]))
    return tuple(arguments)


def build_request(context: click.Context) -> ExportRequest:
    """Build the request that the options of an export make.

    Raises:
        click.UsageError: They do not go together, or one would be ignored.
    """
    values = context.params
    return ExportRequest(
        network=_network(values),
        out=values["out"],
        pooling=values["pooling"],
        metric=values["metric"],
        resize=values["resize"],
        color_management=values["color_management"],
        precision=values["precision"],
        pca=_pca(values),
        calibration_images=_calibration_images(values),
        eval_images=values["eval_images"],
        min_recall=values["min_recall"],
        allow_quality_drop=values["allow_quality_drop"],
        parity_images=values["parity_images"],
        force=values["force"],
        arguments=arguments_of(context),
    )


def _network(values: dict[str, Any]) -> KnownNetwork | CustomNetwork:
    model, backbone, weights, preprocess = (values[key] for key in ("model", "backbone", "weights", "preprocess"))
    if model is None and backbone is None:
        raise click.UsageError("give --backbone with --weights, or --model with --preprocess")
    if model is not None:
        if backbone is not None or weights is not None or values["seed"] is not None:
            raise click.UsageError("--model brings its own weights: not with --backbone, --weights or --seed")
        if preprocess is None:
            raise click.UsageError("--model needs --preprocess: only you know what it was trained on")
        return CustomNetwork(model, preprocess, values["input_size"], values["layer"], values["allow_classifier"])
    if weights is None:
        raise click.UsageError("--backbone needs --weights imagenet, random or FILE")
    if values["layer"] is not None:
        raise click.UsageError("--layer is for --model; a known backbone ends at its feature map")
    _reject(values, ("allow_classifier",), "is for --model")
    if values["seed"] is not None and weights != "random":
        raise click.UsageError("--seed is for --weights random")
    return KnownNetwork(backbone, weights, values["seed"] or 0, preprocess, values["input_size"])


def _pca(values: dict[str, Any]) -> PcaOptions | None:
    if values["pca_dim"] is None:
        _reject(values, ("pca_images", "center", "whiten"), "is for --pca-dim N")
        return None
    if values["pca_images"] is None:
        raise click.UsageError("--pca-dim needs --pca-images FOLDER, of the kind that will be searched")
    return PcaOptions(values["pca_dim"], values["pca_images"], values["center"], values["whiten"])


def _calibration_images(values: dict[str, Any]) -> Path | None:
    folder: Path | None = values["calibration_images"]
    if values["precision"] == "int8" and folder is None:
        raise click.UsageError("--precision int8 needs --calibration-images FOLDER, of the kind that will be searched")
    if values["precision"] != "int8":
        _reject(values, ("calibration_images",), "is for --precision int8")
    if values["precision"] == "fp32" and values["pca_dim"] is None:
        evaluating = ("eval_images", "min_recall", "allow_quality_drop")
        _reject(values, evaluating, "is for --precision fp16 or int8, or for --pca-dim")
    return folder


def _reject(values: dict[str, Any], options: Sequence[str], why: str) -> None:
    for option in options:
        if not _is_omitted(values[option]):
            raise click.UsageError(f"--{option.replace('_', '-')} {why}")


def _is_omitted(value: object) -> bool:
    return value is None or value is False  # and not merely falsy: --min-recall 0 is a choice
