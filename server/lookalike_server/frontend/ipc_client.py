"""The engine as a worker has it: decodes images here, and asks the process with the model for the rest."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

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
from lookalike_server.domain.errors import Code, LookalikeError, unavailable
from lookalike_server.domain.events import ItemFailed, Observer
from lookalike_server.domain.inference import Call, EmbedResult, Image, Model, Pixels, RawImage, ResponseStats
from lookalike_server.domain.search import Query, SearchResult
from lookalike_server.engine.api import EngineApi
from lookalike_server.frontend.ipc import LENGTH, IpcConnection, loads
from lookalike_server.frontend.ipc_server import Ask, Hello, Reply
from lookalike_server.frontend.shared_images import SharedImageWriter
from lookalike_server.inference.image_decoding import ImageDecoder

_PRESSED_SECONDS = 1.0
"""For so long after a rejection Embed asks to be admitted before its image is read, which is one query more a call."""

_ANYWHERE = nullcontext()


class IpcEngine(EngineApi):
    """Lives on one event loop; `connect` again after the connection broke."""

    def __init__(
        self, make_reader: Callable[[Model], ImageDecoder], decoders: ThreadPoolExecutor, observer: Observer
    ) -> None:
        """Decode in these threads, as the model wants it."""
        self._make_reader = make_reader
        self._decoders = decoders
        self._observer = observer
        self._reader: ImageDecoder
        self._bulk: asyncio.Semaphore
        self._wire: IpcConnection | None = None
        self._rows: SharedImageWriter
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._pressed_until = 0.0
        self.lost = asyncio.Event()
        """Set once the connection broke."""

    @property
    def rows_free(self) -> int:
        """Rows that may be written; for tests, which want to see that they come back."""
        return self._rows.free

    async def connect(self, backend: socket.socket) -> bool:
        """Wait until the process at the other end is ready; False where it ended before."""
        loop = asyncio.get_running_loop()
        backend.setblocking(False)
        first = asyncio.Event()
        loop.add_reader(backend, first.set)
        try:
            await first.wait()
        finally:
            loop.remove_reader(backend)
        try:
            data, files, _, _ = socket.recv_fds(backend, 65536, 1)
        except ConnectionError:
            data, files = b"", []
        if not data:
            backend.close()
            return False
        hello: Hello = loads(data[LENGTH.size :])
        self.model, self.runtime, self.stream_window = hello.model, hello.runtime, hello.stream_window
        self._reader = self._make_reader(hello.model)
        self._bulk = asyncio.Semaphore(hello.stream_window)
        try:
            self._rows = SharedImageWriter(files[0], hello.rows, hello.model.height, hello.model.width)
        finally:
            os.close(files[0])
        self.lost.clear()
        self._wire = wire = IpcConnection(self._heard, self._lose)
        await loop.create_unix_connection(lambda: wire, sock=backend)
        return True

    async def admit(self, call: Call) -> None:
        """Reject an image before it is read; only asked where one was rejected lately."""
        if time.monotonic() < self._pressed_until:
            await self._ask("admit", call)

    async def embed(self, image: Image, call: Call, *, bulk: bool = False) -> EmbedResult:
        """Embed one image."""
        async with self._bulk if bulk else _ANYWHERE:
            pixels, decode = await self._read(image)
            embedded: EmbedResult = await self._ask("embed", call, image=self._place(pixels), bulk=bulk)
        return replace(embedded, stats=_signed(embedded.stats, decode, call))

    async def find_similar(self, query: Query, call: Call, *, bulk: bool = False) -> SearchResult:
        """Find the products that look most like an image, a vector or a product."""
        answer: SearchResult
        if query.image is None:
            answer = await self._ask("find_similar", query, call, bulk=bulk)
            return replace(answer, stats=_signed(answer.stats, 0.0, call))
        async with self._bulk if bulk else _ANYWHERE:
            pixels, decode = await self._read(query.image)
            bare = replace(query, image=None)
            answer = await self._ask("find_similar", bare, call, image=self._place(pixels), bulk=bulk)
        return replace(answer, stats=_signed(answer.stats, decode, call))

    async def upsert(self, drafts: Sequence[ProductUpsert], call: Call) -> list[Exception | None]:
        """Store or replace products; the images go as they came, because the catalog keeps the files."""
        return cast("list[Exception | None]", await self._ask("upsert", drafts, call))

    async def delete(self, removals: Sequence[ProductDelete]) -> list[Exception | None]:
        """Remove products."""
        return cast("list[Exception | None]", await self._ask("delete", removals))

    async def update_attributes(self, description: AttributeUpdate) -> Product:
        """Change a product's attributes."""
        return cast("Product", await self._ask("describe", description))

    def report_internal_error(self, error: Exception) -> None:
        """Report an item's failure, if it is a fault of ours."""
        if not isinstance(error, LookalikeError):
            self._observer(ItemFailed(error))

    async def product(self, product_id: str) -> tuple[Product, int]:
        """Read a product and the number of images it is found by."""
        return cast("tuple[Product, int]", await self._ask("product", product_id))

    async def image(self, product_id: str, image_index: int) -> StoredImage:
        """Read an image of a product as it was sent."""
        return cast("StoredImage", await self._ask("image", product_id, image_index))

    async def page(self, category: str | None, after: str, size: int) -> Page:
        """Read a page of products."""
        return cast("Page", await self._ask("page", category, after, size))

    async def export_page(self, category: str | None, after: str, *, known: bool) -> list[EmbeddedProduct]:
        """Read a page of an export."""
        return cast("list[EmbeddedProduct]", await self._ask("export_page", category, after, known=known))

    async def categories(self, *, include_attributes: bool) -> list[Category]:
        """List the categories by name."""
        return cast("list[Category]", await self._ask("categories", include_attributes=include_attributes))

    async def _read(self, image: Image) -> tuple[Pixels, float]:
        """The model's input, and the seconds that decoding took."""
        started = time.monotonic()
        if isinstance(image, RawImage) and self._reader.is_input(image):
            return image.pixels, time.monotonic() - started
        pixels = await asyncio.get_running_loop().run_in_executor(self._decoders, self._reader.read, image)
        return pixels, time.monotonic() - started

    def _place(self, pixels: Pixels) -> int | RawImage:
        """Write an image into a row that is free; where none is it goes as a message, to be judged by the same queue."""
        row = None if self._wire is None else self._rows.put(pixels)
        return RawImage(pixels, None, "") if row is None else row

    async def _ask(self, method: str, *arguments: Any, image: int | RawImage | None = None, **options: Any) -> Any:
        if self._wire is None:
            raise _gone()
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send((number, method, image, arguments, options))
        try:
            return await future
        finally:
            if self._asked.pop(number, None) is not None:
                self._send((number, None, None, (), {}))  # the caller gave up

    def _send(self, ask: Ask) -> None:
        if self._wire is not None:
            self._wire.send(ask)

    def _heard(self, message: Reply) -> None:
        if isinstance(message, int):
            self._rows.freed(message)
            return
        number, error, value = message
        if isinstance(error, LookalikeError) and error.code is Code.RESOURCE_EXHAUSTED:
            self._pressed_until = time.monotonic() + _PRESSED_SECONDS
        future = self._asked.pop(number, None)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def _lose(self) -> None:
        self._wire = None
        del self._rows
        for future in self._asked.values():
            if not future.done():
                future.set_exception(_gone())
        self._asked.clear()
        self.lost.set()


def _signed(stats: ResponseStats, decode: float, call: Call) -> ResponseStats:
    """The stats with what only this process knows."""
    return replace(stats, decode=decode, total=time.monotonic() - call.arrived)


def _gone() -> LookalikeError:
    return unavailable("the process that runs the model has ended and is started again; try again")
