"""The engine as a frontend process sees it: decodes images here, and calls the engine process for the rest."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

from lookalike_server.domain.calls import Call
from lookalike_server.domain.catalog import (
    AttributeUpdate,
    Category,
    EmbeddedProduct,
    Page,
    Product,
    ProductDelete,
    ProductUpsert,
    StoredImage,
)
from lookalike_server.domain.errors import Code, LookalikeError, Rejection, exhausted, unavailable
from lookalike_server.domain.events import ItemFailed, Observer
from lookalike_server.domain.inference import EmbedResult, Image, Model, Pixels, RawImage, ResponseStats
from lookalike_server.domain.search import Query, SearchResult
from lookalike_server.engine.api import ArrivingCall, EngineApi, Work
from lookalike_server.frontend.ipc import LENGTH, IpcConnection, loads
from lookalike_server.frontend.ipc_server import Handshake, IpcReply, IpcRequest
from lookalike_server.frontend.shared_images import SharedImageWriter
from lookalike_server.inference.decoding_pool import DecodingPool
from lookalike_server.inference.image_decoding import ImageDecoder

_ADMIT_SECONDS = 1.0
"""For this long after a rejection, images are admitted before they are read, which costs a message per call."""

_NO_WINDOW = nullcontext()


class _Arrived:
    """A call that nobody counts: what is read here is not known to the engine process."""

    def arrived(self) -> None:
        """Do nothing."""


_ARRIVED = _Arrived()


class IpcEngine(EngineApi):
    """Lives on one event loop; `connect` again after the connection broke.

    Attributes:
        disconnected: Set while there is no connection, once there was one.
    """

    def __init__(
        self,
        make_decoder: Callable[[Model], ImageDecoder],
        decoding: DecodingPool,
        observer: Observer,
    ) -> None:
        """Decode images there, with a decoder for the engine's model."""
        self._make_decoder = make_decoder
        self._decoding = decoding
        self._observer = observer
        self._decoder: ImageDecoder
        self._bulk_window: asyncio.Semaphore
        self._connection: IpcConnection | None = None
        self._images: SharedImageWriter
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._admit_until = 0.0
        self.disconnected = asyncio.Event()

    @property
    def free_slots(self) -> int:
        """How many slots of shared memory can take an image now; beyond them images go as messages."""
        return self._images.free_slots

    async def connect(self, engine: socket.socket) -> bool:
        """Wait until the engine process at the other end is ready; False where it ended before."""
        loop = asyncio.get_running_loop()
        engine.setblocking(False)
        readable = asyncio.Event()
        loop.add_reader(engine, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(engine)
        try:
            data, files, _, _ = socket.recv_fds(engine, 65536, 1)
        except ConnectionError:
            data, files = b"", []
        if not data:
            engine.close()
            return False
        handshake: Handshake = loads(data[LENGTH.size :])
        model = handshake.model
        self.model, self.runtime, self.stream_window = model, handshake.runtime, handshake.stream_window
        self._decoder = self._make_decoder(model)
        self._bulk_window = asyncio.Semaphore(handshake.stream_window)
        try:
            self._images = SharedImageWriter(files[0], handshake.slots, model.height, model.width)
        finally:
            os.close(files[0])
        self.disconnected.clear()
        self._connection = connection = IpcConnection(self._on_reply, self._on_connection_lost)
        await loop.create_unix_connection(lambda: connection, sock=engine)
        return True

    async def admit(self, work: Work, call: Call) -> ArrivingCall:
        """Reject a call before it is read; asks the engine process only after a recent rejection."""
        if work is Work.EMBED:
            queue = self._decoding.queue
            wait = queue.wait_seconds(call)
            if wait > 0 and time.monotonic() + wait + queue.seconds > call.deadline:
                raise exhausted("the server is busy decoding images; try again later", wait, Rejection.DEADLINE)
        if time.monotonic() < self._admit_until:
            await self._call("check_admission", work, call)
        return _ARRIVED

    async def embed(self, image: Image, call: Call, *, bulk: bool = False) -> EmbedResult:
        """Decode an image here and embed it there."""
        async with self._bulk_window if bulk else _NO_WINDOW:
            pixels, decode = await self._decode(image, call, bulk=bulk)
            result: EmbedResult = await self._call("embed", call, image=self._share(pixels), bulk=bulk)
        return replace(result, stats=_complete_stats(result.stats, decode, call))

    async def search(self, query: Query, call: Call, *, bulk: bool = False) -> SearchResult:
        """Decode the query's image here, where it has one, and search there."""
        result: SearchResult
        if query.image is None:
            result = await self._call("search", query, call, bulk=bulk)
            return replace(result, stats=_complete_stats(result.stats, 0.0, call))
        async with self._bulk_window if bulk else _NO_WINDOW:
            pixels, decode = await self._decode(query.image, call, bulk=bulk)
            without_image = replace(query, image=None)
            result = await self._call("search", without_image, call, image=self._share(pixels), bulk=bulk)
        return replace(result, stats=_complete_stats(result.stats, decode, call))

    async def upsert(
        self, upserts: Sequence[ProductUpsert], call: Call, *, streamed: bool = False
    ) -> list[Exception | None]:
        """Store or replace products; their images are sent as files, because the catalog stores them."""
        return cast("list[Exception | None]", await self._call("upsert", upserts, call, streamed=streamed))

    async def delete(self, deletes: Sequence[ProductDelete], call: Call) -> list[Exception | None]:
        """Delete products; return for each its error, or None."""
        return cast("list[Exception | None]", await self._call("delete", deletes, call))

    async def update_attributes(self, update: AttributeUpdate, call: Call) -> Product:
        """Set and clear attributes of a product."""
        return cast("Product", await self._call("update_attributes", update, call))

    def report_internal_error(self, error: Exception) -> None:
        """Report the failure of an item where it is a fault of the server."""
        if not isinstance(error, LookalikeError):
            self._observer(ItemFailed(error))

    async def product(self, product_id: str, call: Call) -> tuple[Product, int]:
        """Read a product and its number of images."""
        return cast("tuple[Product, int]", await self._call("product", product_id, call))

    async def stored_image(self, product_id: str, image_index: int, call: Call) -> StoredImage:
        """Read an image of a product as it was sent."""
        return cast("StoredImage", await self._call("stored_image", product_id, image_index, call))

    async def page(self, category: str | None, after: str, size: int, call: Call) -> Page:
        """Read a page of products."""
        return cast("Page", await self._call("page", category, after, size, call))

    async def export_page(self, category: str | None, after: str, call: Call, *, known: bool) -> list[EmbeddedProduct]:
        """Read a page of an export."""
        return cast("list[EmbeddedProduct]", await self._call("export_page", category, after, call, known=known))

    async def categories(self, call: Call, *, include_attributes: bool) -> list[Category]:
        """List the categories by name."""
        return cast("list[Category]", await self._call("categories", call, include_attributes=include_attributes))

    async def _decode(self, image: Image, call: Call, *, bulk: bool) -> tuple[Pixels, float]:
        """Return the model's input and the seconds that decoding took."""
        if isinstance(image, RawImage) and self._decoder.is_model_input(image):
            return image.pixels, 0.0
        return await self._decoding.decode(self._decoder, image, call, bulk=bulk)

    def _share(self, pixels: Pixels) -> int | RawImage:
        """Write an image to a free slot; where none is free it goes in the message, to be judged by the same queue."""
        slot = None if self._connection is None else self._images.write(pixels)
        return RawImage(pixels, None, "") if slot is None else slot

    async def _call(self, method: str, *arguments: Any, image: int | RawImage | None = None, **options: Any) -> Any:
        if self._connection is None:
            raise _engine_unavailable()
        number = next(self._numbers)
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        self._send((number, method, image, arguments, options))
        try:
            return await future
        finally:
            if self._pending.pop(number, None) is not None:
                self._send((number, None, None, (), {}))  # the caller has gone: cancel

    def _send(self, request: IpcRequest) -> None:
        if self._connection is not None:
            self._connection.send(request)

    def _on_reply(self, reply: IpcReply) -> None:
        if isinstance(reply, int):
            self._images.free(reply)
            return
        number, error, value = reply
        if isinstance(error, LookalikeError) and error.code is Code.RESOURCE_EXHAUSTED:
            self._admit_until = time.monotonic() + _ADMIT_SECONDS
        future = self._pending.pop(number, None)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def _on_connection_lost(self) -> None:
        self._connection = None
        del self._images
        for future in self._pending.values():
            if not future.done():
                future.set_exception(_engine_unavailable())
        self._pending.clear()
        self.disconnected.set()


def _complete_stats(stats: ResponseStats, decode: float, call: Call) -> ResponseStats:
    """Add what only this process measures."""
    return stats._replace(decode=decode, total=time.monotonic() - call.arrived)


def _engine_unavailable() -> LookalikeError:
    return unavailable("the engine process has ended and is being restarted; try again", Rejection.ENGINE_LOST)
