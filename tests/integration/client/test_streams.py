"""Products over streams: `export_products` and `import_products`, in one piece or broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from lookalike.v1 import catalog_service_pb2
from lookalike_client import AsyncClient, Client, Exported, LookalikeError, Product, ProductInput
from lookalike_client.errors import from_rpc_error
from support.fake_rejections import Rejection
from support.fake_server import FakeServer
from support.fake_state import DIM
from support.serving import until

Ask = Callable[..., Any]


def starts(fake: FakeServer) -> list[str]:
    """The ids after which the exports that arrived began."""
    requests = cast("list[catalog_service_pb2.ExportProductsRequest]", fake.requests("ExportProducts"))
    return [each.after_id for each in requests]


def products(count: int) -> list[ProductInput]:
    """Products with two vectors each."""
    return [
        ProductInput(f"p{number}", "Men", vectors=[np.full(DIM, number + 1.0), np.arange(DIM, dtype=np.float32)])
        for number in range(count)
    ]


def test_an_exported_product_has_its_facts_and_its_vectors(ask: Ask, fake: FakeServer) -> None:
    """Each product comes with what the shop knows and float32 [images, dim], read-only; its repr says what it is."""
    fake.put("b", "Women", "Bag", {"color": "red"})
    ask("upsert", [ProductInput("a", "Men", vectors=[np.ones(DIM), np.arange(DIM, dtype=np.float32)])])
    first, second = ask("export_products")
    assert isinstance(first, Exported)
    assert first.product.id == "a"
    assert first.vectors.dtype == np.float32
    assert first.vectors.shape == (2, DIM)
    assert first.vectors.tolist() == [[1.0] * DIM, list(range(DIM))]
    assert not first.vectors.flags.writeable
    assert second.product == Product("b", "Women", "Bag", "", {"color": "red"})
    assert repr(first) == "<Exported 'a' in 'Men', 2 vectors of 8>"


def test_an_export_of_one_category(ask: Ask, fake: FakeServer) -> None:
    """With a category only its products come; one that holds none is NOT_FOUND."""
    fake.put("a", "Men")
    fake.put("b", "Women")
    assert [each.product.id for each in ask("export_products", "Women")] == ["b"]
    with pytest.raises(LookalikeError) as caught:
        ask("export_products", "Hats")
    assert caught.value.code is StatusCode.NOT_FOUND


def test_a_broken_export_is_taken_up_after_the_last_product(ask: Ask, fake: FakeServer) -> None:
    """A stream that breaks is asked for again from where it was, and nothing comes twice or is missed."""
    for name in "abcdefgh":
        fake.put(name)
    fake.cuts = [3, 2]
    assert [each.product.id for each in ask("export_products")] == list("abcdefgh")
    assert starts(fake) == ["", "c", "e"]


def test_an_export_that_gets_nowhere_ends_with_the_error(ask: Ask, fake: FakeServer) -> None:
    """A stream that breaks without having brought anything is not asked for again for ever."""
    for name in "abc":
        fake.put(name)
    fake.cuts = [2, 0]
    with pytest.raises(LookalikeError) as caught:
        ask("export_products")
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert starts(fake) == ["", "b"]


def test_a_category_that_empties_meanwhile_ends_its_export(fake: FakeServer) -> None:
    """When the rest of a category is removed while its export breaks, what came is all there is."""
    for name in "abc":
        fake.put(name)
    fake.cuts = [2]
    with Client(fake.address) as client:
        exported = client.export_products("Men")
        assert [next(exported).product.id, next(exported).product.id] == ["a", "b"]
        fake.products.clear()
        assert list(exported) == []
    assert starts(fake) == ["", "b"]


def test_a_rejected_export_is_an_error_at_once(ask: Ask, fake: FakeServer) -> None:
    """What no repeat will help is raised as it is."""
    fake.rejections = [Rejection(StatusCode.PERMISSION_DENIED, "no")]
    with pytest.raises(LookalikeError) as caught:
        ask("export_products")
    assert caught.value.code is StatusCode.PERMISSION_DENIED
    assert len(starts(fake)) == 1


def test_every_imported_product_has_a_status(ask: Ask, fake: FakeServer) -> None:
    """A status each, and a bad product fails alone, with its field."""
    several = [*products(3), ProductInput("bad", "", vectors=[np.ones(DIM)])]
    statuses = {status.id: status for status in ask("import_products", iter(several))}
    assert [status.ok for status in statuses.values()] == [True, True, True, False]
    assert [violation.field for violation in statuses["bad"].violations] == ["product.category"]
    assert sorted(fake.products) == ["p0", "p1", "p2"]
    assert fake.vectors["p2"].tolist() == [[3.0] * DIM, list(range(DIM))]


def test_importing_nothing(ask: Ask) -> None:
    """No products, no statuses."""
    assert ask("import_products", []) == []


def test_a_rejected_import_is_an_error(ask: Ask, fake: FakeServer) -> None:
    """A stream that the server rejects raises its error."""
    fake.rejections = [Rejection(StatusCode.UNAUTHENTICATED, "no token")]
    with pytest.raises(LookalikeError) as caught:
        ask("import_products", products(1))
    assert caught.value.code is StatusCode.UNAUTHENTICATED


def test_a_reason_that_grpc_lost_is_worth_a_repeat() -> None:
    """What grpc.aio says when it drops a stream's status for a failed write is UNAVAILABLE, and no server's fault."""
    lost = AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(), details="Internal error from Core")
    assert from_rpc_error(lost).code is StatusCode.UNAVAILABLE
    other = AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(), details="a fault of the server")
    assert from_rpc_error(other).code is StatusCode.INTERNAL


def test_what_reading_the_products_raises_is_raised(ask: Ask, fake: FakeServer) -> None:
    """A file that is not there, or an iterable that breaks, is the caller's own error, not one of gRPC."""

    def broken() -> Iterator[ProductInput]:
        yield products(1)[0]
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        ask("import_products", broken())
    with pytest.raises(FileNotFoundError):
        ask("import_products", [ProductInput("a", "Men", images=["nowhere.jpg"])])


async def test_products_are_read_as_they_are_needed(fake: FakeServer) -> None:
    """A caller that takes no statuses has its products read no farther than gRPC's buffers reach."""
    read = 0

    def endless() -> Iterator[ProductInput]:
        nonlocal read
        wide = np.zeros(100_000, np.float32)
        while True:
            read += 1
            yield ProductInput(f"p{read}", "Men", vectors=[wide])

    async with AsyncClient(fake.address) as client:
        statuses = client.import_products(endless())
        await anext(statuses)
        await until(lambda: bool(fake.products))
        assert read < 1000
        await statuses.aclose()  # type: ignore[attr-defined]
