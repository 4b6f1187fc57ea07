"""Bad images over real gRPC: the code, the field, and valid images in the same batch that are not affected."""

from __future__ import annotations

import asyncio
import io
import math
import struct
import zlib
from collections.abc import Awaitable

import grpc
import numpy as np
import pytest
from PIL import Image as Pillow

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2
from lookalike.v1 import search_service_pb2 as search_pb
from lookalike_server.config import Settings
from lookalike_server.inference.manifest import ModelFolder
from support.both_runtimes import provider  # noqa: F401 - every server runs with both
from support.fakes import FailingSession
from support.serving import HeldModel, Serve, encoded, load_session, noise, product, raw, rejected, until, violation

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def jpeg(side: int = 64) -> bytes:
    """Make a valid image file."""
    buffer = io.BytesIO()
    Pillow.fromarray(noise(1, side)).save(buffer, "JPEG")
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """Make a PNG whose header claims this size and which has hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


BAD_IMAGES = {
    "nothing": (image_pb2.Image(), "image"),
    "empty": (image_pb2.Image(encoded=b""), "image.encoded"),
    "text": (image_pb2.Image(encoded=b"hello"), "image.encoded"),
    "svg": (image_pb2.Image(encoded=b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "image.encoded"),
    "truncated": (image_pb2.Image(encoded=jpeg()[:-200]), "image.encoded"),
    "header only": (image_pb2.Image(encoded=jpeg()[:30]), "image.encoded"),
    "too many bytes": (image_pb2.Image(encoded=jpeg(1024) + b"\0" * 50_000), "image.encoded"),
    "too many pixels": (image_pb2.Image(encoded=png_of(60_000, 60_000)), "image.encoded"),
    "too many raw pixels": (raw(np.zeros((400, 400, 3), np.uint8)), "image.rgb"),
    "raw too short": (image_pb2.Image(rgb=image_pb2.RawImage(width=4, height=4, data=b"\0" * 47)), "image.rgb.data"),
    "raw too long": (image_pb2.Image(rgb=image_pb2.RawImage(width=4, height=4, data=b"\0" * 49)), "image.rgb.data"),
    "raw without width": (image_pb2.Image(rgb=image_pb2.RawImage(height=4, data=b"")), "image.rgb.width"),
    "raw, product wraps": (
        image_pb2.Image(rgb=image_pb2.RawImage(width=2**31, height=2**31, data=b"")),
        "image.rgb.data",
    ),
    "region inside out": (
        image_pb2.Image(encoded=jpeg(), region=image_pb2.Region(left=0.6, right=0.4, top=0, bottom=1)),
        "image.region",
    ),
    "region of NaN": (
        image_pb2.Image(encoded=jpeg(), region=image_pb2.Region(left=math.nan, right=1, top=0, bottom=1)),
        "image.region",
    ),
    "region beyond": (
        image_pb2.Image(encoded=jpeg(), region=image_pb2.Region(left=0, right=1.5, top=0, bottom=1)),
        "image.region",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
async def test_bad_image(serve: Serve, name: str) -> None:
    """A bad image is INVALID_ARGUMENT naming its field, for Embed, Search and Upsert alike."""
    image, field = BAD_IMAGES[name]
    async with serve(max_image_bytes=50_000, max_image_pixels=100_000) as served:
        code, message, status = await rejected(served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=image)))
        assert (code, violation(status)) == (INVALID, field)
        assert message.startswith(f"{field}: ")

        await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[product("good", 1)]))
        code, _, status = await rejected(served.search.Search(search_pb.SearchRequest(image=image, category="Shoes")))
        assert (code, violation(status)) == (INVALID, field)

        item = product_pb2.ProductInput(id="bad", category="Shoes", images=[image])
        response = await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[item]))
        (result,) = response.results
        assert result.status.code == INVALID.value[0]
        assert result.status.message.startswith(field.replace("image", "products[0].images[0]", 1))


async def test_bad_images_do_not_harm_the_batch(serve: Serve) -> None:
    """Bad images among good ones that share a batch fail alone; the good ones are embedded as they are alone."""
    model = HeldModel()
    async with serve(load_session=model) as served:

        def embed(image: image_pb2.Image) -> Awaitable[embedding_service_pb2.EmbedResponse]:
            call: Awaitable[embedding_service_pb2.EmbedResponse] = served.embedding.Embed(
                embedding_service_pb2.EmbedRequest(image=image)
            )
            return call

        alone = [await embed(raw(noise(seed))) for seed in range(8)]
        model.session.hold()
        first = asyncio.ensure_future(embed(raw(noise(99))))
        await model.caught()
        good = [asyncio.ensure_future(embed(raw(noise(seed)))) for seed in range(8)]
        for image, _ in BAD_IMAGES.values():
            await rejected(embed(image)) if image.ByteSize() < 40_000 else None
        await until(lambda: "Queued: 8 " in repr(served.app.batcher))
        model.session.let_go()
        together = await asyncio.gather(*good)
        await first
        assert {response.stats.batch_size for response in together} == {8}
        for one, other in zip(alone, together, strict=True):
            assert np.dot(one.embedding, other.embedding) >= 0.99999


async def test_failing_model_touches_only_its_batch(serve: Serve) -> None:
    """A model that raises on every third run fails those callers with INTERNAL and no detail, and goes on serving."""
    sessions: list[FailingSession] = []

    def load(folder: ModelFolder, settings: Settings) -> FailingSession:
        sessions.append(FailingSession(load_session(folder, settings), lambda run: run % 3 == 2))
        return sessions[0]

    async with serve(load_session=load) as served:
        sessions[0].begin()
        codes = []
        for seed in range(9):
            request = embedding_service_pb2.EmbedRequest(image=encoded(noise(seed)))
            call = served.embedding.Embed(request)
            codes.append((await call.code()).name)
            assert "secret" not in await call.details()
        assert codes == ["OK", "OK", "INTERNAL"] * 3
        assert len(served.observer.failed_batches) == 3
