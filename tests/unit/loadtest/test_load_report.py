"""The report: true to its figures, in one file, and never fooled by what a server says of itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from lookalike_client.types import BatchProfile, Category, Model
from lookalike_loadtest.histogram import Histogram
from lookalike_loadtest.html_report import render
from lookalike_loadtest.plan import NOT_SENT, Kind, Phase
from lookalike_loadtest.report import Outcome, Report, make_report
from lookalike_loadtest.response_stats import ResponseDetails
from lookalike_loadtest.runs import Capacity, CapacityGoal, CapacityStep, Measurement
from lookalike_loadtest.stats import Stats
from lookalike_loadtest.worker_messages import Call
from lookalike_loadtest.worker_pool import LostWorker
from lookalike_loadtest.workload import Workload, WorkloadOptions
from support.loads import answered, update

EVIL = "</style><script>alert('$x_1$')</script>&amp;"
OPEN = Phase(seconds=10.0, warmup=1.0, deadline=1.0, rate=200.0)
CLOSED = replace(OPEN, rate=None, concurrency=4)


def measurement(phase: Phase = OPEN, *, lag: int = 100, failures: int = 3) -> Measurement:
    """Some two thousand calls, a few of which fail with a message that is markup."""
    stats = Stats([Kind.EMBED, Kind.SEARCH_ID])
    latencies = np.random.default_rng(1).gamma(3, 4000, 2000).astype(int) + lag
    calls = [answered(at * 5000, int(took), at % 2, lag) for at, took in enumerate(latencies)]
    calls += [Call(0, 8, at, 900, 800, 100) for at in range(failures)]
    details = [
        (0, ResponseDetails(900, 100, 9000, 0, 11_000, 2, 1, 1)),
        (1, ResponseDetails(0, 0, 0, 700, 1000, 0, 0, 0)),
    ]
    stats.add(1, update(calls, details, {8: EVIL} if failures else {}))
    return Measurement(phase, stats, phase.seconds)


def load_test(measured: Measurement | None, **changes: Any) -> Outcome:
    """Make the outcome of a test of a server whose names are markup."""
    model = Model(
        name=EVIL, backbone=EVIL, weights="imagenet", dim=8, metric="cosine", input_width=8, input_height=8,
        resize="bilinear", pooling="avg", precision="fp32", digest=EVIL, provider=EVIL,
        batch_profiles=(BatchProfile(1, 1, 1.5),),
    )  # fmt: skip
    shares = {Kind.EMBED: 1.0, Kind.SEARCH_ID: 1.0}
    done = Outcome(
        server="shop.example:443",
        options=WorkloadOptions(shares, category=EVIL),
        workload=Workload(model, [Category(EVIL, 5, "flat")], shares, {kind: [] for kind in shares}),
        phase=measured.phase if measured else OPEN,
        processes=1,
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        measurement=measured,
        capacity=None,
        lost=[],
        interrupted=False,
    )
    return replace(done, **changes)


def capacity() -> Capacity:
    """Three rates, of which the highest missed the goal."""
    goal = CapacityGoal(p99_ms=50.0)
    steps = [CapacityStep(rate, measurement(replace(OPEN, rate=rate)), rate < 300, "" if rate < 300 else EVIL)
             for rate in (100.0, 200.0, 300.0)]  # fmt: skip
    return Capacity(
        goal, steps, highest_met=200.0, lowest_missed=300.0, found=False, ended_because="the time is used up"
    )


class Reader(HTMLParser):
    """The elements of a page, the addresses it refers to, and its text; fails where an element is not closed."""

    VOID = frozenset({"meta", "br", "use"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.names.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of its own."""
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text."""
        self.text += data


@pytest.mark.slow
@pytest.mark.parametrize(
    "test",
    [
        load_test(measurement()),
        load_test(measurement(CLOSED)),
        load_test(measurement(), capacity=capacity()),
        load_test(None, capacity=Capacity(CapacityGoal(5.0))),
    ],
    ids=["open", "closed", "capacity", "nothing"],
)
def test_the_page_is_whole_and_harmless(test: Outcome) -> None:
    """Whatever the server says is text; the page refers to nothing outside itself and may load nothing."""
    page = Reader(render(make_report(test)))
    assert "script" not in page.names
    assert page.text.count("<script>alert('$x_1$')</script>") >= 3
    assert all(reference.startswith("#") and reference[1:] in page.ids for reference in page.references)
    assert len(page.ids) == len(set(page.ids))
    assert "default-src 'none'" in render(make_report(test))


def test_the_page_has_charts_in_its_own_colors() -> None:
    """Curves over percentile and time are SVG in the colors of the page, which differ in light and dark mode."""
    page = render(make_report(load_test(measurement())))
    assert page.count("<svg") == 3
    assert render(make_report(load_test(measurement(), capacity=capacity()))).count("<svg") == 4
    used = set(re.findall(r"var\((--[a-z]+)\)", page))
    assert {"--ink", "--rule", "--first", "--second", "--bad"} <= used
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    for color in used:
        assert f"{color}:" in light
        assert f"{color}:" in dark
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    # no placeholder is left, and the latency curve has many points
    assert not re.search(r"#0[1-9]0[1-9]0[1-9]", "".join(drawings))
    assert max(len(re.findall(r"[ML] ", path)) for path in re.findall(r'd="([^"]*)"', drawings[0])) > 30


def test_the_same_figures_make_the_same_page() -> None:
    """Nothing in a page depends on when or how often it is made."""
    assert render(make_report(load_test(measurement()))) == render(make_report(load_test(measurement())))


def test_others_can_merge_the_histograms() -> None:
    """The report is JSON, and its histograms add up with those of another test."""
    report = json.loads(json.dumps(make_report(load_test(measurement()))))
    assert report["schema"] == 1
    latency = report["measurement"]["latency"]
    histogram = Histogram(latency["histogram"])
    assert histogram.count == latency["count"] == report["measurement"]["answered"] == 2000
    for point in histogram.points():
        reported = latency["percentiles"][f"{point.percentile:g}"]
        assert reported["ms"] == pytest.approx(point.ms, rel=0.001)
        assert reported["calls_beyond"] == point.beyond


def warnings(test: Outcome) -> str:
    """All warnings of its report."""
    return "\n".join(make_report(test)["warnings"])


def test_the_summary_is_one_sentence() -> None:
    """It has the load, the percentiles and the failures."""
    summary = make_report(load_test(measurement()))["summary"]
    assert summary.startswith("At 200 calls a second (open loop, arrivals independent of each other) half of the 2,000")
    assert summary.endswith("; 3 calls (0.15%) failed (RESOURCE_EXHAUSTED 3).")
    assert make_report(load_test(measurement(CLOSED)))["summary"].startswith("With 4 calls under way at a time")
    assert "none failed" in make_report(load_test(measurement(failures=0)))["summary"]


def test_the_summary_of_a_capacity_search_is_honest() -> None:
    """It has the capacity where it was found, and otherwise what is known and why not more."""
    found = summary_with(found=True)
    assert found == (
        "The capacity is 200.0 calls a second at a p99 of at most 50.0 ms with at most 0.10% failures;"
        " 300.0 is too much."
    )
    assert summary_with(found=False).startswith("The capacity is at least 200.0 calls a second at a p99")
    assert summary_with(found=False).endswith("the search ended because the time is used up.")
    disputed = capacity()
    disputed.steps.insert(1, replace(disputed.steps[1], met=False))
    said = warnings(load_test(measurement(), capacity=disputed))
    assert "Tries of the same rate disagreed (200.0 calls a second)" in said
    assert "disagreed" not in warnings(load_test(measurement(), capacity=capacity()))
    assert summary_with(highest_met=None, found=False).startswith("No rate was found that meets")


def summary_with(**changes: Any) -> str:
    """Return the summary of the capacity search with these changes."""
    changed = capacity()
    for name, value in changes.items():
        setattr(changed, name, value)
    return str(make_report(load_test(measurement(), capacity=changed))["summary"])


def test_what_limits_the_figures_is_a_warning() -> None:
    """Late sending, calls not sent, lost workers, an interrupt, cache hits, empty answers and a shared machine."""
    said = warnings(load_test(measurement()))
    assert "late" not in said
    assert "interrupted" not in said
    assert "100% of the answers to images came from the server's cache" in said
    assert "1 of the 2 answers that were read held no product" in said
    late = measurement(lag=20_000)
    assert "load test itself was late: 1 % of the calls were sent 20.0 ms or more after their time" in warnings(
        load_test(late)
    )
    unsent = measurement()
    unsent.stats.add(1, update([Call(0, NOT_SENT, 1, 9, -1, 9)]))
    assert "1 calls could not be sent" in warnings(load_test(unsent))
    short = measurement()
    short.seconds = 4.0
    assert "interrupted after 4.0 of 10 s" in warnings(load_test(short, interrupted=True))
    lost = warnings(load_test(measurement(), lost=[LostWorker(2, "was ended by SIGKILL", 7)]))
    assert "Worker process 2 was ended by SIGKILL; it had 7 calls under way" in lost
    assert "share this machine" in warnings(load_test(measurement(), server="127.0.0.1:1"))
    assert "stalls hardly show" in warnings(load_test(measurement(CLOSED)))


def test_growing_latency_is_a_warning() -> None:
    """A server that does not keep up has ever longer queues; how long the test was then decides the percentiles."""
    falling_behind = Stats([Kind.EMBED])
    falling_behind.add(1, update([answered(at * 10_000, 5_000 + at * 1_000) for at in range(1000)]))
    said = warnings(load_test(Measurement(OPEN, falling_behind, 10.0)))
    assert "The latency grew during the test, from a median of 104 ms in its first quarter to 904 ms" in said
    assert "The latency grew" not in warnings(load_test(measurement()))


def test_weak_percentiles_are_marked() -> None:
    """A percentile that fewer than ten calls lie beyond is in italics on the page."""
    page = render(make_report(load_test(measurement())))
    row = page[page.index("<td>all answers") :].partition("</tr>")[0].split("</td><td>")
    assert ["weak" in cell for cell in row[2:8]] == [False, False, False, False, True, True]


def test_a_report_without_an_answer_is_a_report() -> None:
    """Where everything failed there are no percentiles, and the page and the summary say why."""
    stats = Stats([Kind.EMBED])
    stats.add(1, update([Call(0, 14, at, 100, 100, 0) for at in range(50)], messages={14: "gone"}))
    report: Report = make_report(load_test(Measurement(OPEN, stats, 10.0)))
    assert report["summary"] == "No call was answered: 50 calls (100.00%) failed (UNAVAILABLE 50)."
    assert report["measurement"]["latency"] is None
    assert "gone" in Reader(render(report)).text
