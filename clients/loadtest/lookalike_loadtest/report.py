"""The report as plain values, for JSON; the page and the terminal show nothing that is not in it.

Times are in milliseconds and shares from 0 to 1, unless a name says otherwise. `docs/load-testing.md` describes it.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import grpc

from lookalike_client.channel import is_loopback
from lookalike_loadtest.histogram import Histogram
from lookalike_loadtest.plan import Kind, Phase, code_name
from lookalike_loadtest.runs import Measurement, Ramp, Step, is_late
from lookalike_loadtest.stats import Tally
from lookalike_loadtest.summary import verdict, warnings
from lookalike_loadtest.worker_pool import Lost
from lookalike_loadtest.workload import Supplies, Wish

SCHEMA = 1

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load test.

    Attributes:
        server: HOST:PORT.
        wish: What was to be asked.
        supplies: What was.
        phase: How it was sent; of a ramp, how each rate was tried.
        processes: Client processes.
        started: When.
        measurement: What came of it; None where a ramp has no rate that held.
        ramp: The ramp, if it was one.
        lost: Client processes that died.
        interrupted: Whether the user ended it.
    """

    server: str
    wish: Wish
    supplies: Supplies
    phase: Phase
    processes: int
    started: datetime
    measurement: Measurement | None
    ramp: Ramp | None
    lost: Sequence[Lost]
    interrupted: bool


def report_of(outcome: Outcome) -> Report:
    """Everything that is known of it."""
    report: Report = {
        "schema": SCHEMA,
        "tool": {
            "name": "lookalike load",
            "version": version("lookalike-client"),
            "grpcio": grpc.__version__,
            "python": platform.python_version(),
        },
        "started": outcome.started.isoformat(timespec="seconds"),
        "asked": _asked(outcome),
        "server": _server(outcome),
        "interrupted": outcome.interrupted,
        "lost_processes": [asdict(each) for each in outcome.lost],
        "measurement": _measurement(outcome.measurement) if outcome.measurement else None,
        "ramp": _ramp(outcome.ramp) if outcome.ramp else None,
    }
    return report | {"verdict": verdict(report), "warnings": warnings(report)}


def _asked(outcome: Outcome) -> Report:
    phase, wish = outcome.phase, outcome.wish
    mix = outcome.supplies.mix
    return {
        "loop": "ramp" if outcome.ramp else "open" if phase.is_open else "closed",
        "rate": None if outcome.ramp else phase.rate,
        "arrivals": phase.arrivals if phase.is_open else None,
        "callers": phase.callers,
        "seconds": phase.seconds,
        "warmup_seconds": phase.warmup,
        "deadline_seconds": phase.deadline,
        "max_outstanding": phase.max_outstanding,
        "processes": outcome.processes,
        "seed": phase.seed,
        "mix": {kind.value: share / sum(mix.values()) for kind, share in mix.items()},
        "questions": {kind.value: len(made) for kind, made in outcome.supplies.questions.items()},
        "images": _images(outcome) if any(kind.has_image for kind in mix) else None,
        "vectors": _vectors(wish) if Kind.SEARCH_VECTOR in mix else None,
        "k": wish.k,
        "category": wish.category or None,
        "all_categories": wish.all_categories,
    }


def _images(outcome: Outcome) -> Report:
    return {
        "from": "catalog" if outcome.wish.folder is None else str(outcome.wish.folder),
        "form": "raw" if outcome.wish.raw else "encoded",
        "unique": outcome.wish.unique,
        "mean_bytes": outcome.supplies.image_bytes,
        "left_out": [asdict(each) for each in outcome.supplies.left_out],
    }


def _vectors(wish: Wish) -> str:
    return "between products of the catalog" if wish.vectors is None else str(wish.vectors)


def _server(outcome: Outcome) -> Report:
    return {
        "address": outcome.server,
        "on_this_machine": is_loopback(outcome.server),
        "model": asdict(outcome.supplies.model),
        "categories": len(outcome.supplies.categories),
        "products": sum(each.count for each in outcome.supplies.categories),
    }


def _measurement(measured: Measurement) -> Report:
    tally, seconds = measured.tally, measured.seconds
    return {
        "rate": measured.phase.rate,
        "seconds": seconds,
        "stopped_early": measured.stopped,
        "calls": tally.calls,
        "answered": tally.answered,
        "failed": tally.failed,
        "failed_share": tally.failed_share,
        "warmup_calls": tally.warmup_calls,
        "answers_a_second": tally.answered / seconds if seconds else 0.0,
        "latency": times(tally.latency),
        "service": times(tally.service),
        "failures": times(tally.failures),
        "kinds": {
            kind.value: {"answered": each.latency.count, "failed": each.failed, "latency": times(each.latency)}
            for kind, each in tally.kinds.items()
        },
        "codes": {
            code_name(code): {"calls": count, "first_message": tally.messages.get(code, "")}
            for code, count in tally.codes.most_common()
        },
        "tester": _tester(measured),
        "stats": _receipts(tally),
        "series": [asdict(each) for each in tally.series()],
    }


def _tester(measured: Measurement) -> Report:
    tally = measured.tally
    return {
        "lag": times(tally.lag),
        "was_late": is_late(measured),
        "cpu_shares": [tally.efforts[number].share for number in sorted(tally.efforts)],
        "not_sent": tally.not_sent,
    }


def _receipts(tally: Tally) -> Report | None:
    if not tally.costs:
        return None
    return {
        "read": tally.costs,
        "stages": {name: _stage(each, tally.stages["total"]) for name, each in tally.stages.items()},
        "batch_sizes": {str(size): count for size, count in sorted(tally.batches.items())},
        "cache_hit_share": tally.cache_hits / tally.images if tally.images else None,
        "without_neighbors": tally.without_neighbors,
    }


def _stage(stage: Histogram, total: Histogram) -> Report | None:
    figures = times(stage, encoded=False)
    if figures is None:
        return None
    return figures | {"share": stage.sum_ms / (total.sum_ms or 1)}


def times(histogram: Histogram, *, encoded: bool = True) -> Report | None:
    """A histogram's figures; None where nothing was counted."""
    if not histogram.count:
        return None
    figures: Report = {
        "count": histogram.count,
        "min": histogram.min_ms,
        "mean": histogram.mean_ms,
        "max": histogram.max_ms,
        "percentiles": {
            f"{point.percentile:g}": {"ms": point.ms, "calls_beyond": point.beyond} for point in histogram.points()
        },
    }
    return figures | {"histogram": histogram.encoded()} if encoded else figures


def _ramp(ramp: Ramp) -> Report:
    goal = ramp.goal
    return {
        "goal": {
            "p99": goal.p99_ms,
            "failed_share": goal.failed_share,
            "resolution": goal.resolution,
            "calls_a_step": goal.calls,
            "budget_seconds": goal.budget,
        },
        "held": ramp.held,
        "broke": ramp.broke,
        "found": ramp.found,
        "ended_because": ramp.why,
        "steps": [_step(step) for step in ramp.steps],
    }


def _step(step: Step) -> Report:
    tally = step.measurement.tally
    return {
        "rate": step.rate,
        "held": step.held,
        "why": step.why,
        "seconds": step.measurement.seconds,
        "calls": tally.calls,
        "answered": tally.answered,
        "failed_share": tally.failed_share,
        "p50": tally.latency.at(50),
        "p99": tally.latency.at(99),
        "lag_p99": tally.lag.at(99),
        "was_late": is_late(step.measurement),
        "stopped_early": step.measurement.stopped,
    }
