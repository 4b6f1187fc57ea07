"""The audit log has a line for each write, over real gRPC: who, what, when, and what became of it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lookalike.v1 import catalog_service_pb2 as pb
from support.credentials import add_key, bearer
from support.method_calls import ALL, OTHER, OWN, MethodCalls
from support.multiprocess_server import multiprocess_server
from support.serving import Serve, connect, encoded, noise, product

CATALOG = "/lookalike.v1.CatalogService/"


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def all_files(path: Path) -> list[Path]:
    """Return the log and the files before it."""
    return list(path.parent.glob(f"{path.name}*"))


async def test_every_write_has_a_line(serve: Serve, tmp_path: Path) -> None:
    """Of each kind of write, with the outcome of each product that failed; reads have none."""
    keys, path = tmp_path / "keys.json", tmp_path / "audit.jsonl"
    writer = add_key(keys, "writer", "shoes-team", ["Shoes"])
    async with serve(auth_keys_file=keys, audit_log=path) as served:
        metadata = (*bearer(writer), ("x-request-id", "abc"))
        products = [product("a", 1), product("b", 2, "Hats"), product("c", 3)]
        await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=products), metadata=metadata)
        await served.catalog.GetProduct(pb.GetProductRequest(id="a"), metadata=metadata)
        change = pb.UpdateAttributesRequest(id="a", attributes={"color": "red"})
        await served.catalog.UpdateAttributes(change, metadata=metadata)
        await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["a", "nobody"]), metadata=metadata)
        imported = [
            pb.ImportProductsRequest(product=product(name, 1, category))
            for name, category in (("d", "Shoes"), ("e\n", "Shoes"), ("f", "Hats"))
        ]
        # One at a time, so that the order is known.
        for each in imported:
            assert [_ async for _ in served.catalog.ImportProducts(iter([each]), metadata=metadata)]
    found = lines(path)
    for line in found:
        assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
        assert line.pop("peer").startswith("ipv4:127.0.0.1:")
        assert (line.pop("identity"), line.pop("role"), line.pop("request_id")) == ("shoes-team", "writer", "abc")
    failed = {"b": "PERMISSION_DENIED"}
    assert found == [
        {"method": f"{CATALOG}UpsertProducts", "outcome": "OK", "ids": ["a", "b", "c"], "failed": failed},
        {"method": f"{CATALOG}UpdateAttributes", "outcome": "OK", "ids": ["a"]},
        {
            "method": f"{CATALOG}DeleteProducts",
            "outcome": "OK",
            "ids": ["a", "nobody"],
            "failed": {"nobody": "NOT_FOUND"},
        },
        {"method": f"{CATALOG}ImportProducts", "outcome": "OK", "ids": ["d"]},
        {"method": f"{CATALOG}ImportProducts", "outcome": "INVALID_ARGUMENT", "ids": ["e\n"]},
        {"method": f"{CATALOG}ImportProducts", "outcome": "PERMISSION_DENIED", "ids": ["f"]},
    ]


async def test_writes_that_fail(serve: Serve, tmp_path: Path) -> None:
    """A write that fails as a whole has its code and its ids; strangers have no line, so they cannot fill the log."""
    path, keys = tmp_path / "audit.jsonl", tmp_path / "keys.json"
    admin, reader = bearer(add_key(keys, "admin")), bearer(add_key(keys))
    async with serve(auth_keys_file=keys, audit_log=path) as served:
        calls = MethodCalls(served.channel)
        await calls.code("UpdateAttributes", "nobody", admin)
        await calls.code("UpsertProducts", ALL, admin)
        before = len(lines(path))
        for metadata in ((), reader, bearer("lk_a_b")):
            for row in ("UpsertProducts", "UpdateAttributes", "DeleteProducts", "ImportProducts"):
                await calls.code(row, OWN, metadata)
        assert len(lines(path)) == before
    found = [(line["outcome"], line["ids"], line.get("failed")) for line in lines(path)]
    assert found == [("NOT_FOUND", ["nobody"], None), ("OK", ["new"], {"new": "INVALID_ARGUMENT"})]


async def test_no_image_and_no_token(serve: Serve, tmp_path: Path) -> None:
    """Neither the bytes of images nor credentials are in it, only what is named above, however long ids are."""
    path, keys = tmp_path / "audit.jsonl", tmp_path / "keys.json"
    token = add_key(keys, "admin")
    async with serve(auth_keys_file=keys, audit_log=path) as served:
        calls = MethodCalls(served.channel)
        await calls.store(bearer(token))
        for row in calls.rows:
            for category in (OWN, OTHER, ALL):
                await calls.code(row, category, bearer(token))
        await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["x" * 100_000]), metadata=bearer(token))
    text = path.read_text(encoding="utf-8")
    assert token.split("_")[2] not in text
    data = encoded(noise(1)).encoded
    assert repr(data[40:60])[2:-1] not in text
    keys_of_lines = {key for line in lines(path) for key in line}
    assert keys_of_lines == {"time", "identity", "role", "peer", "method", "request_id", "outcome", "ids", "failed"}
    assert max(map(len, text.splitlines())) < 1000


@pytest.mark.slow
async def test_frontend_processes_share_the_file(tmp_path: Path) -> None:
    """Every acknowledged write of every process is in the files, also while these are rotated."""
    path = tmp_path / "audit.jsonl"
    flags = ("--audit-log", str(path), "--audit-log-max-bytes", "4096", "--audit-log-max-files", "1000")
    with multiprocess_server(tmp_path, *flags) as server:
        await server.logged("serving")
        names = [f"p{number}" for number in range(100)]
        for start in range(0, 100, 10):
            async with connect(server.address) as channel:
                for name in names[start : start + 10]:
                    assert await MethodCalls(channel).code("DeleteProducts", name, ()) == "NOT_FOUND"
    files = all_files(path)
    assert len(files) > 2
    assert sorted(line["ids"][0] for file in files for line in lines(file)) == sorted(names)
