"""Credentials that change while the server runs, and those that are sent wrongly, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, embedding_service_pb2_grpc
from lookalike_server.domain.events import CredentialsFileRejected, CredentialsFileReloaded
from support.credentials import AUDIENCE, Issuer, add_key, bearer, revoke_key
from support.multiprocess_server import multiprocess_server
from support.serving import Serve, Served, connect, product, rejected

GET_MODEL = embedding_service_pb2.GetModelRequest()


async def code(served: Served, token: str) -> str:
    """Make a call with this token, and return the name of its code."""
    try:
        await served.embedding.GetModel(GET_MODEL, metadata=bearer(token))
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def becomes(served: Served, token: str, wanted: str) -> None:
    """Make calls until they end with this code."""
    async with asyncio.timeout(30):
        while await code(served, token) != wanted:
            pass


async def test_keys_change_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    """A key that is added works soon, one that is revoked soon does not, and a broken file changes nothing."""
    keys = tmp_path / "keys.json"
    first = add_key(keys)
    async with serve(auth_keys_file=keys) as served:
        assert await code(served, first) == "OK"
        second = add_key(keys)
        await becomes(served, second, "OK")
        revoke_key(keys, first)
        await becomes(served, first, "UNAUTHENTICATED")
        assert await code(served, second) == "OK"
        good = keys.read_bytes()
        keys.write_bytes(good[: len(good) // 2])
        served.app.server.reload_credentials()
        assert await code(served, second) == "OK"
        (rejection,) = served.observer.of(CredentialsFileRejected)
        assert rejection.file == str(keys)
        keys.write_bytes(good)
        served.app.server.reload_credentials()
        assert await code(served, second) == "OK"
        assert len(served.observer.of(CredentialsFileReloaded)) == 3


@pytest.mark.slow
async def test_every_frontend_process_obeys(tmp_path: Path) -> None:
    """A revoked key is UNAUTHENTICATED in each process that takes calls."""
    keys = tmp_path / "keys.json"
    first, other = add_key(keys), add_key(keys)
    with multiprocess_server(tmp_path, "--auth-keys-file", str(keys)) as server:
        await server.logged("serving")
        revoke_key(keys, first)
        async with asyncio.timeout(60):
            while len({line["process"] for line in server.events("credentials_reloaded")}) < 2:
                async with connect(server.address) as channel:
                    served: Any = Stubs(channel)
                    await code(served, other)
        for _ in range(10):
            async with connect(server.address) as channel:
                assert await code(Stubs(channel), first) == "UNAUTHENTICATED"  # type: ignore[arg-type]


class Stubs:
    """What `code` needs of a server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.embedding: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)


async def rest(call: Any) -> None:
    """Read a stream to its end."""
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_revoked_key_ends_its_stream(serve: Serve, tmp_path: Path) -> None:
    """What a stream acknowledged stays, and its next message ends it with UNAUTHENTICATED; another's goes on."""
    keys = tmp_path / "keys.json"
    revoked, other = add_key(keys, "writer"), add_key(keys, "writer")
    async with serve(auth_keys_file=keys) as served:

        def stream(token: str, name: str) -> tuple[Any, asyncio.Queue[str]]:
            ids: asyncio.Queue[str] = asyncio.Queue()

            async def requests() -> AsyncIterator[catalog_service_pb2.ImportProductsRequest]:
                while True:
                    product_id = await ids.get()
                    yield catalog_service_pb2.ImportProductsRequest(product=product(f"{name}{product_id}", 1))

            return served.catalog.ImportProducts(requests(), metadata=bearer(token)), ids

        streams = [stream(revoked, "a"), stream(other, "b")]
        for call, ids in streams:
            await ids.put("1")
            assert (await call.read()).result.status.code == 0
        revoke_key(keys, revoked)
        served.app.server.reload_credentials()
        (ended, ended_ids), (going, going_ids) = streams
        await ended_ids.put("2")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest(ended)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await going_ids.put("2")
        assert (await going.read()).result.status.code == 0
        going.cancel()
        listed = await served.catalog.ListProducts(catalog_service_pb2.ListProductsRequest(), metadata=bearer(other))
        assert [each.id for each in listed.products] == ["a1", "b1", "b2"]


