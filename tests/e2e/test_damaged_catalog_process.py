"""A damaged catalog behind the real command: with frontends, and by hand as an operator would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from lookalike.v1 import catalog_service_pb2
from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.store.maintenance import backup
from lookalike_server.store.sqlite import FILE
from support.multiprocess_server import Caller, multiprocess_server
from support.paths import MODELS
from support.serving import rejected
from support.sqlite_pages import leaves, swap_pages
from support.store_fixtures import opened, product

pytestmark = pytest.mark.slow

MODEL = read_model_folder(MODELS / "tiny").model


def fill(data: Path) -> None:
    """Store 600 products."""
    drawn = np.random.default_rng(1).normal(size=(600, 1, MODEL.dim)).astype(np.float32)
    with opened(data, MODEL) as store:
        store.upsert_all(
            [(EmbeddedProduct(product(f"p{number}"), each), None) for number, each in enumerate(drawn)]
        ).result(60)


async def test_frontends(tmp_path: Path) -> None:
    """Health is NOT_SERVING at every frontend once the check has found damage, and calls learn what helps."""
    fill(tmp_path / "data")
    pages = leaves(tmp_path / "data", "products")
    swap_pages(tmp_path / "data", pages[0], pages[-1])
    with multiprocess_server(tmp_path) as server:
        await server.logged("serving")
        event = await server.logged("catalog_damaged")
        assert "verify" in event["remedy"]
        for _ in range(4):  # the kernel chooses a frontend for each connection
            caller = Caller(server.address)
            async with caller.channel:
                await caller.healthy("NOT_SERVING")
                request = catalog_service_pb2.UpdateAttributesRequest(id="p1", attributes={"color": "red"})
                code, message, _ = await rejected(caller.catalog.UpdateAttributes(request))
                assert (code, "verify" in message) == (grpc.StatusCode.DATA_LOSS, True)


def command(*arguments: object) -> tuple[int, str]:
    """Return the exit status and the output on both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "lookalike_server", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_verify_and_restore(tmp_path: Path) -> None:
    """What the errors say works: `verify` says what is damaged, and a backup in the file's place is whole again."""
    data = tmp_path / "data"
    fill(data)
    backup(data, tmp_path / "copy.sqlite")
    pages = leaves(data, "embeddings")
    swap_pages(data, pages[0], pages[-1])
    status, output = command("verify", "--data-dir", data)
    assert (status, "out of order" in output) == (1, True)
    (tmp_path / "copy.sqlite").rename(data / FILE)
    assert command("verify", "--data-dir", data) == (0, f"{data}: no problems\n")


def test_a_start_beside_an_empty_file(tmp_path: Path) -> None:
    """A server does not start with an empty file beside the graphs of a catalog: one line, exit status 1."""
    data = tmp_path / "data"
    (data / "index").mkdir(parents=True)
    (data / "index" / "0.graph").write_bytes(b"left")
    (data / FILE).touch()
    status, output = command(
        "serve", "--model", MODELS / "tiny", "--data-dir", data, "--listen", "127.0.0.1:0", "--provider", "cpu"
    )
    assert status == 1
    assert output.splitlines()[-1].startswith(f"lookalike-server: {data / FILE} is empty, but ")
    assert (data / "index" / "0.graph").read_bytes() == b"left"
