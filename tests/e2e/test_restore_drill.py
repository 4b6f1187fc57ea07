"""The restore drill of docs/operations.md: back up while writing, destroy the catalog, restore it, ask everything."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lookalike_client import Client
from support.operations_page import fenced_blocks
from support.paths import MODELS
from support.processes import ServerProcess, server_process
from support.restored_shop import answers, fill, write, writing, written

DRILL, RESTORE = fenced_blocks("## Backup and restore drill")
MODEL = MODELS / "tiny"
PORT = "50061"  # of the page
FLAGS = ("--provider", "cpu", "--intra-op-threads", "1", "--max-concurrent-batches", "1", "--preferred-batch-size", "4")


def run(commands: str, folder: Path) -> str:
    """Run commands of the page as an operator in a folder; each must succeed. Return what they print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DATA": str(folder / "data"),
        "MODEL": str(MODEL),
        "LOOKALIKE_LAME_DUCK_SECONDS": "0",  # nobody balances calls here
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.replace(PORT, str(port))],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill(server: ServerProcess) -> None:
    """End a server as a power cut does."""
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def test_restore_drill(tmp_path: Path) -> None:
    """What was acknowledged before the backup is restored, the rest up to one moment, and all answers are equal.

    The answers are compared with those of another catalog, which got the same writes up to that moment and was never
    backed up or restored.
    """
    backup, drill = DRILL.split("\n", 1)
    data = tmp_path / "data"
    with server_process(MODEL, data, *FLAGS) as server, Client(server.address) as client, Client(server.address) as own:
        fill(client)
        with writing(own) as writes:
            try:
                before = writes.wait_for_more(10)
                run(backup, tmp_path)
                # One that was not acknowledged yet may be in the backup too.
                after = writes.acknowledged + 1
                writes.wait_for_more(10)
                categories = run(f"lookalike --server {server.address} categories", tmp_path)
            finally:
                kill(server)
    printed = run(drill, tmp_path)
    assert printed.startswith("drill: no problems\n")
    assert printed.endswith(f" is ready\n{categories}")

    (data / "catalog.sqlite").write_bytes(os.urandom(10_000))
    stop, *restore, start = RESTORE.splitlines()
    assert (stop, start) == ("systemctl stop lookalike", "systemctl start lookalike")  # the server was killed
    assert run("\n".join(restore), tmp_path) == f"{data}: no problems\n"
    with server_process(MODEL, data, *FLAGS) as server, Client(server.address) as client:
        count = written(client)
        assert before <= count <= after
        restored, distances = answers(client)
        write(client, count)
        assert written(client) == count + 1

    with server_process(MODEL, tmp_path / "untouched", *FLAGS) as server, Client(server.address) as client:
        fill(client)
        for number in range(count):
            write(client, number)
        untouched, expected = answers(client)
    assert restored == untouched
    assert distances == pytest.approx(expected, abs=1e-6)  # a row's place in the index decides how it is rounded


def test_drill_notices_damage(tmp_path: Path) -> None:
    """The drill fails at `verify` where the backup was damaged."""
    with server_process(MODEL, tmp_path / "data", *FLAGS) as server, Client(server.address) as client:
        fill(client)
        run(DRILL.splitlines()[0], tmp_path)
    with (tmp_path / "backup.sqlite").open("r+b") as file:
        file.seek(4096 * 6)
        file.write(b"\xff" * 4096)
    with pytest.raises(AssertionError, match="problem"):
        run(DRILL.split("\n", 1)[1], tmp_path)