async def test_a_token_that_is_sent_wrongly(serve: Serve, tmp_path: Path) -> None:
    """Two of them, another header, and one that is too long are UNAUTHENTICATED with what to do, and quote nothing."""
    keys = tmp_path / "keys.json"
    token = add_key(keys)
    async with serve(auth_keys_file=keys) as served:
        for metadata, expected in (
            (bearer(token) * 2, "more than one `authorization`; send one"),
            ((("x-api-key", token),), "`x-api-key` is not read; send one in the metadata, as `authorization: Bearer"),
            (bearer(token * 120), "a token has at most 8192"),
            ((("authorization", token),), "has no bearer token"),
            ((("authorization-bin", token.encode()),), "the call has no token"),
        ):
            status, message, _ = await rejected(served.embedding.GetModel(GET_MODEL, metadata=metadata))
            assert status is grpc.StatusCode.UNAUTHENTICATED
            assert expected in message
            assert token not in message


async def test_a_token_of_100_kb(serve: Serve, tmp_path: Path) -> None:
    """Metadata above 16 KiB never reaches the server: gRPC ends the call, and the connection goes on."""
    keys = tmp_path / "keys.json"
    token = add_key(keys)
    async with serve(auth_keys_file=keys) as served:
        assert await code(served, "x" * 100_000) == "RESOURCE_EXHAUSTED"
        assert await code(served, token) == "OK"


async def test_categories_are_enforced_in_the_transaction(serve: Serve, tmp_path: Path) -> None:
    """Of writers for two categories that store the same id at once, one gets it, and no product changes hands."""
    keys = tmp_path / "keys.json"
    writers = {category: add_key(keys, "writer", categories=[category]) for category in ("Shoes", "Hats")}
    admin = bearer(add_key(keys, "admin"))
    async with serve(auth_keys_file=keys) as served:

        async def store(category: str, product_id: str) -> int:
            request = catalog_service_pb2.UpsertProductsRequest(products=[product(product_id, 1, category)])
            response = await served.catalog.UpsertProducts(request, metadata=bearer(writers[category]))
            return int(response.results[0].status.code)

        for number in range(20):
            codes = await asyncio.gather(*(store(category, f"p{number}") for category in writers))
            assert sorted(codes) == [0, grpc.StatusCode.PERMISSION_DENIED.value[0]]
            winner = list(writers)[codes.index(0)]
            request = catalog_service_pb2.GetProductRequest(id=f"p{number}")
            found = await served.catalog.GetProduct(request, metadata=admin)
            assert found.product.category == winner


async def test_one_upsert_of_two_categories(serve: Serve, tmp_path: Path) -> None:
    """The products of a request that the key may store are stored, and the others have PERMISSION_DENIED, in order."""
    keys = tmp_path / "keys.json"
    writer = add_key(keys, "writer", categories=["Shoes", "Boots"])
    async with serve(auth_keys_file=keys) as served:
        products = [product(f"p{i}", i, category) for i, category in enumerate(("Hats", "Shoes", "Coats", "Boots"))]
        request = catalog_service_pb2.UpsertProductsRequest(products=products)
        results = (await served.catalog.UpsertProducts(request, metadata=bearer(writer))).results
        assert [each.id for each in results] == ["p0", "p1", "p2", "p3"]
        assert [each.status.code for each in results] == [7, 0, 7, 0]
        assert "may not touch the category 'Hats', only: 'Boots', 'Shoes'" in results[0].status.message


async def test_tokens_of_an_issuer(serve: Serve, tmp_path: Path) -> None:
    """Tokens work without any file of keys, and those of a key that the issuer has replaced stop working."""
    issuer = Issuer(tmp_path / "jwks.json")
    async with serve(jwt_jwks_file=issuer.path, jwt_audience=AUDIENCE) as served:
        token = issuer.token("RS256")
        assert await code(served, token) == "OK"
        assert await code(served, "lk_012345678901_" + "0" * 64) == "UNAUTHENTICATED"
        replaced = Issuer(issuer.path)
        await becomes(served, token, "UNAUTHENTICATED")
        assert await code(served, replaced.token("RS256")) == "OK"
