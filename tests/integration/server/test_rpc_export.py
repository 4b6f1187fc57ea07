"""Reading products back with their embeddings: complete, in order, paged, and only as fast as the caller reads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import embedding_service_pb2, image_pb2, product_pb2
from support.credentials import add_key, bearer
from support.serving import Serve, Served, connect, noise, product, raw, rejected, until, violation

METHOD = "/lookalike.v1.CatalogService/ExportProducts"
DIM = 48  # of the tiny model
PAGE = 1000  # products, with embeddings as small as these


def vector(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An embedding of length 1 of its own for every seed: float32 [DIM]."""
    values = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return values / np.linalg.norm(values)


async def store(served: Served, count: int, category: str = "Shoes", images: int = 1) -> list[str]:
    """Store products by vectors, each of its own, and return their ids in order."""
    ids = [f"{category}{number:05}" for number in range(count)]
    for begin in range(0, count, 500):
        items = [
            product_pb2.ProductInput(
                id=ids[number],
                category=category,
                vectors=[image_pb2.Vector(values=vector(10 * number + image)) for image in range(images)],
            )
            for number in range(begin, min(begin + 500, count))
        ]
        response = await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=items))
        assert not any(result.status.code for result in response.results)
    return ids


async def exported(served: Served, **request: str) -> list[pb.ExportProductsResponse]:
    """Collect the responses of an export."""
    return [each async for each in served.catalog.ExportProducts(pb.ExportProductsRequest(**request))]


async def test_facts_and_embeddings_come_back(served: Served) -> None:
    """A product comes as it was stored, with one embedding an image in their order, the same that Embed returns."""
    sent = product("ä", 1, image_uri="ä.jpg", attributes={"color": "vermilion", "empty": ""})
    sent.title = "Schuh 靴"
    sent.images.append(raw(noise(2)))
    await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=[sent]))
    (only,) = await exported(served)
    assert only.product == product_pb2.Product(
        id="ä", category="Shoes", title=sent.title, image_uri="ä.jpg", attributes=sent.attributes
    )
    for seed, found in zip((1, 2), only.vectors, strict=True):
        alone = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))))
        assert np.allclose(found.values, alone.embedding, atol=1e-6)


async def test_many_products_over_several_pages(served: Served) -> None:
    """Three thousand products, three pages, come each once, by id, with the embeddings they were stored with."""
    ids = await store(served, 3000)
    found = await exported(served)
    assert [each.product.id for each in found] == ids
    for number in (0, PAGE - 1, PAGE, 2999):
        (values,) = (each.values for each in found[number].vectors)
        assert np.allclose(values, vector(10 * number), atol=1e-6)


async def test_an_empty_catalog_exports_nothing(served: Served) -> None:
    """Without products the stream ends at once with OK."""
    assert await exported(served) == []


async def test_one_category_alone(served: Served) -> None:
    """With a category only its products come; one that holds none is not found."""
    await store(served, 3, "Hats")
    shoes = await store(served, 1200, "Shoes", images=2)
    found = await exported(served, category="Shoes")
    assert [each.product.id for each in found] == shoes
    assert {len(each.vectors) for each in found} == {2}
    code, message, _ = await rejected(exported(served, category="Coats"))
    assert (code, message) == (grpc.StatusCode.NOT_FOUND, "no category 'Coats'")


async def test_an_export_resumes_after_an_id(served: Served) -> None:
    """After an id come those greater than it, whether it is a product's or not; after the last one nothing."""
    ids = await store(served, 10)
    assert [each.product.id for each in await exported(served, after_id=ids[6])] == ids[7:]
    assert [each.product.id for each in await exported(served, after_id=ids[6] + "0")] == ids[7:]
    assert await exported(served, after_id=ids[-1], category="Shoes") == []


@pytest.mark.parametrize(
    ("request_", "field"),
    [({"category": "x" * 257}, "category"), ({"after_id": "x" * 257}, "after_id"), ({"after_id": "\n"}, "after_id")],
    ids=["long category", "long id", "control character"],
)
async def test_bad_requests_name_the_field(served: Served, request_: dict[str, str], field: str) -> None:
    """An invalid category or id is INVALID_ARGUMENT naming the field."""
    code, _, status = await rejected(exported(served, **request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert violation(status) == field


async def test_bytes_that_are_no_message(served: Served) -> None:
    """A request that cannot be parsed is INVALID_ARGUMENT, as for any other call."""

    async def nonsense() -> None:
        call: Any = served.channel.unary_stream(METHOD)
        await call(b"\xff\xff").read()

    code, message, _ = await rejected(nonsense())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("request: ")


async def test_a_reader_may_export(serve: Serve, tmp_path: Path) -> None:
    """A reader's token may export, and a call without a token is rejected."""
    tokens = tmp_path / "tokens"
    reader = add_key(tokens)
    async with serve(auth_keys_file=tokens) as served:
        call = served.catalog.ExportProducts(pb.ExportProductsRequest(), metadata=bearer(reader))
        assert [each async for each in call] == []
        code, _, _ = await rejected(exported(served))
        assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_products_that_go_and_come_meanwhile(served: Served) -> None:
    """What is removed or stored while an export runs does not break it: what was there all the time comes, once."""
    ids = await store(served, 2500)
    call = served.catalog.ExportProducts(pb.ExportProductsRequest())
    found = [(await anext(aiter(call))).product.id]
    # Far behind and far ahead of where the export is, a whole page and the last product among them.
    gone = [ids[0], *ids[1500:2500]]
    await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=gone[:1000]))
    await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=gone[1000:]))
    await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=[product("Zebra", 1), product("A", 2)]))
    found += [each.product.id async for each in call]
    assert found == sorted(set(found))
    # How far ahead gRPC's buffers were when the others came and went is not said, so these may be among them or not.
    assert set(found) - {*gone, "Zebra"} == {*ids[1:1500]}


@pytest.mark.slow
async def test_a_caller_that_stops_reading(served: Served, tmp_path: Path) -> None:
    """A caller that reads one product and stops is not read ahead for, keeps nothing open, and affects no other."""
    await store(served, 3000, images=8)
    async with connect(f"127.0.0.1:{served.app.port}") as channel:
        stuck = channel.unary_stream(
            METHOD,
            request_serializer=pb.ExportProductsRequest.SerializeToString,
            response_deserializer=pb.ExportProductsResponse.FromString,
        )(pb.ExportProductsRequest())
        first = await anext(aiter(stuck))
        assert first.product.id == "Shoes00000"
        await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["Shoes02999"]))
        assert len(await exported(served)) == 2999
        # The export has 5 MB; most of it was never sent, so it has not ended.
        assert [method for method, *_ in served.observer.calls].count(METHOD) == 1
        with closing(sqlite3.connect(tmp_path / "data" / "catalog.sqlite")) as file:
            (busy, _, _) = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0  # a transaction left open would keep the file's journal from being cut
        left = [each.product.id async for each in stuck]
    # Its last page was read after the deletion, because nothing had been read ahead for it.
    assert left[-1] == "Shoes02998"
    assert len(left) == 2998


@pytest.mark.slow
@pytest.mark.parametrize("read", [1, 1500])
async def test_a_cancelled_export_ends(served: Served, read: int) -> None:
    """An export that its caller cancels, on its first page or later, ends as CANCELLED, and the next one is whole."""
    await store(served, 2000, images=4)
    call = served.catalog.ExportProducts(pb.ExportProductsRequest())
    for _ in range(read):
        await call.read()
    call.cancel()
    await until(lambda: (METHOD, "CANCELLED") in [visit[:2] for visit in served.observer.calls])
    assert len(await exported(served)) == 2000
