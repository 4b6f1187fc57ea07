"""The report as plain values, for JSON; the HTML report and the terminal show nothing that is not in it.

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
from lookalike_loadtest.runs import Capacity, CapacityStep, Measurement, is_late
from lookalike_loadtest.stats import Stats
from lookalike_loadtest.summary import summarize, warnings
from lookalike_loadtest.worker_pool import LostWorker
from lookalike_loadtest.workload import Workload, WorkloadOptions

SCHEMA = 1

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a load test.

    Attributes:
        server: HOST:PORT.
        options: What was to be sent.
        workload: What was sent.
        phase: How it was sent; in a capacity search, how each rate was tried.
        processes: Number of worker processes.
        started: When it started.
        measurement: What was measured; None where a capacity search has no rate that met the goal.
        capacity: The outcome of the capacity search, if it was one.
        lost: Worker processes that died.
        interrupted: Whether the user ended it.
    """

    server: str
    options: WorkloadOptions
    workload: Workload
    phase: Phase
    processes: int
    started: datetime
    measurement: Measurement | None
    capacity: Capacity | None
    lost: Sequence[LostWorker]
    interrupted: bool


def make_report(outcome: Outcome) -> Report:
    """Return everything that is known of a load test."""
    report: Report = {
        "schema": SCHEMA,
        "tool": {
            "name": "lookalike load",
            "version": version("lookalike-loadtest"),
            "grpcio": grpc.__version__,
            "python": platform.python_version(),
        },
        "started": outcome.started.isoformat(timespec="seconds"),
        "settings": _settings(outcome),
        "server": _server(outcome),
        "interrupted": outcome.interrupted,
        "lost_processes": [asdict(each) for each in outcome.lost],
        "measurement": _measurement(outcome.measurement) if outcome.measurement else None,
        "capacity": _capacity(outcome.capacity) if outcome.capacity else None,
    }
    return report | {"summary": summarize(report), "warnings": warnings(report)}


def _settings(outcome: Outcome) -> Report:
    phase, options, shares = outcome.phase, outcome.options, outcome.workload.shares
    return {
        "loop": "capacity" if outcome.capacity else "open" if phase.is_open else "closed",
        "rate": None if outcome.capacity else phase.rate,
        "arrivals": phase.arrivals if phase.is_open else None,
        "concurrency": phase.concurrency,
        "seconds": phase.seconds,
        "warmup_seconds": phase.warmup,
        "deadline_seconds": phase.deadline,
        "max_outstanding": phase.max_outstanding,
        "processes": outcome.processes,
        "seed": phase.seed,
        "workload": {kind.value: share / sum(shares.values()) for kind, share in shares.items()},
        "requests": {kind.value: len(templates) for kind, templates in outcome.workload.templates.items()},
        "images": _images(outcome) if any(kind.has_image for kind in shares) else None,
        "vectors": _vectors(options) if Kind.SEARCH_VECTOR in shares else None,
        "k": options.k,
        "category": options.category or None,
        "all_categories": options.all_categories,
    }


def _images(outcome: Outcome) -> Report:
    return {
        "source": "catalog" if outcome.options.folder is None else str(outcome.options.folder),
        "form": "raw" if outcome.options.raw else "encoded",
        "bust_cache": outcome.options.bust_cache,
        "mean_bytes": outcome.workload.image_bytes,
        "skipped": [asdict(each) for each in outcome.workload.skipped],
    }


def _vectors(options: WorkloadOptions) -> str:
    return "between products of the catalog" if options.vectors is None else str(options.vectors)


def _server(outcome: Outcome) -> Report:
    return {
        "address": outcome.server,
        "on_this_machine": is_loopback(outcome.server),
        "model": asdict(outcome.workload.model),
        "categories": len(outcome.workload.categories),
        "products": sum(each.count for each in outcome.workload.categories),
    }


def _measurement(measured: Measurement) -> Report:
    stats, seconds = measured.stats, measured.seconds
    return {
        "rate": measured.phase.rate,
        "seconds": seconds,
        "stopped_early": measured.stopped,
        "calls": stats.calls,
        "answered": stats.answered,
        "failed": stats.failed,
        "failed_share": stats.failed_share,
        "warmup_calls": stats.warmup_calls,
        "answers_per_second": stats.answered / seconds if seconds else 0.0,
        "latency": times(stats.latency),
        "service": times(stats.service),
        "failures": times(stats.failures),
        "kinds": {
            kind.value: {"answered": each.latency.count, "failed": each.failed, "latency": times(each.latency)}
            for kind, each in stats.kinds.items()
        },
        "codes": {
            code_name(code): {"calls": count, "first_message": stats.messages.get(code, "")}
            for code, count in stats.codes.most_common()
        },
        "tester": _tester(measured),
        "stats": _response_stats(stats),
        "series": [asdict(each) for each in stats.series()],
    }


def _tester(measured: Measurement) -> Report:
    stats = measured.stats
    return {
        "lag": times(stats.lag),
        "was_late": is_late(measured),
        "cpu_shares": [stats.cpu[number].share for number in sorted(stats.cpu)],
        "not_sent": stats.not_sent,
    }


def _response_stats(stats: Stats) -> Report | None:
    if not stats.details_read:
        return None
    return {
        "read": stats.details_read,
        "stages": {name: _stage(each, stats.stages["total"]) for name, each in stats.stages.items()},
        "batch_sizes": {str(size): count for size, count in sorted(stats.batches.items())},
        "cache_hit_share": stats.cache_hits / stats.images_read if stats.images_read else None,
        "empty_answers": stats.empty_answers,
    }


def _stage(stage: Histogram, total: Histogram) -> Report | None:
    figures = times(stage, encoded=False)
    if figures is None:
        return None
    return figures | {"share": stage.sum_ms / (total.sum_ms or 1)}


def times(histogram: Histogram, *, encoded: bool = True) -> Report | None:
    """Return the figures of a histogram; None where nothing was counted."""
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


def _capacity(capacity: Capacity) -> Report:
    goal = capacity.goal
    return {
        "goal": {
            "p99_ms": goal.p99_ms,
            "failed_share": goal.failed_share,
            "resolution": goal.resolution,
            "calls_per_step": goal.calls,
            "budget_seconds": goal.budget,
        },
        "highest_met": capacity.highest_met,
        "lowest_missed": capacity.lowest_missed,
        "found": capacity.found,
        "ended_because": capacity.ended_because,
        "steps": [_step(step) for step in capacity.steps],
    }


def _step(step: CapacityStep) -> Report:
    stats = step.measurement.stats
    return {
        "rate": step.rate,
        "met": step.met,
        "reason": step.reason,
        "seconds": step.measurement.seconds,
        "calls": stats.calls,
        "answered": stats.answered,
        "failed_share": stats.failed_share,
        "p50": stats.latency.at(50),
        "p99": stats.latency.at(99),
        "lag_p99": stats.lag.at(99),
        "was_late": is_late(step.measurement),
        "stopped_early": step.measurement.stopped,
    }
