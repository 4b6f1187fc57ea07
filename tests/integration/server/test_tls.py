"""TLS: who can connect, and certificates that change while the server serves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_key
from structlog.testing import capture_logs

from lookalike.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from lookalike_server.app import running
from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from support.certificates import Authority, Files, replace
from support.serving import Serve, Served

OURS, OTHERS = Authority(), Authority()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write the files of a server."""
    return OURS.files(tmp_path / "tls")


async def ask(channel: grpc.aio.Channel, deadline: float = 30.0) -> grpc.StatusCode:
    """Make a call, close the channel, and return the call's code."""
    async with channel:
        try:
            stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            await stub.GetModel(embedding_service_pb2.GetModelRequest(), timeout=deadline)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def target(served: Served) -> str:
    """Return where a server listens."""
    return f"127.0.0.1:{served.app.port}"


async def test_tls_lets_in_who_trusts_the_authority(serve: Serve, files: Files) -> None:
    """A client with the right root is served; with another one, or none at all, it cannot connect."""
    async with serve(**files.settings) as served:
        assert await ask(OURS.channel(target(served))) is grpc.StatusCode.OK
        assert await ask(OTHERS.channel(target(served))) is grpc.StatusCode.UNAVAILABLE
        assert await ask(grpc.aio.insecure_channel(target(served))) is grpc.StatusCode.UNAVAILABLE


async def test_the_server_has_the_name_of_its_certificate(serve: Serve, files: Files) -> None:
    """A client that expects another name does not go on."""
    async with serve(**files.settings) as served:
        assert await ask(OURS.channel(target(served), name="other.example")) is grpc.StatusCode.UNAVAILABLE


async def test_an_expired_certificate_is_not_trusted(serve: Serve, tmp_path: Path) -> None:
    """The server serves it, because its clock may be wrong; no client accepts it."""
    async with serve(**OURS.files(tmp_path / "tls", expired=True).settings) as served:
        assert await ask(OURS.channel(target(served))) is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_asks_for_a_certificate_of_the_authority(serve: Serve, files: Files) -> None:
    """Without one, or with one that somebody else issued, nobody gets in."""
    async with serve(**files.mutual) as served:
        assert await ask(OURS.channel(target(served), client=OURS)) is grpc.StatusCode.OK
        assert await ask(OURS.channel(target(served))) is grpc.StatusCode.UNAVAILABLE
        assert await ask(OURS.channel(target(served), client=OTHERS)) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
    ids=["1.1", "1.2", "1.3"],
)
async def test_old_versions_are_rejected(serve: Serve, files: Files, version: ssl.TLSVersion, accepted: bool) -> None:
    """TLS 1.2 is the oldest."""
    context = ssl.create_default_context(cadata=OURS.roots.decode())
    context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL would not even ask for TLS 1.1
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    async with serve(**files.settings) as served:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", served.app.port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            assert not accepted
        else:
            assert accepted
            writer.close()


@pytest.mark.parametrize(("rotations", "calls"), [pytest.param(20, 250, marks=pytest.mark.slow), (2, 20)])
async def test_certificates_are_renewed_under_load(serve: Serve, files: Files, rotations: int, calls: int) -> None:
    """New connections get the new certificate, of a new authority; no call on an old or a new one fails."""
    async with serve(**files.settings) as served:
        old, codes = OURS, []
        for _ in range(rotations):
            new = Authority()
            async with old.channel(target(served)) as channel:
                stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
                request = embedding_service_pb2.GetModelRequest()
                before = [stub.GetModel(request, timeout=60, wait_for_ready=True) for _ in range(calls // 2)]
                await before[0]
                new.files(files.certificate.parent)
                during = [stub.GetModel(request, timeout=60) for _ in range(calls - len(before))]
                codes += [await call.code() for call in (*before, *during)]
            assert await ask(new.channel(target(served))) is grpc.StatusCode.OK
            assert await ask(old.channel(target(served))) is grpc.StatusCode.UNAVAILABLE
            old = new
        assert codes == [grpc.StatusCode.OK] * rotations * calls


@pytest.mark.parametrize(
    "spoil",
    [
        lambda files: replace(files.certificate, b"not a certificate"),
        lambda files: files.certificate.unlink(),
        lambda files: files.key.chmod(0o644),
    ],
    ids=["broken", "missing", "key open to others"],
)
async def test_a_broken_certificate_leaves_the_old_one_in_force(
    serve: Serve, files: Files, spoil: Callable[[Files], object]
) -> None:
    """It is said once, and a good one ends it."""
    with capture_logs() as log:
        async with serve(**files.settings) as served:
            spoil(files)
            for _ in range(3):
                assert await ask(OURS.channel(target(served))) is grpc.StatusCode.OK
            new = Authority()
            new.files(files.certificate.parent)
            assert await ask(new.channel(target(served))) is grpc.StatusCode.OK
    assert [line["event"] for line in log].count("certificates_not_reloaded") == 1


def _encrypt(files: Files) -> None:
    key = load_key(files.key.read_bytes(), None)
    replace(files.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))


BREAKS: dict[str, tuple[Callable[[Files], object], str]] = {
    "missing certificate": (lambda files: files.certificate.unlink(), "cannot read .*server.pem: No such file"),
    "missing authority": (lambda files: files.client_ca.unlink(), "cannot read .*clients.pem: No such file"),
    "missing key": (lambda files: files.key.unlink(), "cannot read .*server.key: No such file"),
    "mismatched": (lambda files: replace(files.key, _other_key(files)), "is not that of the certificate"),
    "encrypted": (_encrypt, "is encrypted; store it without a passphrase"),
    "not PEM": (lambda files: replace(files.certificate, b"x"), "are not a PEM certificate and its PEM key"),
    "readable by all": (lambda files: files.key.chmod(0o644), "others may use it .mode 0644.; run `chmod 600 "),
    "no authority": (lambda files: replace(files.client_ca, b"x"), "has no PEM certificates of authorities"),
}


def _other_key(files: Files) -> bytes:
    return OURS.files(files.key.parent / "other").key.read_bytes()


@pytest.mark.parametrize("broken", BREAKS)
async def test_bad_files_are_named_at_start(files: Files, tmp_path: Path, broken: str) -> None:
    """The server does not start, and says which file and what to do."""
    change, message = BREAKS[broken]
    change(files)
    settings = Settings(model=tmp_path, data_dir=tmp_path / "data", listen="127.0.0.1:0", **files.mutual)
    with pytest.raises(LookalikeError, match=message) as caught:
        async with running(settings):
            pass
    assert caught.value.code is Code.FAILED_PRECONDITION
