"""A server on a host that gives it little: few cores, a low priority, and no right to a higher one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from lookalike_client import Client
from support.paths import MODELS
from support.processes import server_process
from support.serving import noise

UNPRIVILEGED = """
import ctypes, os, resource, sys
PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23
os.nice(int(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)  # root loses it with the next program
os.execv(sys.executable, (sys.executable, *sys.argv[2:]))
"""


def niced(nice: int, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs Python at this niceness, unable to lower it, whoever the user is."""
    return (sys.executable, "-c", UNPRIVILEGED, str(nice), *arguments)


def nice_values(pid: int) -> list[int]:
    """Return the nice values of a process's threads, the main thread's first."""
    threads = [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
    return [os.getpriority(os.PRIO_PROCESS, thread) for thread in sorted(threads)]


def pool_threads(data: Path, cores: AbstractSet[int]) -> dict[str, int]:
    """Return how many threads each pool of a busy server has, on these cores only."""
    program = (sys.executable, "-m", "support.pool_threads_program", str(MODELS / "tiny"), str(data))
    ran = subprocess.run(
        program,
        check=True,
        capture_output=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    counts: dict[str, int] = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith(b"{")))
    return counts


@pytest.mark.parametrize("nice", [10, 19])
def test_a_niced_server_serves(tmp_path: Path, nice: int) -> None:
    """A server without privileges that was started at a high niceness serves, and goes on from there: 19 at most."""
    with server_process(
        MODELS / "tiny", tmp_path, "--inference-nice", "6", command=niced(nice, "-m", "lookalike_server", "serve")
    ) as server:
        with Client(server.address) as client:
            assert client.embed(noise(0)).values.any()
        values = nice_values(server.process.pid)
    assert values[0] == min(values) == nice
    assert min(nice + 6, 19) in values


def test_niceness_cannot_be_lowered_there() -> None:
    """The program of the test above has no right to lower its niceness, so that a server that tried would fail."""
    lowering = "import os; os.setpriority(os.PRIO_PROCESS, 0, 5)"
    ran = subprocess.run(niced(10, "-c", lowering), check=False, capture_output=True, timeout=60)
    assert b"PermissionError" in ran.stderr


def test_pools_follow_the_affinity(tmp_path: Path) -> None:
    """On one core of several each pool has one thread, however busy it is; on two it has two."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two cores, to use one of them")
    one = pool_threads(tmp_path / "one", {min(cores)})
    assert (one["decoder"], one["searcher"]) == (1, 1)
    two = pool_threads(tmp_path / "two", set(sorted(cores)[:2]))
    assert (two["decoder"], two["searcher"]) == (2, 2)
