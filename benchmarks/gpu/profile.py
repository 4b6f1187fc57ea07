"""Where the time of a turn goes in the server: from outside, by its metrics and the processor time of its threads."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import threads
from benchmarks.gpu.served import GpuServer
from benchmarks.load import Outcome
from benchmarks.process_cost import processor_clock

FULL = 0.85
"""The share of what there is from which on something counts as what limits."""

IDEAS = {
    "gpu": "the GPU computes without a pause: fp16, larger batches, `--cuda-prefer-nhwc`, or TensorRT",
    "event_loop": "one thread takes all calls: front-end processes, or several images a call",
    "decode": "decoding takes the cores: more of them, smaller JPEG files, or images that are decoded already",
    "processor": "the cores are busy, also with the load generators: fewer of these, or another machine for them",
    "load_generators": "the load generators are busy, not the server: `--generators` with a larger number",
    "": "nothing is busy, so batches wait: `--max-concurrent-batches 3`, or more calls at once",
}
"""What to try next, by what limits."""

_SAMPLE = re.compile(r"^(lookalike_\w+(?:\{[^}]*\})?) ([0-9.eE+-]+)", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Profile:
    """A turn; each share is of the turn and of all there is.

    Attributes:
        scenario: What ran.
        throughput: Answers a second.
        gpu: Images a second over those of a bare run, which never pauses.
        event_loop: Processor time of the thread with the event loop.
        decode: Time of decoding, of all cores.
        processor: Processor time of the server, of all cores.
        load_generators: Processor time of the load generators, of a core for each.
        copies: The share of copies in a bare run with them; they overlap with another batch's run in the server.
        queue_ms: The mean wait of an image for its batch.
        run_ms: The mean time of a batch from its copy to the device to that from it, its wait for the other included.
        batch_size: Mean images in a batch.
        padding: Images of padding over all that ran.
        loop_lag_ms: By how much a timer of the event loop is late, at the mean.
    """

    scenario: str
    throughput: float
    gpu: float
    event_loop: float
    decode: float
    processor: float
    load_generators: float
    copies: float
    queue_ms: float
    run_ms: float
    batch_size: float
    padding: float
    loop_lag_ms: float

    @property
    def limit(self) -> str:
        """What is busiest, a key of `IDEAS`; empty where nothing is `FULL`."""
        shares = {name: getattr(self, name) for name in IDEAS if name}
        busiest = max(shares, key=lambda name: shares[name])
        return busiest if shares[busiest] >= FULL else ""

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with what limits and the next idea."""
        return asdict(self) | {"limit": self.limit, "idea": IDEAS[self.limit]}


@dataclass(frozen=True, slots=True)
class Bare:
    """A bare run of the same model: images a second without copies, and the seconds of one with them and without."""

    throughput: float
    p50: float
    p50_with_copies: float


def profiled(
    scenario: str, server: GpuServer, turn: Callable[[], Outcome], bare: Bare, generators: int
) -> tuple[Outcome, Profile]:
    """Run a turn of one image a call, and return where its time went."""
    before = _clocks(server)
    outcome = turn()
    after = _clocks(server)
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    return outcome, profile_of(scenario, spent, outcome, bare, cores=threads(), generators=generators)


def profile_of(
    scenario: str, spent: Mapping[str, float], outcome: Outcome, bare: Bare, *, cores: int, generators: int
) -> Profile:
    """Return the profile of a turn, from what metrics and clocks counted in it."""

    def mean(name: str, labels: str = "") -> float:
        return spent.get(f"{name}_sum{labels}", 0.0) / max(1.0, spent.get(f"{name}_count{labels}", 0.0))

    stage, seconds = "lookalike_stage_seconds", outcome.elapsed
    images = spent.get("lookalike_batch_size_sum", 0.0)
    padding = spent.get("lookalike_batch_padding_total", 0.0)
    return Profile(
        scenario=scenario,
        throughput=outcome.throughput,
        gpu=outcome.throughput / bare.throughput,
        event_loop=spent["event_loop"] / seconds,
        decode=spent.get(f'{stage}_sum{{stage="decode"}}', 0.0) / seconds / cores,
        processor=spent["process"] / seconds / cores,
        load_generators=outcome.generator_seconds / seconds / generators,
        copies=max(0.0, 1 - bare.p50 / bare.p50_with_copies),
        queue_ms=1e3 * mean(stage, '{stage="queue"}'),
        run_ms=1e3 * mean(stage, '{stage="inference"}'),
        batch_size=mean("lookalike_batch_size"),
        padding=padding / max(1.0, images + padding),
        loop_lag_ms=1e3 * mean("lookalike_event_loop_lag_seconds"),
    )


def _clocks(server: GpuServer) -> dict[str, float]:
    """Return the server's metrics, and the processor seconds of the process and of its first thread."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=_TIMEOUT) as answer:
        metrics = {name: float(value) for name, value in _SAMPLE.findall(answer.read().decode())}
    pid = server.at.pid
    # The event loop's thread is the first one. The program's name may hold spaces, and ends with the last parenthesis.
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    loop = (int(fields[11]) + int(fields[12])) / _TICKS  # utime and stime of proc(5)
    return metrics | {"event_loop": loop, "process": processor_clock(pid)}
