"""Processes that die, ports that are taken and signals, in a server with workers: who loses what, and what is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2
from support.multiprocess_server import Crew, crew
from support.paths import MODELS
from support.processes import server_process
from support.serving import noise, product, raw, rejected, until


def children(pid: int) -> list[str]:
    """The states of the processes that this one has started: "S", "R", "Z" ..."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, parent = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            if int(parent) == pid:
                found.append(state)
    return found


def has_name(port: int) -> bool:
    """Whether a server still keeps others from this port."""
    return f"lookalike-server 127.0.0.1 {port}" in Path("/proc/net/unix").read_text(encoding="utf-8")


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that waits to be buried has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Crew]:
    """A server with two workers."""
    with crew(tmp_path) as started:
        started.wait_for("serving")
        yield started


def embed(seed: int = 1) -> embedding_service_pb2.EmbedRequest:
    """A good request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


def open_files(pid: int) -> Counter[str]:
    """What the process's descriptors are, and how many of each; the catalog's come with the threads that read it."""
    names: list[str] = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            names.append(str(file.readlink()).partition(":[")[0])
    return Counter(name for name in names if "catalog.sqlite" not in name)


async def test_killed_worker_loses_its_own_calls_only(two: Crew) -> None:
    """A killed worker's calls fail UNAVAILABLE and are given up, those of others are answered, and it is replaced."""
    async with two.to("worker 1") as one, two.to("worker 2") as other:
        with two.held():
            first = asyncio.ensure_future(other.embedding.Embed(embed(100)))
            await two.said("held")
            lost = [asyncio.ensure_future(one.embedding.Embed(embed(seed))) for seed in range(3)]
            # Its stream cannot be answered before its calls are in the queue: they went by the same connection.
            await one.catalog.ListCategories(catalog_service_pb2.ListCategoriesRequest())
            kept = asyncio.ensure_future(other.embedding.Embed(embed(7)))
            await other.catalog.ListCategories(catalog_service_pb2.ListCategoriesRequest())
            before = two.pid("worker 1")
            os.kill(before, signal.SIGKILL)
            for call in lost:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            for count in (1, 2, 3):
                await two.said("images_dropped", count, cancelled=1)
            await two.said("serving", 2)
        assert (await kept).stats.batch_size == 1
        await first
        assert two.pid("worker 1") != before
        async with two.to("worker 1") as again:
            assert len((await again.embedding.Embed(embed())).embedding) == 48


async def test_killed_model_process_comes_back(two: Crew) -> None:
    """Without the model health is NOT_SERVING and calls are UNAVAILABLE with RetryInfo; then all is there again."""
    async with two.to("worker 1") as one, two.to("worker 2") as other:
        stored = catalog_service_pb2.UpsertProductsRequest(products=[product("a", 1)])
        assert (await one.catalog.UpsertProducts(stored)).results[0].status.code == 0
        with two.held():
            lost = [asyncio.ensure_future(caller.embedding.Embed(embed())) for caller in (one, other)]
            await two.said("held")
            # The next one cannot be ready, and so nobody open, before the lock is gone: it warms the model.
            os.kill(two.pid("model"), signal.SIGKILL)
            for call in lost:
                code, _, status = await rejected(call)
                assert code == grpc.StatusCode.UNAVAILABLE
                assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
            for caller in (one, other):
                await caller.healthy("NOT_SERVING")
                code, _, _ = await rejected(caller.embedding.Embed(embed()))
                assert code == grpc.StatusCode.UNAVAILABLE
        for caller in (one, other):
            await caller.healthy("SERVING")
            assert len((await caller.embedding.Embed(embed())).embedding) == 48
            found = await caller.catalog.GetProduct(catalog_service_pb2.GetProductRequest(id="a"))
            assert found.product.id == "a"
    assert two.end() == 0


async def test_nothing_piles_up(two: Crew) -> None:
    """However often processes are killed and replaced, nobody has more files open or memory mapped, nor is a zombie."""

    def opened() -> list[Counter[str]]:
        return [open_files(pid) for pid in (two.process.pid, two.pid("model"))]

    def mapped() -> list[int]:
        return [open_files(two.pid(name))["/memfd:lookalike-rows (deleted)"] for name in ("model", "worker 1")]

    def as_at_first() -> bool:
        return all(now <= then for now, then in zip(opened(), first, strict=True))

    first: list[Counter[str]] = []
    for times in range(3):
        for at, name in enumerate(("model", "worker 2", "worker 1"), start=2 + 3 * times):
            os.kill(two.pid(name), signal.SIGKILL)
            await two.said("serving", at)
        async with two.to("worker 1") as one:
            await one.embedding.Embed(embed())
        # what is closed late is not left
        await until(lambda: mapped() == [2, 1])
        first = first or opened()
        await until(as_at_first)
    states = children(two.process.pid)
    assert len(states) == 3
    assert "Z" not in states


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_lets_calls_finish(two: Crew, number: signal.Signals) -> None:
    """A signal to every process of the server drains it: a call under way is answered, and the status is 0."""
    async with two.to("worker 1") as one, two.to("worker 2") as other:
        with two.held():
            inside = asyncio.ensure_future(one.embedding.Embed(embed()))
            await two.said("held")
            for pid in two.pids:  # as a terminal or a service manager does
                os.kill(pid, number)
            await two.said("draining")
            await one.healthy("NOT_SERVING")
            code, message, _ = await rejected(one.embedding.Embed(embed()))
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in message
        assert len((await inside).embedding) == 48
        del other
    assert two.ended() == 0
    assert [line["event"] for line in two.lines if line["event"] in ("closed", "stopped")] == ["closed", "stopped"]


