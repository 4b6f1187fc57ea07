"""Products over streams: `export_products` and `import_products`, in one piece or broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from lookalike.v1 import catalog_service_pb2
from lookalike_client import AsyncClient, Client, ExportedProduct, LookalikeError, Product, ProductInput
from lookalike_client.errors import from_rpc_error
from support.arrays import DIM
from support.catalogs import put, stored, stored_vectors
from support.scripted_server import Rejection, ScriptedServer
from support.serving import until

Call = Callable[..., Any]


@pytest.fixture
def model() -> str:
    """A model whose metric leaves vectors as they are, so that they can be compared exactly."""
    return "tiny-euclidean"


def starts(server: ScriptedServer) -> list[str]:
    """The ids after which the exports that arrived began."""
    requests = cast("list[catalog_service_pb2.ExportProductsRequest]", server.requests("ExportProducts"))
    return [each.after_id for each in requests]


def products(count: int) -> list[ProductInput]:
    """Products with two vectors each."""
    return [
        ProductInput(f"p{number}", "Men", vectors=[np.full(DIM, number + 1.0), np.arange(DIM, dtype=np.float32)])
        for number in range(count)
    ]


def test_an_exported_product_has_its_metadata_and_its_vectors(call: Call, real: Client) -> None:
    """Each product has its metadata and float32 [images, dim], read-only; its repr is short."""
    put(real, "b", "Women", "Bag", {"color": "red"})
    call("upsert", [ProductInput("a", "Men", vectors=[np.ones(DIM), np.arange(DIM, dtype=np.float32)])])
    first, second = call("export_products")
    assert isinstance(first, ExportedProduct)
    assert first.product.id == "a"
    assert first.vectors.dtype == np.float32
    assert first.vectors.shape == (2, DIM)
    assert first.vectors.tolist() == [[1.0] * DIM, list(range(DIM))]
    assert not first.vectors.flags.writeable
    assert second.product == Product("b", "Women", "Bag", "", {"color": "red"})
    assert repr(first) == "<ExportedProduct 'a' in 'Men', 2 vectors of dimension 48>"


def test_an_export_of_one_category(call: Call, real: Client) -> None:
    """With a category only its products come; one that holds none is NOT_FOUND."""
    put(real, "a", "Men")
    put(real, "b", "Women")
    assert [each.product.id for each in call("export_products", "Women")] == ["b"]
    with pytest.raises(LookalikeError) as caught:
        call("export_products", "Hats")
    assert caught.value.code is StatusCode.NOT_FOUND


def test_a_broken_export_is_resumed_after_the_last_product(call: Call, server: ScriptedServer, real: Client) -> None:
    """A stream that breaks is resumed after the last product, and nothing is repeated or missed."""
    for name in "abcdefgh":
        put(real, name)
    server.cut_exports(3, 2)
    assert [each.product.id for each in call("export_products")] == list("abcdefgh")
    assert starts(server) == ["", "c", "e"]


def test_an_export_without_progress_ends_with_the_error(call: Call, server: ScriptedServer, real: Client) -> None:
    """A stream that breaks without progress is not resumed forever."""
    for name in "abc":
        put(real, name)
    server.cut_exports(2, 0)
    with pytest.raises(LookalikeError) as caught:
        call("export_products")
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert starts(server) == ["", "b"]


def test_a_category_that_empties_meanwhile_ends_its_export(server: ScriptedServer, real: Client) -> None:
    """When the rest of a category is removed while its export breaks, what came is all there is."""
    for name in "abc":
        put(real, name)
    server.cut_exports(2)
    with Client(server.address) as client:
        exported = client.export_products("Men")
        assert [next(exported).product.id, next(exported).product.id] == ["a", "b"]
        real.delete(list("abc"))
        assert list(exported) == []
    assert starts(server) == ["", "b"]


def test_a_rejected_export_is_an_error_at_once(call: Call, server: ScriptedServer) -> None:
    """A permanent error is raised as it is."""
    server.rejections = [Rejection(StatusCode.PERMISSION_DENIED, "no")]
    with pytest.raises(LookalikeError) as caught:
        call("export_products")
    assert caught.value.code is StatusCode.PERMISSION_DENIED
    assert len(starts(server)) == 1


def test_every_imported_product_has_a_status(call: Call, real: Client) -> None:
    """A status for each, and an invalid product fails alone, with its field."""
    several = [*products(3), ProductInput("bad", "", vectors=[np.ones(DIM)])]
    statuses = {status.id: status for status in call("import_products", iter(several))}
    assert {product_id: status.ok for product_id, status in statuses.items()} == {
        "p0": True,
        "p1": True,
        "p2": True,
        "bad": False,
    }
    assert [violation.field for violation in statuses["bad"].violations] == ["product.category"]
    assert sorted(stored(real)) == ["p0", "p1", "p2"]
    assert stored_vectors(real)["p2"].tolist() == [[3.0] * DIM, list(range(DIM))]


def test_importing_nothing(call: Call) -> None:
    """No products, no statuses."""
    assert call("import_products", []) == []


def test_a_rejected_import_is_an_error(call: Call, server: ScriptedServer) -> None:
    """A stream that the server rejects raises its error."""
    server.rejections = [Rejection(StatusCode.UNAUTHENTICATED, "no token")]
    with pytest.raises(LookalikeError) as caught:
        call("import_products", products(1))
    assert caught.value.code is StatusCode.UNAUTHENTICATED


def test_a_status_that_grpc_lost_is_transient() -> None:
    """What grpc.aio reports when it loses a stream's status is UNAVAILABLE, not an error of the server."""
    lost = AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(), details="Internal error from Core")
    assert from_rpc_error(lost).code is StatusCode.UNAVAILABLE
    other = AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(), details="a fault of the server")
    assert from_rpc_error(other).code is StatusCode.INTERNAL


def test_what_reading_the_products_raises_is_raised(call: Call) -> None:
    """A missing file, or an iterable that raises, is the caller's own error, not one of gRPC."""

    def broken() -> Iterator[ProductInput]:
        yield products(1)[0]
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        call("import_products", broken())
    with pytest.raises(FileNotFoundError):
        call("import_products", [ProductInput("a", "Men", images=["nowhere.jpg"])])


async def test_products_are_read_as_they_are_needed(server: ScriptedServer, real: Client) -> None:
    """Products are read only as far as gRPC buffers them while the statuses are not read."""
    read = 0

    def endless() -> Iterator[ProductInput]:
        nonlocal read
        attributes = {f"a{number}": "x" * 4000 for number in range(64)}
        while True:
            read += 1
            yield ProductInput(f"p{read}", "Men", attributes=attributes, vectors=[np.ones(DIM)])

    async with AsyncClient(server.address) as client:
        statuses = client.import_products(endless())
        await anext(statuses)
        await until(lambda: bool(stored(real)))
        assert read < 1000
        await statuses.aclose()  # type: ignore[attr-defined]
