"""A real server under attack: how it is started, and the attack program beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.attack.memory import MIB
from support.paths import MODELS
from support.processes import ServerProcess, server_process

SECONDS = float(os.environ.get("ATTACK_SECONDS", "0"))
"""How long an attack goes on, about, in `make test-attack`; 0 in short tests."""

CALLS = max(10, int(10 * SECONDS))
"""Calls of the honest caller during an attack."""

MAX_GROWTH = 200 * MIB


@contextmanager
def attacked_server(data: Path, *arguments: str) -> Iterator[ServerProcess]:
    """Run `lookalike-server serve` with the tiny model."""
    with server_process(
        *(MODELS / "tiny", data, "--intra-op-threads", "1", "--max-concurrent-batches", "1"),
        *("--preferred-batch-size", "16", "--embedding-cache-bytes", "0", *arguments),
    ) as server:
        yield server


@contextmanager
def flooded(flood: str, address: str, connections: int = 4, source: str = "127.0.0.1") -> Iterator[dict[str, Any]]:
    """Flood the server from a process of its own while the block runs; afterwards the dict says how much."""
    counts: dict[str, Any] = {}
    process = subprocess.Popen(
        (sys.executable, "-m", "support.attack.flood_program", flood, address, str(connections), source),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"flooding\n"
        yield counts
        out, _ = process.communicate(b"", 60)
        counts |= json.loads(out)
    finally:
        process.kill()
        process.communicate()
