"""What the judge of a soak says of samples whose cause is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import pytest

from support.soak.judge import BLOCKS, HOUR, MIB, Finding, Sample, Verdict, judge, slope

LEVEL = 150 * MIB
WARM_UP = 600.0


def series(
    rss: Callable[[float], float] = lambda _: 0.0, seconds: float = HOUR, noise: float = 0.0, alike: float = 0.0
) -> list[Sample]:
    """Make 400 samples of a level plus `rss` of the seconds, in MiB, with noise that depends on the last one's."""
    draw = random.Random(3)  # noqa: S311
    spread = noise * (1 - alike**2) ** 0.5
    errors = accumulate((draw.gauss(0, spread) for _ in range(400)), lambda last, new: alike * last + new)
    times = [seconds * (at + 1) / 400 for at in range(400)]
    return [
        Sample(time, LEVEL + MIB * (rss(time) + error), LEVEL, 60, 20, 20 * MIB, MIB)
        for time, error in zip(times, errors, strict=True)
    ]


def found(samples: list[Sample], quantity: str = "rss", warm_up: float = WARM_UP) -> Finding:
    """Judge samples, and return what was found of one quantity."""
    (finding,) = (each for each in judge(samples, warm_up, 1.0) if each.quantity == quantity)
    return finding


def test_constant() -> None:
    """Memory that never changes is flat, without a margin."""
    finding = found(series())
    assert (finding.estimate, finding.margin, finding.verdict) == (0.0, 0.0, Verdict.FLAT)


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_noise(alike: float) -> None:
    """Noise around a level is flat in an hour, also where neighboring samples are alike."""
    finding = found(series(noise=0.2, alike=alike))
    assert finding.verdict is Verdict.FLAT
    assert finding.margin > 0


def test_slow_leak() -> None:
    """In an hour of noise a leak of 2 MiB/h is found, and the interval has its rate."""
    finding = found(series(lambda seconds: 2 * seconds / HOUR, noise=0.2))
    assert finding.verdict is Verdict.GROWS
    assert abs(finding.estimate - 2) <= finding.margin


def test_slow_leak_in_five_minutes() -> None:
    """In five minutes the same leak is neither found nor ruled out, and the margin says so."""
    finding = found(series(lambda seconds: 2 * seconds / HOUR, seconds=300, noise=0.5, alike=0.5), warm_up=90)
    assert finding.verdict is Verdict.UNRESOLVED
    assert finding.margin > 1


def test_fast_leak_in_five_minutes() -> None:
    """A leak of 90 MiB/h is found in five minutes."""
    finding = found(series(lambda seconds: 90 * seconds / HOUR, seconds=300, noise=0.2), warm_up=90)
    assert finding.verdict is Verdict.GROWS


def test_step_in_the_warm_up() -> None:
    """What is allocated, or freed, until the warm-up ends does not count."""
    for height in (50, -50):
        samples = [replace(each, rss=each.rss + height * MIB * (each.seconds > WARM_UP - 60)) for each in series()]
        assert found(samples).verdict is Verdict.FLAT


def test_step_after_the_warm_up() -> None:
    """A single step is no line, so it widens the interval: it is not taken for a leak, nor for none."""
    finding = found(series(lambda seconds: 1.5 * (seconds > 2000), noise=0.05))
    assert finding.verdict is Verdict.UNRESOLVED


def test_noise_that_is_alike_widens_the_interval() -> None:
    """Where neighboring samples are alike there is less to be learned from as many."""
    margins = []
    for alike in (0.0, 0.99):
        samples = series(noise=0.2, alike=alike)
        margins.append(slope([(sample.seconds, sample.rss) for sample in samples])[1])
    assert margins[1] > 3 * margins[0]


def test_interval_has_the_slope_most_of_the_time() -> None:
    """Of 200 noisy lines of a known slope, nine in ten intervals have it, also where neighboring samples are alike."""
    for alike in (0.0, 0.9):
        draw = random.Random(5)  # noqa: S311
        hits = 0
        for _ in range(200):
            level, noise = 0.0, []
            for _ in range(400):
                level = alike * level + draw.gauss(0, 1)
                noise.append(level)
            estimate, margin = slope([(at, 0.5 * at + each) for at, each in enumerate(noise)])
            hits += abs(estimate - 0.5) <= margin
        assert hits >= 180


@pytest.mark.parametrize(
    ("quantity", "grown", "verdict"),
    [
        ("descriptors", 10, Verdict.FLAT),
        ("descriptors", 40, Verdict.GROWS),
        ("threads", 1, Verdict.FLAT),
        ("threads", 5, Verdict.GROWS),
        ("wal", 16 * MIB, Verdict.FLAT),
        ("wal", 100 * MIB, Verdict.GROWS),
        ("database", 0.5 * MIB, Verdict.FLAT),
        ("database", 3 * MIB, Verdict.GROWS),
    ],
)
def test_levels(quantity: str, grown: float, verdict: Verdict) -> None:
    """Files, threads and sizes may vary, and are found where their maximum keeps growing."""
    begin = getattr(series()[0], quantity)
    # The two halves after the warm-up end 1500 seconds apart.
    samples = [replace(each, **{quantity: begin + grown * each.seconds / 1500}) for each in series()]
    assert found(samples, quantity).verdict is verdict


def test_too_few_samples() -> None:
    """Samples that are too few to judge are an error, not a verdict."""
    with pytest.raises(ValueError, match=f"there must be {2 * BLOCKS}"):
        judge(series(seconds=300), 299, 1.0)
