"""Requests of the Open Inference Protocol, and their responses as arrays."""

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
    """Make a stub."""
    return inference_service_pb2_grpc.GRPCInferenceServiceStub(served.channel)


def images(count: int, first: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Make so many different images: uint8 [count, side, side, 3]."""
    return np.stack([noise(seed) for seed in range(first, first + count)])


def files(count: int, file_format: str = "PNG") -> list[bytes]:
    """Make the same images as files."""
    return [encoded(pixels, file_format).encoded for pixels in images(count)]


def infer_request(tensor: Input, *raw: bytes, **fields: Any) -> pb.ModelInferRequest:
    """Make a request to the tiny model."""
    return pb.ModelInferRequest(model_name="tiny", inputs=[tensor], raw_input_contents=raw, **fields)


def image(count: int = 1, *shape: int, datatype: str = "UINT8", **fields: Any) -> Input:
    """Make the input of pixels, valid without other arguments."""
    return Input(name="image", datatype=datatype, shape=shape or (count, SIDE, SIDE, 3), **fields)


def raw_images(pixels: np.ndarray[Any, Any], **fields: Any) -> pb.ModelInferRequest:
    """Make a request with these images as raw contents."""
    return infer_request(image(len(pixels)), pixels.tobytes(), **fields)


def typed_images(pixels: np.ndarray[Any, Any]) -> pb.ModelInferRequest:
    """Make a request with these images as typed contents."""
    contents = pb.InferTensorContents(uint_contents=pixels.ravel().tolist())
    return infer_request(image(len(pixels), contents=contents))


def raw_files(files: Sequence[bytes], *shape: int) -> pb.ModelInferRequest:
    """Make a request with these image files as raw contents, each after its length."""
    data = b"".join(struct.pack("<I", len(file)) + file for file in files)
    return infer_request(Input(name="encoded", datatype="BYTES", shape=shape or (len(files),)), data)


def typed_files(images: Sequence[bytes]) -> pb.ModelInferRequest:
    """Make a request with these image files as typed contents."""
    contents = pb.InferTensorContents(bytes_contents=images)
    return infer_request(Input(name="encoded", datatype="BYTES", shape=(len(images),), contents=contents))


def vectors(response: pb.ModelInferResponse) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Read the embeddings of a response: float32 [n, dim]."""
    (output,) = response.outputs
    (data,) = response.raw_output_contents
    return np.frombuffer(data, "<f4").reshape(tuple(output.shape))


def embed(served: Served, seed: int) -> asyncio.Task[Any]:
    """Start a call of Embed."""

    async def call() -> Any:
        return await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))))

    return asyncio.create_task(call())


def infer(served: Served, request: pb.ModelInferRequest) -> asyncio.Task[Any]:
    """Start a call of ModelInfer."""

    async def call() -> Any:
        return await stub(served).ModelInfer(request)

    return asyncio.create_task(call())
