"""The Open Inference Protocol v2, which clients of KServe and Triton speak, on the same engine and its queue."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lookalike.inference import inference_service_pb2 as pb
from lookalike.inference import inference_service_pb2_grpc
from lookalike_server import __version__
from lookalike_server.rpc.call_context import CURRENT, Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.oip import tensors
from lookalike_server.rpc.response_limit import check_size

_OVERHEAD = 4096
"""Bytes of a response besides its embeddings, at most."""


class InferenceService(inference_service_pb2_grpc.GRPCInferenceServiceServicer):
    """One model, under the name in its folder."""

    def __init__(self, gate: Gate, max_message_bytes: int) -> None:
        self._gate = gate
        self._max_message_bytes = max_message_bytes

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._gate.is_ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        ready = self._gate.is_ready and tensors.is_model(request.name, request.version, self._gate.engine.model)
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="lookalike", version=__version__)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        return tensors.metadata_response(request, self._gate.engine.model)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        engine, call = self._gate.engine, CURRENT.get()
        max_images = (self._max_message_bytes - _OVERHEAD) // (4 * engine.model.dim)
        batch = tensors.image_batch(request, engine.model, max_images)
        if batch.timeout is not None:
            call = replace(call, deadline=min(call.deadline, call.arrived + batch.timeout))
        async with asyncio.timeout(batch.timeout):
            images = await asyncio.to_thread(list, batch.images) if batch.is_slow else batch.images
            # As many as may be in progress at once are an interactive call; more are bulk work, as a stream is.
            results = await engine.embed_all(images, call, bulk=batch.count > engine.stream_window)
        response = tensors.infer_response(request.id, engine.model, results)
        at_most = 4 * engine.model.dim * batch.count + 4 * len(request.id) + _OVERHEAD
        return check_size(response, self._max_message_bytes, "the embeddings and the id", at_most=at_most)
