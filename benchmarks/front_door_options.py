"""The options of the front door's scenarios on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.bad_messages import KEYS as MESSAGES
from benchmarks.load import ImageForm
from benchmarks.workloads import WORKLOADS, Workload

Command = TypeVar("Command", bound=Callable[..., Any])

LOADS = (2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class FrontDoorOptions:
    """What of the front door is measured.

    Attributes:
        workloads: Names of `WORKLOADS`.
        loads: Loads over the capacity.
        image_form: Raw images of the model's size, or JPEG files.
        pace: Images a second of the device of fixed pace.
        places: "pace" and "speed": over that device, and as fast as the model runs.
        messages: Keys of the bad messages.
        before: The checkout of an older version.
    """

    workloads: Sequence[str] = tuple(WORKLOADS)
    loads: Sequence[float] = LOADS
    image_form: ImageForm = "jpeg"
    pace: float = 30.0
    places: Sequence[str] = ("pace", "speed")
    messages: Sequence[str] = MESSAGES
    before: Path | None = None

    def chosen(self, *, runs_model: bool) -> list[Workload]:
        """Return the workloads; with `runs_model` only those that a slow device slows."""
        chosen = [WORKLOADS[name] for name in self.workloads]
        return [each for each in chosen if each.runs_model] if runs_model else chosen


def chosen_of(known: Sequence[str]) -> Any:
    """Return the callback of an option whose value is some of these names, with commas between."""

    def check(context: click.Context, option: click.Parameter, value: str) -> list[str]:
        del context, option
        names = [name for name in value.split(",") if name]
        for name in names:
            if name not in known:
                raise click.BadParameter(f"{name!r} must be one of {', '.join(known)}")
        return names

    return check


def _loads(context: click.Context, option: click.Parameter, value: str) -> list[float]:
    del context, option
    try:
        loads = [float(each) for each in value.split(",") if each]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} must be numbers with commas between") from error
    if not all(1.0 < each <= 100.0 for each in loads):
        raise click.BadParameter(f"{value!r} must be loads above 1 and up to 100")
    return loads


_OPTIONS = (
    click.option(
        "--workloads",
        default=",".join(WORKLOADS),
        callback=chosen_of(tuple(WORKLOADS)),
        help="What the overload, fairness and rejection scenarios call.",
    ),
    click.option(
        "--loads",
        default=",".join(f"{load:g}" for load in LOADS),
        callback=_loads,
        help="The overload scenario's loads over the capacity.",
    ),
    click.option("--image-form", default="jpeg", type=click.Choice(["jpeg", "raw"]), help="Images of those scenarios."),
    click.option(
        "--places",
        default="pace,speed",
        callback=chosen_of(("pace", "speed")),
        help="Where: over a device of fixed pace, and as fast as the model runs.",
    ),
    click.option("--pace", default=30.0, type=click.FloatRange(1, 1000), help="Images a second of that device."),
    click.option(
        "--messages",
        default=",".join(MESSAGES),
        callback=chosen_of(MESSAGES),
        help="What the message-cost scenario sends.",
    ),
)


def front_door_options(command: Command) -> Command:
    """Add the options, which are the fields of `FrontDoorOptions` but for `before`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