async def test_second_signal_does_not_wait(two: Crew) -> None:
    """A second signal cancels what is under way; the catalog is closed all the same."""
    async with two.to("worker 1") as one:
        with two.held():
            inside = asyncio.ensure_future(one.embedding.Embed(embed()))
            await two.said("held")
            two.process.send_signal(signal.SIGTERM)
            await two.said("draining")
            two.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError):
                await inside
    assert two.ended() == 0
    assert two.lines[-1]["event"] == "stopped"
    # of the one worker that had a call inside, and of no other
    cut = [line for line in two.lines if "did not finish" in line["event"]]
    assert [line["process"] for line in cut] == ["worker 1"]


async def test_nobody_outlives_the_supervisor(two: Crew, tmp_path: Path) -> None:
    """When the supervisor is killed the others end, also in the midst of a call, and leave port and catalog free."""
    port = int(two.address.rpartition(":")[2])
    assert has_name(port)
    async with two.to("worker 1") as one:
        with two.held():
            inside = asyncio.ensure_future(one.embedding.Embed(embed()))
            await two.said("held")
            two.process.kill()
            assert two.ended() == -signal.SIGKILL
            with pytest.raises(grpc.aio.AioRpcError):
                await inside
    await until(lambda: not any(map(is_running, two.pids)))
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        free.listen()
    assert not has_name(port)
    with server_process(MODELS / "tiny", tmp_path / "data") as alone:
        assert alone.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("workers", ["0", "2"])
async def test_port_is_one_servers(two: Crew, tmp_path: Path, workers: str) -> None:
    """A second server on the port is rejected with one line, with workers or without."""
    rejection = await _rejection(
        "--data-dir", str(tmp_path / "other"), "--listen", two.address, "--frontend-processes", workers
    )
    assert f"cannot listen on {two.address}" in rejection


async def test_port_of_a_single_process_is_not_shared(tmp_path: Path) -> None:
    """Workers do not join a server that runs in one process."""
    with server_process(MODELS / "tiny", tmp_path / "data") as alone:
        rejection = await _rejection(
            "--data-dir", str(tmp_path / "other"), "--listen", alone.address, "--frontend-processes", "1"
        )
        assert f"cannot listen on {alone.address}" in rejection
        assert alone.stop(signal.SIGTERM) == 0


async def test_port_of_another_program_is_not_joined(tmp_path: Path) -> None:
    """Nor do they join a program that would share its port, as gRPC servers do unless told otherwise."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        rejection = await _rejection(
            "--data-dir", str(tmp_path / "data"), "--listen", address, "--frontend-processes", "1"
        )
        assert f"cannot listen on {address}" in rejection


async def test_command_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Without a usable model, catalog, address or number of workers the command ends with one line, no traceback."""
    data = ("--data-dir", str(tmp_path / "data"))
    for arguments, expected in (
        ((*data, "--frontend-processes", "1", "--model", str(tmp_path / "none")), "lookalike-exporter export"),
        ((*data, "--frontend-processes", "1", "--listen", "999.0.0.1:1"), "cannot listen"),
        ((*data, "--frontend-processes", "1", "--listen", "50051"), "cannot listen"),
        ((*data, "--frontend-processes", "1", "--auth-keys-file", str(tmp_path / "none")), "cannot read the tokens"),
        ((*data, "--frontend-processes", "-1"), "workers"),
        ((*data, "--frontend-processes", "65"), "workers"),
    ):
        assert expected in await _rejection(*arguments)


async def test_model_process_that_dies_again_and_again_ends_the_server(tmp_path: Path) -> None:
    """A model that never comes up is not tried for ever: the command ends and says what happened."""
    (tmp_path / "hold.broken").touch()
    with crew(tmp_path) as broken:
        assert await asyncio.to_thread(broken.ended) == 1
        deaths = [line["deaths"] for line in broken.lines if line["event"] == "ended" and line["child"] == "model"]
        assert deaths == [1, 2, 3, 4, 5]
        assert broken.other[-1].startswith("lookalike-server: the model process ended 5 times in a row")
        assert "status 7" in broken.other[-1]


async def _rejection(*arguments: str) -> str:
    """What the command says when it cannot start: its last line."""
    usual: dict[str, Any] = {"--model": str(MODELS / "tiny"), "--listen": "127.0.0.1:0"}
    words = [word for flag, value in usual.items() if flag not in arguments for word in (flag, value)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lookalike_server", "serve", *words, *arguments), stderr=asyncio.subprocess.PIPE
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()  # it did start after all
    assert process.returncode == 1
    assert "Traceback" not in errors.decode()
    assert "did not finish" not in errors.decode()  # there was no call
    last = errors.decode().strip().splitlines()[-1]
    assert last.startswith("lookalike-server: ")
    return last
