"""Processes that die, ports in use and signals, in a server with frontends: which calls fail, and what remains."""

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
from support.multiprocess_server import MultiprocessServer, multiprocess_server
from support.paths import MODELS
from support.processes import server_process
from support.serving import noise, product, raw, rejected, until

pytestmark = pytest.mark.slow


def children(pid: int) -> list[str]:
    """Return the states of a process's children: "S", "R", "Z", ..."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, parent = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            if int(parent) == pid:
                found.append(state)
    return found


def is_reserved(port: int) -> bool:
    """Whether a supervisor still reserves this port."""
    return f"lookalike-server 127.0.0.1 {port}" in Path("/proc/net/unix").read_text(encoding="utf-8")


def is_running(pid: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def two(tmp_path: Path) -> Iterator[MultiprocessServer]:
    """Run a server with two frontends."""
    with multiprocess_server(tmp_path) as started:
        started.wait_for("serving")
        yield started


def embed(seed: int = 1) -> embedding_service_pb2.EmbedRequest:
    """Make a valid request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


def open_files(pid: int) -> Counter[str]:
    """Count a process's open files by name, except the catalog's, of which each thread that reads it has its own."""
    names: list[str] = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            names.append(str(file.readlink()).partition(":[")[0])
    return Counter(name for name in names if "catalog.sqlite" not in name)


async def test_killed_frontend_loses_only_its_own_calls(two: MultiprocessServer) -> None:
    """A killed frontend's calls fail UNAVAILABLE and are cancelled, others succeed, and it is restarted."""
    async with two.connect("frontend 1") as one, two.connect("frontend 2") as other:
        with two.runs_held():
            first = asyncio.ensure_future(other.embedding.Embed(embed(100)))
            await two.logged("run_held")
            lost = [asyncio.ensure_future(one.embedding.Embed(embed(seed))) for seed in range(3)]
            # This call returns only after the others are in the queue: they went through the same connection.
            await one.catalog.ListCategories(catalog_service_pb2.ListCategoriesRequest())
            kept = asyncio.ensure_future(other.embedding.Embed(embed(7)))
            await other.catalog.ListCategories(catalog_service_pb2.ListCategoriesRequest())
            before = two.pid("frontend 1")
            os.kill(before, signal.SIGKILL)
            for call in lost:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            for count in (1, 2, 3):
                await two.logged("images_dropped", count, cancelled=1)
            await two.logged("serving", 2)
        assert (await kept).stats.batch_size == 1
        await first
        assert two.pid("frontend 1") != before
        async with two.connect("frontend 1") as again:
            assert len((await again.embedding.Embed(embed())).embedding) == 48


async def test_killed_engine_is_restarted(two: MultiprocessServer) -> None:
    """Without the engine health is NOT_SERVING and calls are UNAVAILABLE with RetryInfo, until it is restarted."""
    async with two.connect("frontend 1") as one, two.connect("frontend 2") as other:
        stored = catalog_service_pb2.UpsertProductsRequest(products=[product("a", 1)])
        assert (await one.catalog.UpsertProducts(stored)).results[0].status.code == 0
        with two.runs_held():
            lost = [asyncio.ensure_future(caller.embedding.Embed(embed())) for caller in (one, other)]
            await two.logged("run_held")
            # No frontend serves before the lock is released, because the next engine has to warm up the model.
            os.kill(two.pid("engine"), signal.SIGKILL)
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
    assert two.stop() == 0


async def test_restarts_leak_nothing(two: MultiprocessServer) -> None:
    """However often processes are killed and restarted, open files and mapped memory do not grow, without zombies."""

    def opened() -> list[Counter[str]]:
        return [open_files(pid) for pid in (two.process.pid, two.pid("engine"))]

    def mapped() -> list[int]:
        return [open_files(two.pid(name))["/memfd:lookalike-images (deleted)"] for name in ("engine", "frontend 1")]

    def as_at_first() -> bool:
        return all(now <= then for now, then in zip(opened(), first, strict=True))

    first: list[Counter[str]] = []
    for times in range(3):
        for at, name in enumerate(("engine", "frontend 2", "frontend 1"), start=2 + 3 * times):
            os.kill(two.pid(name), signal.SIGKILL)
            await two.logged("serving", at)
        async with two.connect("frontend 1") as one:
            await one.embedding.Embed(embed())
        # some files are closed late
        await until(lambda: mapped() == [2, 1])
        first = first or opened()
        await until(as_at_first)
    states = children(two.process.pid)
    assert len(states) == 3
    assert "Z" not in states


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_lets_calls_finish(two: MultiprocessServer, number: signal.Signals) -> None:
    """A signal to every process of the server drains it: a call under way succeeds, and the exit status is 0."""
    async with two.connect("frontend 1") as one, two.connect("frontend 2") as other:
        with two.runs_held():
            inside = asyncio.ensure_future(one.embedding.Embed(embed()))
            await two.logged("run_held")
            for pid in two.pids:  # as a terminal or a service manager does
                os.kill(pid, number)
            await two.logged("draining")
            while (state := one.channel.get_state()) == grpc.ChannelConnectivity.READY:
                await one.channel.wait_for_state_change(state)  # it has read the GOAWAY
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await one.embedding.Embed(embed())
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert len((await inside).embedding) == 48
        del other
    assert two.wait() == 0
    assert [line["event"] for line in two.log if line["event"] in ("engine_closed", "stopped")] == [
        "engine_closed",
        "stopped",
    ]


