"""Requests of the Open Inference Protocol to send, and their answers as arrays."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from lookalike.inference import inference_service_pb2 as pb
from lookalike.inference import inference_service_pb2_grpc
from lookalike.v1 import embedding_service_pb2
from support.serving import SIDE, Served, encoded, noise, raw

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor


def stub(served: Served) -> Any:
    """What makes the calls."""
    return inference_service_pb2_grpc.GRPCInferenceServiceStub(served.channel)


def images(count: int, first: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """So many different images: uint8 [count, side, side, 3]."""
    return np.stack([noise(seed) for seed in range(first, first + count)])


def files(count: int, file_format: str = "PNG") -> list[bytes]:
    """The same as image files."""
    return [encoded(pixels, file_format).encoded for pixels in images(count)]


def ask(tensor: Input, *raw: bytes, **fields: Any) -> pb.ModelInferRequest:
    """A request to the tiny model."""
    return pb.ModelInferRequest(model_name="tiny", inputs=[tensor], raw_input_contents=raw, **fields)


def image(count: int = 1, *shape: int, datatype: str = "UINT8", **fields: Any) -> Input:
    """The description of pixels, right unless told otherwise."""
    return Input(name="image", datatype=datatype, shape=shape or (count, SIDE, SIDE, 3), **fields)


def raw_images(pixels: np.ndarray[Any, Any], **fields: Any) -> pb.ModelInferRequest:
    """A request with these images as bytes."""
    return ask(image(len(pixels)), pixels.tobytes(), **fields)


def typed_images(pixels: np.ndarray[Any, Any]) -> pb.ModelInferRequest:
    """A request with these images as numbers."""
    contents = pb.InferTensorContents(uint_contents=pixels.ravel().tolist())
    return ask(image(len(pixels), contents=contents))


def raw_files(files: Sequence[bytes], *shape: int) -> pb.ModelInferRequest:
    """A request with these image files, each after its length."""
    data = b"".join(struct.pack("<I", len(file)) + file for file in files)
    return ask(Input(name="encoded", datatype="BYTES", shape=shape or (len(files),)), data)


def typed_files(images: Sequence[bytes]) -> pb.ModelInferRequest:
    """A request with these image files as elements."""
    contents = pb.InferTensorContents(bytes_contents=images)
    return ask(Input(name="encoded", datatype="BYTES", shape=(len(images),), contents=contents))


def vectors(response: pb.ModelInferResponse) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The embeddings of an answer: float32 [n, dim]."""
    (output,) = response.outputs
    (data,) = response.raw_output_contents
    return np.frombuffer(data, "<f4").reshape(tuple(output.shape))


def embed(served: Served, seed: int) -> asyncio.Task[Any]:
    """Somebody else's call."""

    async def ask() -> Any:
        return await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))))

    return asyncio.create_task(ask())


def infer(served: Served, request: pb.ModelInferRequest) -> asyncio.Task[Any]:
    """A call under way."""

    async def ask() -> Any:
        return await stub(served).ModelInfer(request)

    return asyncio.create_task(ask())
