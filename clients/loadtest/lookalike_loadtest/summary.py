"""What a report says in a sentence, and what makes it worth less than it looks."""

from __future__ import annotations

from statistics import median
from typing import Any

BUSY = 0.9
"""The share of a core above which a client process is taken to be the bottleneck."""


def verdict(report: dict[str, Any]) -> str:
    """The result in one sentence."""
    if report["ramp"]:
        return _of_ramp(report["ramp"])
    measured = report["measurement"]
    if not measured["answered"]:
        return f"No call was answered: {_failures(measured)}."
    asked = report["asked"]
    if asked["loop"] == "open":
        load = f"At {asked['rate']:,g} calls a second ({_ARRIVALS[asked['arrivals']]})"
    else:
        load = f"With {asked['callers']:,} callers, each with one call at a time, {measured['answers_a_second']:,.1f}/s"
        load += " were answered and"
    p50, p99 = (percentile(measured["latency"], each) for each in ("50", "99"))
    said = f"{load} half of the {measured['answered']:,} answers took at most {p50}, 99 % at most {p99}"
    return f"{said}; {_failures(measured)}."


def warnings(report: dict[str, Any]) -> list[str]:
    """Whatever keeps the figures from saying what they seem to say, most important first."""
    found: list[str] = []
    measured = report["measurement"]
    if report["interrupted"]:
        found.append(_interrupted(report["asked"], measured))
    found += [
        f"Client process {lost['number']} {lost['how']}; it had {lost['outstanding']:,} calls under way when last"
        " heard of, and what it would have sent after that is missing."
        for lost in report["lost_processes"]
    ]
    if report["ramp"] and (rates := _disputed(report["ramp"])):
        found.append(
            f"Tries of the same rate disagreed ({rates} calls a second): something else disturbed server or tester, and"
            " the knee is only roughly known."
        )
    if measured:
        found += _of_measurement(report["asked"], measured)
    if report["server"]["model"]["weights"].startswith("random"):
        found.append("The server's model has random weights: its speed means something, its answers do not.")
    if report["server"]["on_this_machine"]:
        found.append("Server and tester share this machine's processors, so each slows the other.")
    return found


_LEAST_QUARTER_S = 2  # seconds: fewer say nothing of growth
_ARRIVALS = {"poisson": "open loop, arrivals independent of each other", "constant": "open loop, evenly spaced"}


def _interrupted(asked: dict[str, Any], measured: dict[str, Any] | None) -> str:
    if asked["loop"] == "ramp" or measured is None:
        return "It was interrupted before it was over."
    if not measured["seconds"]:
        return "It was interrupted during the warm-up."
    return f"It was interrupted after {measured['seconds']:.1f} of {asked['seconds']:g} s."


def _of_measurement(asked: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    found: list[str] = []
    tester, stats = measured["tester"], measured["stats"]
    if tester["was_late"]:
        found.append(
            f"The tester itself was late: 1 % of the calls left {percentile(tester['lag'], '99')} or more after"
            " their time, which is in the latencies. Give it more --processes, or a machine of its own."
        )
    if tester["not_sent"]:
        found.append(
            f"{tester['not_sent']:,} calls could not be sent within a deadline of their time and count as failed"
            " (NOT_SENT)."
        )
    if asked["loop"] == "open" and (growth := _growth(measured["series"])):
        first, last = growth
        found.append(
            f"The latency grew during the test, from a median of {milliseconds(first)} in its first quarter to"
            f" {milliseconds(last)} in its last. So it goes where a server does not keep up with the rate, and a longer"
            " test would then show worse."
        )
    busiest = max(tester["cpu_shares"], default=0.0)
    if busiest > BUSY:
        found.append(
            f"A client process used {busiest:.0%} of a core: the tester may have been the bottleneck. Give it more"
            " --processes."
        )
    if asked["loop"] == "closed":
        found.append(
            "A closed loop waits for the server and so asks less while it is slow: stalls hardly show in these"
            " percentiles. Callers that do not wait for each other see what an open loop (--rate) shows."
        )
    if stats and stats["cache_hit_share"]:
        found.append(
            f"{stats['cache_hit_share']:.0%} of the answers to images came from the server's cache, without the model."
        )
    if stats and stats["without_neighbors"]:
        found.append(f"{stats['without_neighbors']:,} of {stats['read']:,} answers looked into held no product.")
    return found


def _disputed(ramp: dict[str, Any]) -> str:
    """The rates that held in one try and broke in another."""
    broke = {step["rate"] for step in ramp["steps"] if not step["held"]}
    return ", ".join(f"{step['rate']:,.1f}" for step in ramp["steps"] if step["held"] and step["rate"] in broke)


def _growth(series: list[dict[str, Any]]) -> tuple[float, float] | None:
    """The median latency of the first and of the last quarter, where it more than doubled."""
    medians = [second["p50_ms"] for second in series if second["p50_ms"] is not None]
    quarter = len(medians) // 4
    if quarter < _LEAST_QUARTER_S:
        return None
    first, last = median(medians[:quarter]), median(medians[-quarter:])
    return (first, last) if last > 2 * first else None


def _of_ramp(ramp: dict[str, Any]) -> str:
    goal = (
        f"a p99 of at most {milliseconds(ramp['goal']['p99'])} and at most {ramp['goal']['failed_share']:.2%} failures"
    )
    if ramp["found"]:
        return f"{ramp['held']:,.1f} calls a second hold {goal}; {ramp['broke']:,.1f} do not."
    if ramp["held"] is None:
        return f"No rate was found that holds {goal}: {ramp['ended_because']}."
    return f"At least {ramp['held']:,.1f} calls a second hold {goal}; the knee was not found: {ramp['ended_because']}."


def _failures(measured: dict[str, Any]) -> str:
    if not measured["failed"]:
        return "none failed"
    codes = {name: code["calls"] for name, code in measured["codes"].items() if name != "OK"}
    named = ", ".join(f"{name} {count:,}" for name, count in codes.items())
    return f"{measured['failed']:,} calls ({measured['failed_share']:.2%}) failed ({named})"


def percentile(times: dict[str, Any] | None, which: str) -> str:
    """A percentile of a report's times, to read."""
    return "-" if times is None else milliseconds(times["percentiles"][which]["ms"])


def milliseconds(value: float | None) -> str:
    """A time to read, with three digits that count."""
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} ms"
