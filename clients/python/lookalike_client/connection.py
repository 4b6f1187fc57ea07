"""What the methods of the clients are built on: a channel, stubs, unary calls with a deadline, and health."""

# a timeout is the gRPC deadline, which the server is sent; asyncio.timeout would not send it
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from lookalike.v1.catalog_service_pb2_grpc import CatalogServiceStub
from lookalike.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from lookalike.v1.search_service_pb2_grpc import SearchServiceStub
from lookalike_client.channel import call_metadata, channel_options, reject_too_large
from lookalike_client.errors import from_rpc_error
from lookalike_client.readiness import CHECK, POLL_INTERVAL_S, WATCH, Readiness
from lookalike_client.tls import Tls

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")


class Connection:
    """A channel to a server, for code without an event loop; see `Client`."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        token: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.target = target
        self.timeout = timeout
        self._token = token
        options = channel_options(target)
        self._channel = (
            grpc.secure_channel(target, tls.credentials(), options) if tls else grpc.insecure_channel(target, options)
        )
        self._embedding = EmbeddingServiceStub(self._channel)
        self._search = SearchServiceStub(self._channel)
        self._catalog = CatalogServiceStub(self._channel)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}>"

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return call_metadata(self._token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in progress fail."""
        self._channel.close()

    def health(self, *, timeout: float | None = None) -> str:
        """Return the status of the standard health service: "SERVING", or "NOT_SERVING" while starting or draining."""
        check = self._channel.unary_unary(CHECK, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        response = self._call(check, HealthCheckRequest(), timeout)
        return HealthCheckResponse.ServingStatus.Name(response.status)

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Return as soon as the server's health is SERVING.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when it is not within `timeout` seconds.
        """
        watch = self._channel.unary_stream(WATCH, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        readiness = Readiness(self.target, timeout, time.monotonic())
        while True:
            seconds = readiness.seconds_left(time.monotonic())
            call = watch(HealthCheckRequest(), timeout=seconds, metadata=self._metadata)
            try:
                if any(readiness.is_serving(response) for response in call):
                    return
            except grpc.RpcError as error:
                readiness.check_transient(error)
            finally:
                call.cancel()
            time.sleep(POLL_INTERVAL_S)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        reject_too_large(request)
        try:
            return method(request, timeout=self.timeout if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


class AsyncConnection:
    """A channel to a server, for the event loop that runs when it is created; see `AsyncClient`."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        token: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.target = target
        self.timeout = timeout
        self._token = token
        options = channel_options(target)
        self._channel = (
            aio.secure_channel(target, tls.credentials(), options) if tls else aio.insecure_channel(target, options)
        )
        self._embedding = EmbeddingServiceStub(self._channel)
        self._search = SearchServiceStub(self._channel)
        self._catalog = CatalogServiceStub(self._channel)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}>"

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return call_metadata(self._token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in progress fail."""
        await self._channel.close()

    async def health(self, *, timeout: float | None = None) -> str:
        """Return the status of the standard health service, as `Client.health`."""
        check = self._channel.unary_unary(CHECK, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        response = await self._call(check, HealthCheckRequest(), timeout)
        return HealthCheckResponse.ServingStatus.Name(response.status)

    async def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Return as soon as the server's health is SERVING, as `Client.wait_until_ready`."""
        watch = self._channel.unary_stream(WATCH, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        readiness = Readiness(self.target, timeout, time.monotonic())
        while True:
            seconds = readiness.seconds_left(time.monotonic())
            call = watch(HealthCheckRequest(), timeout=seconds, metadata=self._metadata)
            try:
                async for response in call:
                    if readiness.is_serving(response):
                        return
            except grpc.RpcError as error:
                readiness.check_transient(error)
            finally:
                call.cancel()
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _call(
        self,
        method: aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        reject_too_large(request)
        try:
            return await method(request, timeout=self.timeout if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
