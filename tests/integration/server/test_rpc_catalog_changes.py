"""Updates of attributes, stored images, and idempotency keys, over real gRPC and a real store."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2
from PIL import Image

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import image_pb2, product_pb2
from support.serving import Serve, Served, noise, product, rejected, violation


async def upsert(served: Served, *products: product_pb2.ProductInput, idempotency_key: str = "") -> list[int]:
    """Upsert products with this key, and return their codes."""
    request = pb.UpsertProductsRequest(products=products, idempotency_key=idempotency_key)
    return [result.status.code for result in (await served.catalog.UpsertProducts(request)).results]


async def attributes(served: Served, product_id: str) -> dict[str, str]:
    """Read the attributes of a product."""
    return dict((await served.catalog.GetProduct(pb.GetProductRequest(id=product_id))).product.attributes)


def png(seed: int) -> bytes:
    """Make an image file."""
    file = io.BytesIO()
    Image.fromarray(noise(seed)).save(file, "PNG")
    return file.getvalue()


async def test_attributes_are_set_and_cleared(served: Served) -> None:
    """Those in `attributes` are set, those in `clear` are removed, the others stay."""
    await upsert(served, product("a", 1, attributes={"price": "9", "stock": "1", "color": "red"}))
    request = pb.UpdateAttributesRequest(id="a", attributes={"price": "8"}, clear=["stock", "never had"])
    assert dict((await served.catalog.UpdateAttributes(request)).product.attributes) == {"price": "8", "color": "red"}
    assert await attributes(served, "a") == {"price": "8", "color": "red"}


BAD = {
    "nothing to change": (pb.UpdateAttributesRequest(id="a"), "attributes"),
    "no id": (pb.UpdateAttributesRequest(attributes={"x": "y"}), "id"),
    "set and cleared": (
        pb.UpdateAttributesRequest(id="a", attributes={"x": "y"}, clear=["z", "x"]),
        "clear[1]",
    ),
    "too many to clear": (
        pb.UpdateAttributesRequest(id="a", clear=[f"key {number}" for number in range(65)]),
        "clear",
    ),
    "too many": (
        pb.UpdateAttributesRequest(id="a", attributes={f"key {number}": "" for number in range(64)}),
        "attributes",
    ),
    "long value": (pb.UpdateAttributesRequest(id="a", attributes={"x": "y" * 4097}), "attributes['x']"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_updates(served: Served, name: str) -> None:
    """An invalid update is INVALID_ARGUMENT naming the field, and changes nothing."""
    await upsert(served, product("a", 1, attributes={"color": "red"}))
    request, field = BAD[name]
    code, _, status = await rejected(served.catalog.UpdateAttributes(request))
    assert (code, violation(status)) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert await attributes(served, "a") == {"color": "red"}


async def test_update_of_an_unknown_product(served: Served) -> None:
    """What does not exist is NOT_FOUND."""
    code, _, _ = await rejected(
        served.catalog.UpdateAttributes(pb.UpdateAttributesRequest(id="a", attributes={"x": ""}))
    )
    assert code == grpc.StatusCode.NOT_FOUND


async def test_image_as_it_was_sent(served: Served) -> None:
    """A product's images come back byte for byte, by their place, with their type and digest."""
    item = product("a", 1)
    item.images.append(image_pb2.Image(encoded=png(2)))
    await upsert(served, item)
    response = await served.catalog.GetImage(pb.GetImageRequest(id="a", image_index=1))
    assert (response.encoded, response.media_type) == (png(2), "image/png")
    assert response.sha256 == hashlib.sha256(png(2)).hexdigest()


async def test_raw_pixels_come_back_as_png(served: Served) -> None:
    """Raw pixels are stored without loss."""
    await upsert(served, product("a", 1))
    response = await served.catalog.GetImage(pb.GetImageRequest(id="a"))
    assert response.media_type == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(response.encoded))), noise(1))


