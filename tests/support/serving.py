"""A running server with a tiny real model, stubs on a channel to it, and images and products to send."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from PIL import Image as Pillow

from lookalike.v1 import (
    image_pb2,
    product_pb2,
)
from lookalike_server.app import App
from lookalike_server.config import Settings
from lookalike_server.domain.protocols import Session
from lookalike_server.engine.model_loading import load_onnx
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.openvino_session import OpenVinoModel
from support.fakes import HeldSession, RecordingObserver, SlowSession

SIDE = 32  # of the tiny models' input


@dataclass(frozen=True)
class Served:
    """A running server and stubs on one channel to it."""

    app: App
    observer: RecordingObserver
    channel: grpc.aio.Channel
    embedding: Any
    search: Any
    catalog: Any


Serve = Callable[..., AbstractAsyncContextManager[Served]]


def load_session(folder: ModelFolder, settings: Settings) -> Session:
    """Load the model into the runtime that the settings name."""
    if settings.provider != "openvino":
        return load_onnx(folder, settings)
    model = OpenVinoModel(folder, "fp32")
    session = model.session(1, 1, settings.max_batch_size)
    model.close()
    return session


class HeldModel:
    """Loads the real model into a `HeldSession`: `serve(load_session=HeldModel())`."""

    session: HeldSession

    def __init__(self, seconds: float = 0.0) -> None:
        """Make each run take at least so many seconds."""
        self._seconds = seconds

    def __call__(self, folder: ModelFolder, settings: Settings) -> HeldSession:
        """Load the model."""
        self.session = HeldSession(SlowSession(load_session(folder, settings), self._seconds))
        self.session.asynchronous = settings.provider == "openvino"
        return self.session

    async def caught(self) -> None:
        """Return once a run is being held."""
        await self.session.caught()


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds; fails after a minute, in which a busy machine gets there too."""
    async with asyncio.timeout(60):
        # No event to wait for: the condition is about the server's state, which has no hook for tests.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def connect(target: str) -> grpc.aio.Channel:
    """Open a channel without proxies of the environment and without limits on messages."""
    return grpc.aio.insecure_channel(
        target,
        options=(
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ),
    )


def noise(seed: int, side: int = SIDE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Make another image for every seed: uint8 [side, side, 3], in tiles, which the tiny model distinguishes."""
    tiles = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(tiles, side // 4, axis=0), side // 4, axis=1)


def raw(pixels: np.ndarray[Any, Any]) -> image_pb2.Image:
    """Make an image of a request from these pixels."""
    height, width, _ = pixels.shape
    return image_pb2.Image(rgb=image_pb2.RawImage(width=width, height=height, data=pixels.tobytes()))


def encoded(pixels: np.ndarray[Any, Any], file_format: str = "PNG") -> image_pb2.Image:
    """Make an image of a request from these pixels, as a file."""
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, file_format)
    return image_pb2.Image(encoded=buffer.getvalue())


def product(product_id: str, seed: int, category: str = "Shoes", **facts: Any) -> product_pb2.ProductInput:
    """Make a product to upsert, with another image for every seed."""
    return product_pb2.ProductInput(
        id=product_id, category=category, title=f"Title {product_id}", images=[raw(noise(seed))], **facts
    )


async def rejected(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, status_pb2.Status]:
    """Return the code, message and status of a call that must fail; it must have a request id too."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(caught.value.trailing_metadata() or ())
    assert trailers["x-request-id"]
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == caught.value.code().value[0]
    return caught.value.code(), caught.value.details() or "", status


def violation(status: status_pb2.Status) -> str:
    """Return the field at fault in a status."""
    bad_request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad_request) for detail in status.details)
    (only,) = bad_request.field_violations
    assert only.description
    return str(only.field)
