"""What the load test reports is what happened: tried on servers that plan and record their own slowness."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from support.delaying import Plan, delaying
from support.loads import ms, report

pytestmark = [pytest.mark.slow, pytest.mark.serial]

BY_ID = ("--workload", "search-id", "--warmup", "0")
STALL = Plan(stall_after=1.0, stall=1.0)
THOUSAND_CALLS = ("--rate", "250", "--arrivals", "constant", "--duration", "4")


def _injected(took_ms: list[float], percentile: float) -> float:
    """Return a percentile of what the server itself took, by the rule of HDR histograms: the nearest rank."""
    rank = max(1, int(percentile / 100 * len(took_ms) + 0.5))
    return float(np.sort(took_ms)[rank - 1])


def test_percentiles_are_those_that_were_injected() -> None:
    """p50 and p99 are within 3 % of the delays that the server injected, 2 % of which are four times the others.

    Other work on the machine can only add to the latency. So one undisturbed run of three is enough; a load test that
    counts wrong fails all of them.
    """
    tries = []
    for _ in range(3):
        with delaying(Plan(usual=0.8, slow=3.2, slow_every=50)) as server:
            measured = report(server.address, *BY_ID, "--rate", "100", "--duration", "4")["measurement"]
            record = server.end()
        assert measured["answered"] == len(record.took_ms) > 300
        found = [(ms(measured, "latency", each), _injected(record.took_ms, float(each))) for each in ("50", "99")]
        assert found[0][1] < 1000 < found[1][1]  # the delays are two different ones, and the two percentiles see both
        tries.append(found)
        if all(reported == pytest.approx(injected, rel=0.03) for reported, injected in found):
            return
    pytest.fail(f"(reported, injected) of p50 and p99: {tries}")


@pytest.fixture(scope="module")
def stalled() -> dict[str, dict[str, Any]]:
    """Return the reports of three load tests, each of a server that stalls for a second, run at the same time."""
    options = {
        "open": THOUSAND_CALLS,
        # more than a thousand calls, also where each takes 7 ms
        "closed": ("--concurrency", "1", "--duration", "8"),
        "held back": (*THOUSAND_CALLS, "--max-outstanding", "1"),
    }

    def run(name: str) -> dict[str, Any]:
        with delaying(STALL) as server:
            return report(server.address, *BY_ID, *options[name])

    with ThreadPoolExecutor(len(options)) as threads:
        return dict(zip(options, threads.map(run, options), strict=True))


def test_a_stall_shows_in_an_open_loop(stalled: dict[str, dict[str, Any]]) -> None:
    """A server that holds all answers for a second makes p99.9 nearly a second, and p99 most of one."""
    measured = stalled["open"]["measurement"]
    assert measured["answered"] == 1000
    assert ms(measured, "latency", "99.9") >= 900
    # a quarter of all calls was due in the stall, evenly from its beginning to its end
    assert ms(measured, "latency", "99") >= 700
    assert ms(measured, "latency", "50") < 500


def test_a_stall_hides_in_a_closed_loop(stalled: dict[str, dict[str, Any]]) -> None:
    """The same stall is one slow call of a closed loop's many, so its p99.9 is small; the report warns of it."""
    measured = stalled["closed"]["measurement"]
    assert measured["latency"]["max"] >= 900
    assert ms(measured, "latency", "99.9") < 500
    assert any("stalls hardly show" in warning for warning in stalled["closed"]["warnings"])


def test_calls_that_are_held_back_count_their_waiting(stalled: dict[str, dict[str, Any]]) -> None:
    """With one call under way at a time the others wait, which is in their latency though not in the service time."""
    measured = stalled["held back"]["measurement"]
    assert measured["answered"] == 1000
    assert ms(measured, "latency", "99.9") >= 900
    assert ms(measured, "service", "99.9") < 500 <= measured["service"]["max"]
    assert measured["tester"]["was_late"]
    assert any("load test itself was late" in warning for warning in stalled["held back"]["warnings"])


def test_rejections_are_counted_and_not_retried() -> None:
    """Each rejection is one failed call, though the server asks for a retry; its latency is not among the answers'."""
    with delaying(Plan(usual=0.3, reject_every=5)) as server:
        measured = report(server.address, *BY_ID, "--rate", "50", "--arrivals", "constant", "--duration", "2")[
            "measurement"
        ]
        record = server.end()
    assert (record.received, record.rejected) == (100, 20)
    assert {name: code["calls"] for name, code in measured["codes"].items()} == {"OK": 80, "RESOURCE_EXHAUSTED": 20}
    assert measured["codes"]["RESOURCE_EXHAUSTED"]["first_message"] == "<b>full</b>"
    assert (measured["failed"], measured["failed_share"]) == (20, 0.2)
    assert measured["latency"]["min"] >= 290
    assert ms(measured, "failures", "50") < 290


def test_the_warm_up_is_not_recorded() -> None:
    """Calls of the warm-up reach the server and are in no result."""
    with delaying(Plan()) as server:
        measured = report(
            server.address,
            "--workload",
            "search-id",
            "--rate",
            "50",
            "--arrivals",
            "constant",
            "--warmup",
            "1",
            "--duration",
            "2",
        )["measurement"]
        record = server.end()
    assert record.received == 150
    assert (measured["warmup_calls"], measured["calls"], measured["latency"]["count"]) == (50, 100, 100)
    assert sum(second["due"] for second in measured["series"]) == 100


def test_several_processes_send_one_schedule() -> None:
    """Three processes together send exactly what one would."""
    with delaying(Plan()) as server:
        measured = report(
            server.address, *BY_ID, "--rate", "60", "--arrivals", "constant", "--duration", "2", "--processes", "3"
        )["measurement"]
    assert measured["calls"] == 120
    assert [second["due"] for second in measured["series"][:2]] == [60, 60]
    assert len(measured["tester"]["cpu_shares"]) == 3


def test_calls_that_cannot_be_sent_are_failures() -> None:
    """Beyond the bound calls wait, at most their deadline, and then count as NOT_SENT with what they waited."""
    with delaying(Plan(usual=30.0)) as server:
        with_deadline = ("--deadline", "0.5", "--max-outstanding", "5")
        result = report(server.address, *BY_ID, "--rate", "50", "--duration", "2", *with_deadline, status=1)
        record = server.end()
    measured = result["measurement"]
    codes = {name: code["calls"] for name, code in measured["codes"].items()}
    assert set(codes) == {"DEADLINE_EXCEEDED", "NOT_SENT"}
    assert 0 < record.received <= codes["DEADLINE_EXCEEDED"]
    assert sum(codes.values()) == sum(second["due"] for second in measured["series"]) > 50
    assert measured["failures"]["min"] >= 490
    assert result["summary"].startswith("No call was answered")
