"""What a run on a GPU says by itself: which default won, which target is met, and what limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from benchmarks.gpu.defaults import Verdict, verdicts
from benchmarks.gpu.drawn import brute_force, draw
from benchmarks.gpu.profile import IDEAS, Bare, profile_of
from benchmarks.gpu.report import TARGETS, report
from benchmarks.load import Outcome

NHWC, GRAPHS, TF32, CONV = (
    {"prefer_nhwc": True},
    {"graphs": True},
    {"use_tf32": False},
    {"conv_algo_search": "exhaustive"},
)


def way(
    variant: Mapping[str, Any], batch: int, rate: float, concurrent: int = 0, stage: str = "grid"
) -> dict[str, Any]:
    """Make a way that ran in three rounds, the second of which was disturbed."""
    about = {"stage": stage, "model": "net", "precision": "fp32", "variant": dict(variant), "batch": batch}
    return about | {"concurrent": concurrent, "rates": [rate, rate * 0.7, rate]}


def smoke(variant: Mapping[str, Any], *, kept: bool, precision: str = "fp32") -> dict[str, Any]:
    """Make a result of the step smoke."""
    details = {"model": "real", "frontends": 0, "precision": precision, "variant": dict(variant), "strict": False}
    spread = {"median": 1.0, "low": 1.0, "high": 1.0}
    result = {"name": "cosine", "versus": "", "value": spread, "bound": "", "met": kept}
    return result | {"details": details | {"parity": [{"within_bounds": kept}]}}


def step(**more: Any) -> dict[str, Any]:
    """Make what a step has written."""
    return {"results": [], "skipped": {}, "ways": [], "profiles": [], **more}


def measured(*, lost: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make steps in which NHWC and batches of 64 are worth it, and one setting loses the embeddings."""
    ways = [
        *(way({}, size, rate) for size, rate in ((16, 100), (64, 150), (128, 152))),
        *(way(NHWC, size, rate) for size, rate in ((16, 130), (64, 200), (128, 203))),
        *(way(GRAPHS, size, rate) for size, rate in ((16, 101), (64, 151), (128, 151))),
        *(way(NHWC | GRAPHS, size, rate) for size, rate in ((16, 131), (64, 199), (128, 202))),
        way(NHWC, 64, 200, stage="best"),
        way(NHWC | TF32, 64, 90, stage="best"),
        way(NHWC | CONV, 64, 230, stage="best"),
        *(way(NHWC, 64, rate, concurrent, "best") for concurrent, rate in ((1, 150), (2, 190), (3, 191))),
    ]
    parity = [smoke(each, kept=each != lost) for each in ({}, NHWC, GRAPHS, TF32, CONV)]
    return {"smoke": step(results=parity), "bare": step(ways=ways)}


def winners(steps: Mapping[str, Any]) -> dict[tuple[str, Any], Any]:
    """Return the winner of each comparison."""
    return {(each.setting, each.tried): each.winner for each in verdicts(steps)}


def test_the_faster_value_wins_where_it_is_worth_a_change() -> None:
    """A value that is faster by two percent and more wins; the others stay as they are."""
    steps = measured()
    assert winners(steps) == {
        ("max_batch_size", 64): 64,  # 128 is hardly faster
        ("max_concurrent_batches", 1): 2,
        ("max_concurrent_batches", 3): 2,
        ("cuda_prefer_nhwc", True): True,
        ("cuda_graphs", True): False,
        ("cuda_use_tf32", False): True,
        ("cudnn_conv_algo_search", "exhaustive"): "exhaustive",
    }
    gains = {each.setting: each.gain for each in verdicts(steps)}
    assert (gain := gains["cuda_prefer_nhwc"]) is not None
    assert gain.median == pytest.approx(200 / 150)  # round by round, so that the disturbed one does not count


@pytest.mark.parametrize(
    ("lost", "setting", "winner"),
    [
        (CONV, ("cudnn_conv_algo_search", "exhaustive"), "heuristic"),  # faster, and wrong
        ({}, ("cuda_use_tf32", False), False),  # TF32 is the default, faster, and wrong
    ],
)
def test_a_value_that_loses_the_embeddings_never_wins(
    lost: Mapping[str, Any], setting: tuple[str, Any], winner: Any
) -> None:
    """Speed counts among those values only that keep the embeddings."""
    assert winners(measured(lost=lost))[setting] == winner


def test_what_did_not_run_has_no_winner() -> None:
    """Without a run of the default or of the other value nothing is said, but why."""
    steps = measured()
    steps["bare"]["ways"] = [each for each in steps["bare"]["ways"] if each["stage"] == "grid"]
    found = {(each.setting, each.tried): each for each in verdicts(steps)}
    assert found["cuda_use_tf32", False] == Verdict(
        "cuda_use_tf32", "net", True, False, None, (True, True), "it was not run"
    )
    assert found["cuda_use_tf32", False].winner is None
    assert verdicts({}) == []


