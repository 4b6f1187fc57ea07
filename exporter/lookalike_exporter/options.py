"""The options of `export`, and the request they make. TensorFlow is not needed to know that they are good."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from lookalike_exporter.names import BACKBONES
from lookalike_exporter.request import KnownNetwork, OwnNetwork, Projected, Request

# Kept here as well as in `preprocess.MODES`, so that --help needs no TensorFlow; a test holds them together.
PREPROCESSING = ("caffe", "torch", "tf", "rescale", "none")
POOLING = ("avg", "max", "flatten")
PRECISIONS = ("fp32", "fp16", "int8")

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
            self.fail(f"{value!r} is no size; give HEIGHTxWIDTH in pixels, for instance 160x120", param, ctx)
        return int(sides[0]), int(sides[-1])


_OPTIONS = (
    click.option("--backbone", type=click.Choice(BACKBONES), metavar="NAME",
                 help=f"A known network, without its classifier: {', '.join(BACKBONES)}."),
    click.option("--weights", metavar="imagenet|random|FILE", help="For --backbone: where its weights are from."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="For --weights random; 0 by default."),
    click.option("--model", type=click.Path(path_type=Path), help="Your own Keras model, .keras or .h5."),
    click.option("--layer", metavar="NAME", help="For --model: end at this layer's output, not at the last."),
    click.option("--input-size", type=_Size(), help="Of the network's input, where it can have another than its own."),
    click.option("--preprocess", type=click.Choice(PREPROCESSING),
                 help="What pixels undergo; needed for --model, of a --backbone by default what it was trained with."),
    click.option("--pooling", type=click.Choice(POOLING), default="avg", show_default=True,
                 help="Of a feature map; flatten keeps all of it. A model that ends in vectors is taken as it is."),
    click.option("--metric", type=click.Choice(["cosine", "euclidean"]), default="cosine", show_default=True,
                 help="For cosine, embeddings are normalised to length 1."),
    click.option("--resize", type=click.Choice(["bilinear", "nearest"]), default="bilinear", show_default=True,
                 help="How the server resizes photos to the network's input; Keras' load_img takes nearest."),
    click.option("--project", type=click.IntRange(min=1), metavar="N",
                 help="Project embeddings to N numbers, along the principal directions of --fit-on's."),
    click.option("--fit-on", type=_FOLDER, help="For --project: a folder of photos of the kind that is searched."),
    click.option("--center", is_flag=True, help="For --project: subtract the mean first; keeps fewer neighbours."),
    click.option("--whiten", is_flag=True, help="For --project: let each direction count the same."),
    click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True,
                 help="Of the graph's arithmetic: fp16 for GPUs, int8 for CPUs."),
    click.option("--calibrate-on", type=_FOLDER, help="For int8: a folder of photos of the kind that is searched."),
    click.option("--judge-on", type=_FOLDER,
                 help="Photos to judge a precision or projection on; else others of the folder it was made with."),
    click.option("--min-overlap", type=click.FloatRange(0, 1), metavar="SHARE",
                 help="Of the ten nearest that a variant must keep; fp16 0.99, int8 0.88, a projection 0.90."),
    click.option("--accept-worse", is_flag=True, help="Write a variant that keeps less, too."),
    click.option("--parity-images", type=_FOLDER,
                 help="Photos to compare the fp32 graph with Keras on, 16 or more; by default generated pictures."),
)  # fmt: skip


def export_options(command: F) -> F:
    """Gives a command the options of an export but where to."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def arguments_of(context: click.Context) -> tuple[str, ...]:
    """The options that were given, as arguments again, but where to."""
    found: list[str] = []
    for option in context.command.params:
        value = context.params.get(str(option.name))
        if option.name in ("out", "force") or _is_left_out(value) or value == option.get_default(context):
            continue
        found.append(option.opts[0])
        if not (isinstance(option, click.Option) and option.is_flag):
            found.append("x".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return tuple(found)


def request_of(context: click.Context) -> Request:
    """What the options of an export ask for.

    Raises:
        click.UsageError: They do not go together, or one would be ignored.
    """
    given = context.params
    return Request(
        source=_source(given),
        out=given["out"],
        pooling=given["pooling"],
        metric=given["metric"],
        resize=given["resize"],
        precision=given["precision"],
        projection=_projection(given),
        calibrate_on=_calibration(given),
        judge_on=given["judge_on"],
        min_overlap=given["min_overlap"],
        accept_worse=given["accept_worse"],
        parity_images=given["parity_images"],
        force=given["force"],
        arguments=arguments_of(context),
    )


def _source(given: dict[str, Any]) -> KnownNetwork | OwnNetwork:
    model, backbone, weights, preprocess = (given[key] for key in ("model", "backbone", "weights", "preprocess"))
    if model is None and backbone is None:
        raise click.UsageError("give --backbone with --weights, or --model with --preprocess")
    if model is not None:
        if backbone is not None or weights is not None or given["seed"] is not None:
            raise click.UsageError("--model brings its own weights: not with --backbone, --weights or --seed")
        if preprocess is None:
            raise click.UsageError("--model needs --preprocess: only you know what it was trained on")
        return OwnNetwork(model, preprocess, given["input_size"], given["layer"])
    if weights is None:
        raise click.UsageError("--backbone needs --weights imagenet, random or FILE")
    if given["layer"] is not None:
        raise click.UsageError("--layer is for --model; a known backbone ends at its feature map")
    if given["seed"] is not None and weights != "random":
        raise click.UsageError("--seed is for --weights random")
    return KnownNetwork(backbone, weights, given["seed"] or 0, preprocess, given["input_size"])


def _projection(given: dict[str, Any]) -> Projected | None:
    if given["project"] is None:
        _refuse(given, ("fit_on", "center", "whiten"), "is for --project N")
        return None
    if given["fit_on"] is None:
        raise click.UsageError("--project needs --fit-on FOLDER: photos of the kind that will be searched")
    return Projected(given["project"], given["fit_on"], given["center"], given["whiten"])


def _calibration(given: dict[str, Any]) -> Path | None:
    folder: Path | None = given["calibrate_on"]
    if given["precision"] == "int8" and folder is None:
        raise click.UsageError("--precision int8 needs --calibrate-on FOLDER: photos of the kind that will be searched")
    if given["precision"] != "int8":
        _refuse(given, ("calibrate_on",), "is for --precision int8")
    if given["precision"] == "fp32" and given["project"] is None:
        judging = ("judge_on", "min_overlap", "accept_worse")
        _refuse(given, judging, "is for --precision fp16 or int8, or for --project")
    return folder


def _refuse(given: dict[str, Any], options: Sequence[str], why: str) -> None:
    for option in options:
        if not _is_left_out(given[option]):
            raise click.UsageError(f"--{option.replace('_', '-')} {why}")


def _is_left_out(value: object) -> bool:
    return value is None or value is False  # and not merely falsy: --min-overlap 0 is a choice
