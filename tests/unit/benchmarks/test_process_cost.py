"""What one thing costs another process, measured from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO

import pytest
from benchmarks.process_cost import cost_of, processor_clock

MIB = 1 << 20
PROGRAM = """
import sys, time
for line in sys.stdin:
    kind, amount = line.split()
    if kind == "memory":
        (b"x" * int(float(amount))).count(b"y")
    else:
        until = time.process_time() + float(amount)
        while time.process_time() < until:
            pass
    print("done", flush=True)
"""

Order = Callable[[str, float], None]


@pytest.fixture
def child() -> Iterator[tuple[int, Order]]:
    """Start a process that allocates or computes as it is asked to, and then waits."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None

        def order(kind: str, amount: float) -> None:
            _order(orders, answers, kind, amount)

        order("memory", 1)
        yield process.pid, order
        process.stdin = None
        orders.close()


def _order(orders: IO[str], answers: IO[str], kind: str, amount: float) -> None:
    orders.write(f"{kind} {amount}\n")
    orders.flush()
    assert answers.readline() == "done\n"


def test_memory_that_was_given_back_counts_at_its_peak(child: tuple[int, Order]) -> None:
    """Only what was resident above the amount before counts, also where it is gone again; nothing costs nothing."""
    pid, order = child
    found = cost_of([pid], lambda: order("memory", 64 * MIB), 10)
    assert found.peak_bytes == pytest.approx(64 * MIB, abs=8 * MIB)
    assert found.left_bytes < 8 * MIB
    assert cost_of([pid], lambda: None, 10).peak_bytes < MIB


def test_processor_time_is_the_process_own(child: tuple[int, Order]) -> None:
    """What it computed counts, by its own clock, and not what its caller did."""
    pid, order = child
    assert cost_of([pid], lambda: order("compute", 0.2), 10).processor_seconds == pytest.approx(0.2, abs=0.1)
    used = time.process_time()
    assert processor_clock(pid) > 0.15
    assert cost_of([pid], lambda: _compute(used + 0.2), 10).processor_seconds < 0.05


def _compute(until: float) -> None:
    while time.process_time() < until:
        pass
