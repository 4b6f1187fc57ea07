"""`kill -9` of a process that writes to a store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from lookalike_server.store.maintenance import verify
from support.store_fixtures import DIM, opened, rows

WRITE = """
import sys
from pathlib import Path
import numpy as np
from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.store.catalog_store import Store
from support.store_fixtures import DIM, MODEL, ignore, product

first = int(sys.argv[2])
store = Store(Path(sys.argv[1]), MODEL, ignore)
waiting = []
for number in range(first, 1_000_000):
    vectors = np.full((2, DIM), number, np.float32)
    waiting.append((number, store.upsert(EmbeddedProduct(product(f"p{number}"), vectors))))
    if len(waiting) == 8:
        for done, future in waiting:
            future.result()
            print(done, flush=True)
        waiting = []
"""


def test_acknowledged_writes_survive_a_kill(tmp_path: Path) -> None:
    """Every product that was acknowledged before the process was killed is complete afterwards."""
    folder = tmp_path / "data"
    acknowledged: set[int] = set()
    for number in range(3):
        command = [sys.executable, "-c", WRITE, str(folder), str(number * 10_000)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for _ in range(100 + 37 * number):
                acknowledged.add(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            acknowledged |= {int(line) for line in process.stdout if line.endswith("\n")}
        with opened(folder) as store:
            stored = {product_id: vector for _, _, product_id, _, vector in rows(store)}
            for done in acknowledged:
                assert stored[f"p{done}"] == [done] * DIM
                np.testing.assert_array_equal(store.vectors(f"p{done}"), np.full((2, DIM), done, np.float32))
            assert list(verify(folder)) == []
    assert len(acknowledged) >= 300
