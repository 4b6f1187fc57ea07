"""Every method with every credential, over real gRPC, is as the table in docs/keys.md says."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike_server.rpc.auth import WRITES
from lookalike_server.rpc.interceptors.handlers import PROBES
from lookalike_server.rpc.message_limits import methods
from support.certificates import Authority
from support.credentials import AUDIENCE, Issuer, add_key, bearer, revoke_key
from support.method_calls import ALL, OTHER, OWN, Metadata, MethodCalls
from support.multiprocess_server import multiprocess_server
from support.paths import ROOT
from support.serving import Serve, connect

TABLE = {
    cells[0]: cells[1:]
    for line in (ROOT / "docs" / "keys.md").read_text(encoding="utf-8").splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 7 and re.match("[A-Z]", cells[0])
}
"""By row: none, reader, writer, bound to its category, to another one, to all."""

DENIED = "PERMISSION_DENIED"


class Credentials:
    """Files of credentials, and metadata by what it stands for."""

    def __init__(self, folder: Path) -> None:
        keys, issuer = folder / "keys.json", Issuer(folder / "jwks.json")
        revoked = add_key(keys, "admin")
        revoke_key(keys, revoked)
        expired = issuer.token(roles="admin", exp=int(time.time()) - 3600)
        other = Issuer(folder / "other.json")
        self.flags: dict[str, Any] = {"auth_keys_file": keys, "jwt_jwks_file": issuer.path, "jwt_audience": AUDIENCE}
        self.invalid: dict[str, Metadata] = {
            "none": (),
            "wrong": bearer("lk_012345678901_" + "0" * 64),
            "Basic": (("authorization", f"Basic {add_key(keys, 'admin')}"),),
            "twice": bearer(add_key(keys, "admin")) * 2,
            "wrong header": (("x-api-key", add_key(keys, "admin")),),
            "revoked": bearer(revoked),
            "expired": bearer(expired),
            "wrong audience": bearer(issuer.token(roles="admin", aud="other")),
            "wrong issuer": bearer(other.token(roles="admin")),
        }
        self.by_role: dict[str, tuple[Metadata, ...]] = {
            role: (bearer(add_key(keys, role)), bearer(issuer.token("RS256", roles=[role])))
            for role in ("reader", "writer", "admin")
        }
        self.bound: dict[str, tuple[Metadata, ...]] = {
            role: (
                bearer(add_key(keys, role, categories=[OWN])),
                bearer(issuer.token(roles=[role], categories=[OWN])),
            )
            for role in ("reader", "writer", "admin")
        }

    def expected(self, row: str) -> list[tuple[str, Metadata, str, str]]:
        """Return for each call of a row what it stands for, what it comes with, its category, and its code."""
        none, reader, writer, *bound = TABLE[row]
        codes = {category: code for category, code in zip((OWN, OTHER, ALL), bound, strict=True) if code != "-"}
        calls = [(name, metadata, next(iter(codes)), none) for name, metadata in self.invalid.items()]
        for role, sent in self.by_role.items():
            code = reader if role == "reader" else writer
            calls += [(role, metadata, category, code) for metadata in sent for category in codes]
        for role, sent in self.bound.items():
            denied = DENIED if role == "reader" and reader == DENIED else ""
            calls += [
                (f"bound {role}", metadata, category, denied or code)
                for metadata in sent
                for category, code in codes.items()
            ]
        return calls


async def check(calls: MethodCalls, credentials: Credentials) -> None:
    """Make every call, and compare its code with the table."""
    admin = credentials.by_role["admin"][0]
    writes = {method.rpartition("/")[2] for method in WRITES}
    await calls.store(admin)
    for row in TABLE:
        for name, metadata, category, code in credentials.expected(row):
            if row.partition(" ")[0] in writes:
                await calls.store(admin)
            found = await calls.code(row, category, metadata)
            assert (row, name, category, found) == (row, name, category, code)
    await calls.store(admin)
    for sent in credentials.bound.values():
        for metadata in sent:
            assert await calls.categories_listed(metadata) == [OWN]
    assert await calls.categories_listed(admin) == [OTHER, OWN]


async def test_the_table_has_every_method() -> None:
    """Every method has a row, the probes are open to anybody, and no row is without a call."""
    rows = {row.partition(" ")[0] for row in TABLE}
    assert {name.rpartition("/")[2] for name, _ in methods()} <= rows
    for probe in PROBES:
        assert set(TABLE[probe.rpartition("/")[2]]) == {"OK", "-"}
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        assert set(MethodCalls(channel).rows) == set(TABLE)


async def test_the_table_holds(serve: Serve, tmp_path: Path) -> None:
    """Every method with every credential has the code of the table."""
    credentials = Credentials(tmp_path)
    async with serve(**credentials.flags) as served:
        await check(MethodCalls(served.channel), credentials)


@pytest.mark.slow
async def test_the_table_holds_over_tls(serve: Serve, tmp_path: Path) -> None:
    """Encryption changes nothing about who may call."""
    credentials, authority = Credentials(tmp_path), Authority()
    async with (
        serve(**credentials.flags, **authority.files(tmp_path / "tls").settings) as served,
        authority.channel(f"127.0.0.1:{served.app.port}") as channel,
    ):
        await check(MethodCalls(channel), credentials)


@pytest.mark.slow
async def test_the_table_holds_with_frontend_processes(tmp_path: Path) -> None:
    """Processes that take calls judge them the same."""
    credentials = Credentials(tmp_path)
    flags = [word for name, value in credentials.flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with multiprocess_server(tmp_path, *flags) as server:
        await server.logged("serving")
        async with connect(server.address) as channel:
            await check(MethodCalls(channel), credentials)
