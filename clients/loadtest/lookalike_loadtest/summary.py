"""The result of a load test in a sentence, and the warnings that go with it."""

from __future__ import annotations

from statistics import median
from typing import Any

BUSY = 0.9
"""The share of a core above which a worker process may be the bottleneck."""


def summarize(report: dict[str, Any]) -> str:
    """Return the result in one sentence."""
    if report["capacity"]:
        return _summarize_capacity(report["capacity"])
    measured = report["measurement"]
    if not measured["answered"]:
        return f"No call was answered: {_failures(measured)}."
    settings = report["settings"]
    if settings["loop"] == "open":
        load = f"At {settings['rate']:,g} calls a second ({_ARRIVALS[settings['arrivals']]})"
    else:
        load = f"With {settings['concurrency']:,} calls under way at a time, {measured['answers_per_second']:,.1f}/s"
        load += " were answered and"
    p50, p99 = (percentile(measured["latency"], each) for each in ("50", "99"))
    result = f"{load} half of the {measured['answered']:,} answers took at most {p50}, 99 % at most {p99}"
    return f"{result}; {_failures(measured)}."


def warnings(report: dict[str, Any]) -> list[str]:
    """Return what limits the meaning of the figures, most important first."""
    found: list[str] = []
    measured = report["measurement"]
    if report["interrupted"]:
        found.append(_interrupted(report["settings"], measured))
    found += [
        f"Worker process {lost['number']} {lost['how']}; it had {lost['outstanding']:,} calls under way when last"
        " heard of, and what it would have sent after that is missing."
        for lost in report["lost_processes"]
    ]
    if report["capacity"] and (rates := _disputed(report["capacity"])):
        found.append(
            f"Tries of the same rate disagreed ({rates} calls a second): something disturbed the server or the load"
            " test, and the capacity is only roughly known."
        )
    if measured:
        found += _warn_of_measurement(report["settings"], measured)
    if report["server"]["model"]["weights"].startswith("random"):
        found.append("The server's model has random weights: its speed is meaningful, its answers are not.")
    if report["server"]["on_this_machine"]:
        found.append("The server and the load test share this machine's processors, so each slows the other.")
    return found


_MIN_QUARTER_S = 2  # fewer seconds say nothing of growth
_ARRIVALS = {"poisson": "open loop, arrivals independent of each other", "constant": "open loop, evenly spaced"}


def _interrupted(settings: dict[str, Any], measured: dict[str, Any] | None) -> str:
    if settings["loop"] == "capacity" or measured is None:
        return "It was interrupted before it was over."
    if not measured["seconds"]:
        return "It was interrupted during the warm-up."
    return f"It was interrupted after {measured['seconds']:.1f} of {settings['seconds']:g} s."


def _warn_of_measurement(settings: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    found: list[str] = []
    tester, stats = measured["tester"], measured["stats"]
    if tester["was_late"]:
        found.append(
            f"The load test itself was late: 1 % of the calls were sent {percentile(tester['lag'], '99')} or more after"
            " their time, which is part of the latencies. Give it more --processes, or a machine of its own."
        )
    if tester["not_sent"]:
        found.append(
            f"{tester['not_sent']:,} calls could not be sent within a deadline of their time and count as failed"
            " (NOT_SENT)."
        )
    if settings["loop"] == "open" and (growth := _growth(measured["series"])):
        first, last = growth
        found.append(
            f"The latency grew during the test, from a median of {milliseconds(first)} in its first quarter to"
            f" {milliseconds(last)} in its last: the server did not keep up with the rate, and a longer test would show"
            " worse."
        )
    busiest = max(tester["cpu_shares"], default=0.0)
    if busiest > BUSY:
        found.append(
            f"A worker process used {busiest:.0%} of a core: the load test may be the bottleneck. Give it more"
            " --processes."
        )
    if settings["loop"] == "closed":
        found.append(
            "A closed loop waits for the server and so sends less while it is slow: stalls hardly show in these"
            " percentiles. Users who do not wait for each other experience what an open loop (--rate) shows."
        )
    if stats and stats["cache_hit_share"]:
        found.append(
            f"{stats['cache_hit_share']:.0%} of the answers to images came from the server's cache, without the model."
        )
    if stats and stats["empty_answers"]:
        found.append(f"{stats['empty_answers']:,} of the {stats['read']:,} answers that were read held no product.")
    return found


def _disputed(capacity: dict[str, Any]) -> str:
    """Return the rates that met the goal in one try and missed it in another."""
    missed = {step["rate"] for step in capacity["steps"] if not step["met"]}
    return ", ".join(f"{step['rate']:,.1f}" for step in capacity["steps"] if step["met"] and step["rate"] in missed)


def _growth(series: list[dict[str, Any]]) -> tuple[float, float] | None:
    """Return the median latency of the first and of the last quarter, where it more than doubled."""
    medians = [second["p50_ms"] for second in series if second["p50_ms"] is not None]
    quarter = len(medians) // 4
    if quarter < _MIN_QUARTER_S:
        return None
    first, last = median(medians[:quarter]), median(medians[-quarter:])
    return (first, last) if last > 2 * first else None


def _summarize_capacity(capacity: dict[str, Any]) -> str:
    wanted = capacity["goal"]
    goal = f"a p99 of at most {milliseconds(wanted['p99_ms'])} with at most {wanted['failed_share']:.2%} failures"
    if capacity["found"]:
        return (
            f"The capacity is {capacity['highest_met']:,.1f} calls a second at {goal};"
            f" {capacity['lowest_missed']:,.1f} is too much."
        )
    if capacity["highest_met"] is None:
        return f"No rate was found that meets {goal}: {capacity['ended_because']}."
    return (
        f"The capacity is at least {capacity['highest_met']:,.1f} calls a second at {goal};"
        f" the search ended because {capacity['ended_because']}."
    )


def _failures(measured: dict[str, Any]) -> str:
    if not measured["failed"]:
        return "none failed"
    codes = {name: code["calls"] for name, code in measured["codes"].items() if name != "OK"}
    named = ", ".join(f"{name} {count:,}" for name, count in codes.items())
    return f"{measured['failed']:,} calls ({measured['failed_share']:.2%}) failed ({named})"


def percentile(times: dict[str, Any] | None, which: str) -> str:
    """Format a percentile of a report's times."""
    return "-" if times is None else milliseconds(times["percentiles"][which]["ms"])


def milliseconds(value: float | None) -> str:
    """Format a time with three significant digits."""
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} ms"
