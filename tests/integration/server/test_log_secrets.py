"""No token and no byte of an image is in the log, at any level and in any format, whatever becomes of the calls."""

from __future__ import annotations

import base64
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.dev import RichTracebackFormatter

from lookalike_server.app import running
from lookalike_server.config import Settings
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.listening import parse_listen
from lookalike_server.rpc_assembly import rpc_server
from lookalike_server.telemetry import LogObserver, configure_log
from support.credentials import AUDIENCE, Issuer, add_key, bearer
from support.fakes import FailingSession
from support.faulty_engine import FaultyEngine
from support.method_calls import ALL, OWN, Metadata, MethodCalls
from support.paths import MODELS
from support.serving import connect, encoded, load_session, noise, raw

IMAGES = (encoded(noise(1)).encoded, raw(noise(0)).rgb.data, raw(noise(1)).rgb.data)
"""What the calls send: a file, and pixels."""


class Log(io.StringIO):
    """What the process writes to standard error, also by the standard library's logging."""

    def secrets(self, *tokens: str) -> list[str]:
        """Return which tokens, parts of tokens and pieces of images are in it, in any way that Python writes them."""
        text = self.getvalue()
        # Also the beginnings, because what is long may be shortened.
        parts = {part[:24] for token in tokens for part in (token, token.split("_")[-1], token.split(".")[-1])}
        parts = {part for part in parts if len(part) >= 12}  # of a signature with a "_" near its end little is left
        for data in IMAGES:
            for start in range(0, len(data) - 12, 12):
                piece = data[start : start + 12]
                if len(set(piece)) < 6:
                    continue  # such as a run of zeros, which may be anything
                decimal = [", ".join(map(str, piece[:6])), " ".join(f"{byte:3}" for byte in piece[:6])]
                parts |= {repr(piece)[2:-1], piece.hex(), base64.b64encode(piece).decode(), *decimal}
        return sorted(part for part in parts if part in text)


@pytest.fixture(params=["console", "json"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Log everything, in each format."""
    log = Log()
    monkeypatch.setattr(sys, "stderr", log)
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    configure_log(request.param, "debug")
    yield log
    logging.getLogger().removeHandler(handler)


def settings(tmp_path: Path, **more: Any) -> Settings:
    """Make settings of a server with keys and tokens."""
    return Settings(
        model=MODELS / "tiny",
        data_dir=tmp_path / "data",
        listen="127.0.0.1:0",
        provider="cpu",
        auth_keys_file=tmp_path / "keys.json",
        jwt_jwks_file=tmp_path / "jwks.json",
        jwt_audience=AUDIENCE,
        max_concurrent_batches=1,
        embedding_cache_bytes=0,
        **more,
    )


class Planted:
    """Credentials, valid and not, in every place of a call's metadata."""

    def __init__(self, folder: Path) -> None:
        issuer = Issuer(folder / "jwks.json")
        key, token = add_key(folder / "keys.json", "writer"), issuer.token(roles="writer")
        wrong = "lk_012345678901_" + "9a" * 32
        expired = issuer.token(exp=1_000_000_000)
        self.tokens = (key, token, wrong, expired)
        self.valid = (bearer(key), bearer(token))
        self.metadata: list[Metadata] = [
            *(bearer(each) for each in self.tokens),
            bearer(key) * 2,
            *((("authorization", scheme + key),) for scheme in ("", "Basic ", "Bearer Bearer ")),
            *(((name, key), *bearer(key)) for name in ("x-api-key", "x-request-id", "user-agent", "cookie")),
            (("x-request-id", token), *bearer(token)),
            (("x-request-id", f"Bearer {key}"), ("x-token-bin", key.encode())),
            bearer(key * 120),
        ]


async def test_faults_in_every_method(log: Log, tmp_path: Path) -> None:
    """Calls of every method, with credentials of every kind, that hit a fault."""
    planted = Planted(tmp_path)
    observer, gate = LogObserver(), Gate()
    server = rpc_server(settings(tmp_path), gate, observer)
    port = await server.start(parse_listen("127.0.0.1:0"))
    gate.open(FaultyEngine(observer))
    async with connect(f"127.0.0.1:{port}") as channel:
        calls = MethodCalls(channel)
        for row in calls.rows:
            codes = {await calls.code(row, OWN, metadata) for metadata in planted.metadata}
            assert codes <= {"OK", "INTERNAL", "UNAUTHENTICATED"}
            # Of methods that need no engine nothing fails.
            if row.partition(" ")[0] not in ("GetModel", "ServerMetadata", "ModelMetadata", "Health.Check"):
                assert "INTERNAL" in codes or codes == {"OK"}
    observer.flush()
    await server.stop()
    assert log.getvalue().count("Traceback (most recent call last)") > 8
    assert "call_failed" in log.getvalue()
    assert "item_failed" in log.getvalue()
    assert log.secrets(*planted.tokens) == []


async def test_calls_of_every_kind(log: Log, tmp_path: Path) -> None:
    """Calls that succeed, are rejected, or fail with a batch of the model."""
    planted = Planted(tmp_path)
    sessions: list[FailingSession] = []

    def load(*arguments: Any) -> FailingSession:
        sessions.append(FailingSession(load_session(*arguments), lambda number: number % 2 == 1))
        return sessions[-1]

    async with running(settings(tmp_path), load_session=load) as app, connect(f"127.0.0.1:{app.port}") as channel:
        calls = MethodCalls(channel)
        await calls.store(planted.valid[0])
        for session in sessions:
            session.begin()
        for row in calls.rows:
            for metadata in planted.metadata:
                await calls.code(row, OWN, metadata)
                await calls.code(row, ALL, metadata)
    assert "batch_failed" in log.getvalue()
    assert "call_completed" in log.getvalue()
    assert log.secrets(*planted.tokens) == []


async def test_a_log_with_local_variables_would_fail(tmp_path: Path) -> None:
    """The same search for secrets finds them in what structlog prints by itself where rich is installed."""
    planted = Planted(tmp_path)
    log = Log()

    def fail(metadata: Metadata, image: bytes) -> None:
        raise RuntimeError("a fault")

    try:
        fail(planted.valid[0], IMAGES[0][:40])
    except RuntimeError:
        RichTracebackFormatter(show_locals=True, width=400)(log, sys.exc_info())  # type: ignore[arg-type]
    found = log.secrets(*planted.tokens)
    assert planted.tokens[0][:24] in found
    assert len(found) > 2
