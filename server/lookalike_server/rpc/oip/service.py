"""The Open Inference Protocol v2, as clients of KServe and Triton speak it, over the same engine and its admission."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lookalike.inference import inference_service_pb2 as pb
from lookalike.inference import inference_service_pb2_grpc
from lookalike_server import __version__
from lookalike_server.rpc.call_context import CURRENT, Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.oip import tensors

_BESIDE = 4096
"""Bytes of an answer that are not its embeddings; more than there can be."""


class InferenceService(inference_service_pb2_grpc.GRPCInferenceServiceServicer):
    """One model, under the name that its folder gives it."""

    def __init__(self, gate: Gate, max_message_bytes: int) -> None:
        self._gate = gate
        self._max_message_bytes = max_message_bytes

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._gate.is_open)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        ready = self._gate.is_open and tensors.is_model(request.name, request.version, self._gate.engine.model)
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="lookalike", version=__version__)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        return tensors.metadata(request, self._gate.engine.model)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        engine, call = self._gate.engine, CURRENT.get()
        fitting = (self._max_message_bytes - _BESIDE) // (4 * engine.model.dim)
        asked = tensors.asked(request, engine.model, fitting)
        if asked.timeout is not None:
            call = replace(call, deadline=min(call.deadline, call.arrived + asked.timeout))
        async with asyncio.timeout(asked.timeout):
            images = await asyncio.to_thread(list, asked.images) if asked.slow else asked.images
            # What may be on its way at once is a query that somebody waits for; more is bulk work, as a stream is.
            embedded = await engine.embed_all(images, call, bulk=asked.count > engine.stream_window)
        return tensors.answer(request.id, engine.model, embedded)