async def test_images_that_are_not_there(served: Served, serve: Serve, tmp_path: Path) -> None:
    """An unknown product, one of vectors, an index beyond the last and an image too large to store are errors."""
    vector = image_pb2.Vector(values=[1.0] * 48)
    await upsert(served, product("a", 1), product_pb2.ProductInput(id="v", category="Shoes", vectors=[vector]))
    for request, expected in (
        (pb.GetImageRequest(id="nobody"), grpc.StatusCode.NOT_FOUND),
        (pb.GetImageRequest(id="v"), grpc.StatusCode.NOT_FOUND),
        (pb.GetImageRequest(id="a", image_index=1), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        code, _, _ = await rejected(served.catalog.GetImage(request))
        assert code == expected
    async with serve(max_stored_image_bytes=10, data_dir=tmp_path / "another") as small:
        await upsert(small, product("a", 1))
        code, message, _ = await rejected(small.catalog.GetImage(pb.GetImageRequest(id="a")))
        assert code == grpc.StatusCode.NOT_FOUND
        assert "image" in message


async def test_repeat_does_nothing(served: Served) -> None:
    """A repeated request succeeds without the model, and without undoing what was written since."""
    await upsert(served, product("a", 1, attributes={"version": "1"}), idempotency_key="r1")
    await upsert(served, product("a", 2, attributes={"version": "2"}))
    runs = len(served.observer.batches)
    assert await upsert(served, product("a", 1, attributes={"version": "1"}), idempotency_key="r1") == [0]
    assert await attributes(served, "a") == {"version": "2"}
    assert len(served.observer.batches) == runs
    deletion = pb.DeleteProductsRequest(ids=["a"], idempotency_key="r2")
    for _ in range(2):
        assert [result.status.code for result in (await served.catalog.DeleteProducts(deletion)).results] == [0]
    update = pb.UpdateAttributesRequest(id="b", attributes={"version": "1"}, idempotency_key="r3")
    await upsert(served, product("b", 3))
    await served.catalog.UpdateAttributes(update)
    await upsert(served, product("b", 3, attributes={"version": "2"}))
    assert dict((await served.catalog.UpdateAttributes(update)).product.attributes) == {"version": "2"}


async def test_repeat_does_what_failed(served: Served) -> None:
    """Of a repeated request only the items that failed are written."""
    bad = product("b", 2)
    bad.images[0].CopyFrom(image_pb2.Image(encoded=b"not an image"))
    assert await upsert(served, product("a", 1), bad, idempotency_key="r1") == [0, code_pb2.INVALID_ARGUMENT]
    await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["a"]))
    assert await upsert(served, product("a", 1), product("b", 2), idempotency_key="r1") == [0, 0]
    found = await served.catalog.ListProducts(pb.ListProductsRequest())
    assert [each.id for each in found.products] == ["b"]


async def test_a_key_belongs_to_one_request(served: Served) -> None:
    """Another request with a used key is rejected, item by item where it has items."""
    await upsert(served, product("a", 1), idempotency_key="r1")
    assert await upsert(served, product("a", 2), product("b", 2), idempotency_key="r1") == [
        code_pb2.INVALID_ARGUMENT,
        0,
    ]
    update = pb.UpdateAttributesRequest(id="a", attributes={"x": "y"}, idempotency_key="r1")
    code, _, status = await rejected(served.catalog.UpdateAttributes(update))
    assert (code, violation(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "idempotency_key")


async def test_keys_survive_a_restart(serve: Serve) -> None:
    """Keys are still known after a restart, because they are stored with the write."""
    async with serve() as served:
        await upsert(served, product("a", 1), idempotency_key="r1")
        await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["a"]))
    async with serve() as served:
        assert await upsert(served, product("a", 1), idempotency_key="r1") == [0]
        assert not (await served.catalog.ListProducts(pb.ListProductsRequest())).products
