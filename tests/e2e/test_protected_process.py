"""A server process as it is put in front of others: TLS, what it does not do unprotected, and whose its files are."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from support.certificates import Authority
from support.paths import MODELS
from support.processes import SERVE, server_process

pytestmark = pytest.mark.slow

AUTHORITY = Authority()


@pytest.mark.parametrize("frontends", ["0", "2"])
async def test_tls_with_and_without_front_ends(tmp_path: Path, frontends: str) -> None:
    """The process that listens speaks TLS, whichever it is, and asks for a certificate."""
    files = AUTHORITY.files(tmp_path / "tls")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in files.mutual.items()]
    with server_process(MODELS / "tiny", tmp_path / "data", "--frontend-processes", frontends, *flags) as server:
        async with AUTHORITY.channel(server.address, client=AUTHORITY) as channel:
            stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            request = embedding_service_pb2.GetModelRequest()
            assert (await stub.GetModel(request, wait_for_ready=True, timeout=60)).dim
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await stub.GetModel(request, timeout=60)


@pytest.mark.parametrize("flags", [(), ("--frontend-processes", "1")], ids=["alone", "front ends"])
@pytest.mark.parametrize(
    ("listen", "problem"),
    [
        ("0.0.0.0:0", "--tls-certificate-file and --tls-key-file, or --insecure"),
        ("127.0.0.1:70000", "70000 is not a port"),
        ("127.0.0.1", "it has no port"),
        ("no such host:1", "is not an address"),
        ("192.0.2.1:1", "--insecure"),
    ],
)
def test_what_it_does_not_listen_on(tmp_path: Path, flags: tuple[str, ...], listen: str, problem: str) -> None:
    """It ends at once, with one line that says what to do."""
    arguments = ("--model", str(MODELS / "tiny"), "--data-dir", str(tmp_path / "data"), "--listen", listen, *flags)
    ended = subprocess.run((*SERVE, *arguments), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert problem in ended.stderr.splitlines()[-1]


async def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    """Clients on the same machine need no port."""
    with server_process(MODELS / "tiny", tmp_path / "data", "--listen", f"unix:{tmp_path}/socket"):
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/socket") as channel:
            stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            assert (await stub.GetModel(embedding_service_pb2.GetModelRequest(), timeout=60)).dim


def test_the_catalog_is_its_owners_alone(tmp_path: Path) -> None:
    """A new folder has mode 0700, and all files in it 0600; one that was open is closed but for the folder itself."""
    data = tmp_path / "data"
    with server_process(MODELS / "tiny", data) as server:
        assert server.stop(15) == 0
    assert modes(data) == {0o700, 0o600}
    data.chmod(0o755)
    (data / "catalog.sqlite").chmod(0o644)
    with server_process(MODELS / "tiny", data) as server:
        assert server.stop(15) == 0
    assert modes(data) == {0o755, 0o700, 0o600}


def modes(folder: Path) -> set[int]:
    """Return the modes of a folder and of all in it."""
    return {stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}
