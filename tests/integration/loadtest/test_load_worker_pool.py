"""The worker pool by itself, as the benchmarks use it: with judges, generated requests and canceled calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import grpc
import numpy as np
import pytest

from lookalike_loadtest.plan import CANCELLED, OK, WRONG_ANSWER, Phase
from lookalike_loadtest.requests import EMBED, RequestSet, with_image
from lookalike_loadtest.worker_messages import Call, Judge, WorkerConfig, WorkerUpdate
from lookalike_loadtest.worker_pool import WorkerPool
from support.scripted_server import Rejection, ScriptedServer
from support.threaded_server import png

SHORT = Phase(seconds=1.0, warmup=0.0, deadline=30.0, concurrency=2)
TEMPLATE = with_image(png(1), None, bust_cache=True)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    """Return a pool of one worker."""
    with WorkerPool(1) as one:
        yield one


def config(server: ScriptedServer, **changes: Any) -> WorkerConfig:
    """Configure a worker to embed an image."""
    return WorkerConfig(server.address, [RequestSet(EMBED, [TEMPLATE])], **changes)


def run(pool: WorkerPool, phase: Phase = SHORT) -> tuple[Call, dict[int, str]]:
    """Run a phase; return its calls, as columns, and the first messages."""
    updates: list[WorkerUpdate] = []
    pool.run(phase, lambda _, update: updates.append(update))
    rows = np.concatenate([np.frombuffer(update.calls, dtype=np.int64) for update in updates])
    messages = {code: text for update in updates for code, text in update.messages.items()}
    return Call(*rows.reshape(-1, len(Call._fields)).T), messages


@pytest.mark.parametrize(("judge", "code"), [(len, OK), (int, WRONG_ANSWER)])
def test_a_judge_reads_every_answer(pool: WorkerPool, server: ScriptedServer, judge: Judge, code: int) -> None:
    """What it returns is recorded with the call; an answer that it rejects is wrong, with its message."""
    pool.connect(config(server, judge=judge))
    calls, messages = run(pool)
    assert set(calls.code) == {code}  # type: ignore[call-overload]  # a column
    assert (np.asarray(calls.judged) > 0).all() == (code == OK)
    assert set(messages) == ({code} - {OK})


def test_a_pool_is_configured_again(pool: WorkerPool, server: ScriptedServer) -> None:
    """Requests are drawn from templates, each with another number, or generated in the worker."""
    pool.connect(config(server))
    run(pool)
    drawn = [request.image.encoded for request in server.requests("Embed")]
    assert len(set(drawn)) == len(drawn) > 1
    server.calls.clear()
    same = RequestSet(EMBED, generate=partial(repeat, TEMPLATE.render(7)))
    pool.connect(WorkerConfig(server.address, [same]))
    run(pool)
    generated = [request.image.encoded for request in server.requests("Embed")]
    assert len(generated) > len(set(generated)) == 1


@pytest.mark.parametrize(("pause", "at_most"), [(SHORT.seconds, 2), (0.0, 10_000)])
def test_a_closed_loop_pauses_after_a_failure(
    pool: WorkerPool, server: ScriptedServer, pause: float, at_most: int
) -> None:
    """Each of its two callers waits after a call that failed, by default; without a pause rejections are calls too."""
    server.rejections += [Rejection(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")] * 10_000
    pool.connect(config(server))
    calls, _ = run(pool, replace(SHORT, failure_pause=pause))
    codes = np.asarray(calls.code).tolist()
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]}
    assert len(codes) <= at_most
    assert (len(codes) > 2) == (pause == 0)


def test_calls_are_canceled(pool: WorkerPool, server: ScriptedServer) -> None:
    """A closed loop that cancels its calls goes on to the next at once, and records each as canceled."""
    release = threading.Event()
    server.hooks["Embed"] = lambda: release.wait(240)
    pool.connect(config(server))
    calls, _ = run(pool, replace(SHORT, cancel_within=0.02))
    release.set()
    codes = np.asarray(calls.code)
    assert len(codes) > 2
    assert set(codes.tolist()) == {CANCELLED}
