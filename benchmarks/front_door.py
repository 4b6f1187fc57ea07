"""The order of the front door's scenarios: which servers are up, with which model, and who calls."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.bad_messages import bad_messages
from benchmarks.catalog.our_server import settings_in_force
from benchmarks.environment import ROOT, read_model, threads
from benchmarks.front_door_options import FrontDoorOptions
from benchmarks.null_model import write_null_model
from benchmarks.processes import StartError
from benchmarks.scenarios import encryption, fairness, message_cost, overload, pressure, rejection, throughput
from benchmarks.scenarios.bench import Bench
from benchmarks.scenarios.overload import Place
from benchmarks.servers.ours import ours
from benchmarks.servers.small_servers import echo
from benchmarks.servers.timed_device import timed_device
from benchmarks.workloads import fill

FRONT_DOOR = ("fairness", "rejection", "front-door", "message-cost", "tls")
"""Scenarios of this module alone; `overload` is one of `suite` that this module adds to."""

KEPT = 0.98
"""What must remain of an older version's speed."""

_DEVICE_DIM = 64
_LONG_TURN_S = 6.0  # at a device's pace: 30 calls a second need longer turns than a thousand
_ONE_AT_A_TIME = ("--max-batch-size", "1", "--max-concurrent-batches", "1", "--preferred-batch-size", "1")
_A_BATCH_A_CORE = ("--max-concurrent-batches", str(threads()), "--preferred-batch-size", "4")
"""So that two versions run the model in the same way, whatever else the machine did as they started."""


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """The scenarios.

    Attributes:
        bench: The means of measuring, of the real model.
        flags: Further flags of our server.
        options: What is measured.
        add: Takes results.
        skip: Takes what was not measured, and why.
    """

    bench: Bench
    flags: Sequence[str]
    options: FrontDoorOptions
    add: Callable[..., None]
    skip: Callable[[str, str], None]

    def measure(self, names: Sequence[str]) -> None:
        """Run every scenario that is named, one after another."""
        if "overload" in names:
            self._overload()
        if "fairness" in names:
            self._fairness()
        if "rejection" in names:
            self._rejection()
        if "front-door" in names:
            self._over_before()
        if "message-cost" in names:
            self._message_cost()
        if "tls" in names:
            self.add(*encryption.over_plain(self.bench, self.flags))

    def _overload(self) -> None:
        options = self.options
        for bench, place in self._places(()):
            for workload in options.chosen(runs_model=place.echo is None):
                self.add(*overload.goodput(bench, place, workload, options.image_form, options.loads))

    def _fairness(self) -> None:
        with _keys() as (flags, keys):
            tokens = fairness.Tokens(quiet=keys["quiet"], greedy=keys["greedy"])
            for bench, place in self._places(flags, keys["catalog"]):
                for workload in self.options.chosen(runs_model=place.echo is None):
                    self.add(*fairness.beside_a_greedy_caller(bench, place, workload, self.options.image_form, tokens))

    def _rejection(self) -> None:
        with ExitStack() as stack:
            bench = self._small_bench(stack)
            bounce = stack.enter_context(echo().start())
            device = timed_device(bench.model, 0, 1e6 * rejection.HELD_S, (*_ONE_AT_A_TIME, *self.flags))
            target, _ = stack.enter_context(device)
            fill(target, bench.model)
            for workload in self.options.chosen(runs_model=True):
                for form in ("raw", "jpeg"):
                    self.add(*rejection.over_echo(bench, target, bounce, workload, form))

    def _over_before(self) -> None:
        if self.options.before is None:
            self.skip("front-door", "--before names no checkout")
            return
        with ExitStack() as stack:
            for name, bench, flags in (
                ("throughput", self.bench, _A_BATCH_A_CORE),
                ("null model, RPC/s", self._small_bench(stack, 4), ()),
            ):
                current = ours(bench.model, (*self.flags, *flags))
                older = ours(bench.model, flags, checkout=self.options.before, variant="before")
                try:
                    self.add(*throughput.over_version(bench, current, older, name, KEPT))
                except StartError as error:
                    self.skip(f"front-door, {name}", str(error))

    def _message_cost(self) -> None:
        with ExitStack() as stack:
            bench = self._small_bench(stack)
            key_flags, keys = stack.enter_context(_keys())
            flags = (*_ONE_AT_A_TIME, *self.flags, *key_flags)
            settings = settings_in_force(bench.model.folder, self.flags)
            pixels = min(int(value) for name, value in settings.items() if name.endswith("_pixels"))
            for message in (each for each in bad_messages(pixels) if each.key in self.options.messages):
                for authenticated in (False, True):
                    server = ours(bench.model, flags)
                    self.add(*message_cost.cost(bench, server, message, keys["catalog"], authenticated=authenticated))

    def _places(self, flags: Sequence[str], writer: str | None = None) -> Iterator[tuple[Bench, Place]]:
        """Yield the servers with the catalog stored, each for as long as the next one is not asked for."""
        bench, options = self.bench, self.options
        if "pace" in options.places and options.chosen(runs_model=True):
            with ExitStack() as stack:
                small = self._small_bench(stack)
                device = timed_device(small.model, 0, 1e6 / options.pace, (*self.flags, *flags))
                target, _ = stack.enter_context(device)
                yield (
                    small,
                    _filled(
                        small,
                        Place(
                            f"{options.pace:g} images/s", target, None, options.pace, max(_LONG_TURN_S, bench.seconds)
                        ),
                        writer,
                    ),
                )
        if "speed" in options.places:
            with echo().start() as bounce, ours(bench.model, (*self.flags, *flags)).start() as target:
                turn = max(bench.seconds, 4 * pressure.DEADLINE)
                yield bench, _filled(bench, Place("full speed", target, bounce, None, turn), writer)

    def _small_bench(self, stack: ExitStack, dim: int = _DEVICE_DIM) -> Bench:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lookalike-small-")))
        write_null_model(folder, dim)
        return replace(self.bench, model=read_model(folder), limit=None)


@contextmanager
def _keys() -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
    """Yield the flags of a server with writers' keys, and the keys by their names."""
    with tempfile.TemporaryDirectory(prefix="lookalike-keys-") as folder:
        flags = ("--auth-keys-file", str(Path(folder) / "keys.json"))
        add = [str(ROOT / ".venv" / "bin" / "lookalike-server"), "keys", "add", "--role", "writer", *flags]
        names = ("catalog", "quiet", "greedy")
        run = partial(subprocess.run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        yield flags, {name: run([*add, name]).stdout.strip() for name in names}


def _filled(bench: Bench, place: Place, writer: str | None) -> Place:
    fill(place.target, bench.model, writer)
    return place