async def test_second_signal_does_not_wait(two: MultiprocessServer) -> None:
    """A second signal cancels what is under way; the catalog is closed all the same."""
    async with two.connect("frontend 1") as one:
        with two.runs_held():
            inside = asyncio.ensure_future(one.embedding.Embed(embed()))
            await two.logged("run_held")
            two.process.send_signal(signal.SIGTERM)
            await two.logged("draining")
            two.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError):
                await inside
    assert two.wait() == 0
    assert two.log[-1]["event"] == "stopped"
    # only by the frontend that had a call under way
    cut = two.events("shutdown_grace_exceeded")
    assert [line["process"] for line in cut] == ["frontend 1"]


async def test_no_process_outlives_the_supervisor(two: MultiprocessServer, tmp_path: Path) -> None:
    """When the supervisor is killed the others end, also during a call, and release the port and the catalog."""
    port = int(two.address.rpartition(":")[2])
    assert is_reserved(port)
    async with two.connect("frontend 1") as one:
        with two.runs_held():
            inside = asyncio.ensure_future(one.embedding.Embed(embed()))
            await two.logged("run_held")
            two.process.kill()
            assert two.wait() == -signal.SIGKILL
            with pytest.raises(grpc.aio.AioRpcError):
                await inside
    await until(lambda: not any(map(is_running, two.pids)))
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        free.listen()
    assert not is_reserved(port)
    with server_process(MODELS / "tiny", tmp_path / "data") as alone:
        assert alone.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("frontends", ["0", "2"])
async def test_port_is_one_servers(two: MultiprocessServer, tmp_path: Path, frontends: str) -> None:
    """A second server on the port exits with one line, with or without frontends."""
    rejection = await _rejection(
        "--data-dir", str(tmp_path / "other"), "--listen", two.address, "--frontend-processes", frontends
    )
    assert f"cannot listen on {two.address}" in rejection


async def test_port_of_a_single_process_is_not_shared(tmp_path: Path) -> None:
    """Frontends do not share the port of a server that runs in a single process."""
    with server_process(MODELS / "tiny", tmp_path / "data") as alone:
        rejection = await _rejection(
            "--data-dir", str(tmp_path / "other"), "--listen", alone.address, "--frontend-processes", "1"
        )
        assert f"cannot listen on {alone.address}" in rejection
        assert alone.stop(signal.SIGTERM) == 0


async def test_port_of_another_program_is_not_joined(tmp_path: Path) -> None:
    """Nor do they share the port of another program that would allow it, as gRPC servers do by default."""
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
    """Without a usable model, keys file, address or number of frontends the command exits with one line."""
    data = ("--data-dir", str(tmp_path / "data"))
    for arguments, expected in (
        ((*data, "--frontend-processes", "1", "--model", str(tmp_path / "none")), "lookalike-exporter export"),
        ((*data, "--frontend-processes", "1", "--listen", "999.0.0.1:1"), "cannot listen"),
        ((*data, "--frontend-processes", "1", "--listen", "50051"), "cannot listen"),
        ((*data, "--frontend-processes", "1", "--auth-keys-file", str(tmp_path / "none")), "cannot read the keys"),
        ((*data, "--frontend-processes", "-1"), "frontend_processes"),
        ((*data, "--frontend-processes", "65"), "frontend_processes"),
    ):
        assert expected in await _rejection(*arguments)


async def test_engine_that_keeps_exiting_ends_the_server(tmp_path: Path) -> None:
    """An engine that never starts is not restarted forever: the command exits and says why."""
    (tmp_path / "lock.broken").touch()
    with multiprocess_server(tmp_path) as broken:
        assert await asyncio.to_thread(broken.wait) == 1
        exits = [line["exits"] for line in broken.events("process_exited") if line["child"] == "engine"]
        assert exits == [1, 2, 3, 4, 5]
        assert broken.other_lines[-1].startswith("lookalike-server: the engine process exited 5 times in a row")
        assert "status 7" in broken.other_lines[-1]


async def _rejection(*arguments: str) -> str:
    """Return the last line of a command that cannot start."""
    usual: dict[str, Any] = {"--model": str(MODELS / "tiny"), "--listen": "127.0.0.1:0"}
    words = [word for flag, value in usual.items() if flag not in arguments for word in (flag, value)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lookalike_server", "serve", *words, *arguments), stderr=asyncio.subprocess.PIPE
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()  # it has started after all
    assert process.returncode == 1
    assert "Traceback" not in errors.decode()
    assert "shutdown_grace_exceeded" not in errors.decode()  # there was no call
    last = errors.decode().strip().splitlines()[-1]
    assert last.startswith("lookalike-server: ")
    return last