def result(name: str, value: float, *, met: bool | None = True) -> dict[str, Any]:
    """Make a result."""
    spread = {"median": value, "low": value, "high": value}
    details = {"model": "net", "frontends": 0}
    return {"name": name, "versus": "", "value": spread, "bound": "x", "met": met, "details": details}


def test_each_target_has_a_figure_or_a_reason() -> None:
    """A report says of each target whether it is met, or why it was not measured; and what defaults should be."""
    machine = {"gpu": {"name": "NVIDIA X", "driver_version": "1.2"}, "cpu": "c", "cores": 16, "date": "2026-01-02"}
    machine |= {"commit": "abc", "settings": {"provider": "cuda"}}
    serve = step(
        results=[
            result("images/s, raw", 0.95),
            result("concurrency 16, search included: calls/s", 3000),
            result("concurrency 16, search included: p99, ms", 7.5, met=False),
            result("concurrency 128, search included: calls/s", 6000),
        ],
        skipped={"net: concurrency 128": "12 s are needed | 3 s were left"},
    )
    text = report(machine, measured() | {"serve": serve}, 400.0)
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in text.splitlines() if row.startswith("| ")}
    assert rows["images/s through the server, raw, over bare ONNX Runtime at its best"].endswith("| 0.95 | met |")
    assert rows["16 concurrent calls, search included"].endswith("| 3,000, 7.5 | **missed** |")
    # One of two results is no measurement of the target.
    assert "not measured: 12 s are needed / 3 s were left" in rows["128 concurrent calls, search included"]
    assert "not measured: the step search was not run" in rows[TARGETS[-1].metric]
    assert rows["`max_batch_size`"].endswith("| - / - | `64` |")
    assert rows["`cuda_prefer_nhwc`"].endswith("| yes / yes | `True` |")
    assert "NVIDIA X" in text
    assert "2026-01-02" in text
    assert "rehearsal" not in text


def outcome(calls: int, seconds: float, generator_seconds: float) -> Outcome:
    """Make a turn whose calls end evenly, the last one at its end."""
    ended = np.linspace(seconds / calls, seconds, calls)
    ones = np.ones(calls)
    return Outcome(ended - 0.1, ended, 0 * ones, ones, 0 * ones, generator_seconds)


@pytest.mark.parametrize(
    ("spent", "limit"),
    [
        ({"event_loop": 1.9}, "event_loop"),
        ({"event_loop": 0.2, "process": 15.0}, "processor"),
        ({"event_loop": 0.2, 'lookalike_stage_seconds_sum{stage="decode"}': 14.0, "process": 3.0}, "decode"),
        ({"event_loop": 0.2, "process": 2.0}, ""),
    ],
)
def test_what_is_busiest_limits(spent: dict[str, float], limit: str) -> None:
    """Two seconds on eight cores: what used most of what there is limits, and nothing does where all waits."""
    found = profile_of(
        "turn", {"process": 1.0} | spent, outcome(1000, 2.0, 1.0), Bare(1000.0, 0.03, 0.04), cores=8, generators=2
    )
    assert found.limit == limit
    assert found.to_json()["idea"] == IDEAS[limit]
    assert (found.gpu, found.copies, found.load_generators) == pytest.approx((0.5, 0.25, 0.25))


def test_a_profile_has_the_means_of_what_was_counted() -> None:
    """Batches, waits and runs are sums over counts."""
    stages = {"queue": (3.0, 1000), "inference": (4.0, 50)}
    spent = {"event_loop": 1.0, "process": 2.0, "lookalike_batch_padding_total": 250.0}
    spent |= {"lookalike_batch_size_sum": 750.0, "lookalike_batch_size_count": 50.0}
    for name, (total, count) in stages.items():
        spent[f'lookalike_stage_seconds_sum{{stage="{name}"}}'] = total
        spent[f'lookalike_stage_seconds_count{{stage="{name}"}}'] = count
    found = profile_of("turn", spent, outcome(750, 2.0, 0.0), Bare(375.0, 1.0, 1.0), cores=2, generators=1)
    assert (found.queue_ms, found.run_ms, found.batch_size, found.padding) == pytest.approx((3.0, 80.0, 15.0, 0.25))
    assert (found.limit, found.gpu) == ("gpu", 1.0)


def test_brute_force_finds_the_nearest() -> None:
    """Its answers hold; with one row exchanged, missing or twice they do not. What was drawn is the same every time."""
    rows, queries = draw(9_000, 3, 32)
    again, _ = draw(9_000, 3, 32)
    assert np.array_equal(rows, again)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(9_000), abs=1e-5)
    truth = brute_force(rows, queries, 10)
    for at, query in enumerate(queries):
        order = np.argsort(-(rows @ query)).tolist()
        assert truth.holds(at, order[:10])
        assert truth.holds(at, order[9::-1])
        assert not truth.holds(at, [*order[:9], order[500]])
        assert not truth.holds(at, order[:9])
        assert not truth.holds(at, [*order[:9], order[0]])
