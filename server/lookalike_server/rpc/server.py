"""The gRPC server: our services behind the interceptors, the standard health service, and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health, health_pb2

from lookalike.inference import inference_service_pb2, inference_service_pb2_grpc
from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from lookalike_server.domain.calls import BeginSpan
from lookalike_server.domain.events import Observer
from lookalike_server.rpc.accepting import make_server
from lookalike_server.rpc.audit_log import AuditLog
from lookalike_server.rpc.auth import Authenticator
from lookalike_server.rpc.channel_options import ConnectionLimits, channel_options
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.generic_methods import GenericMethods
from lookalike_server.rpc.health_reflection import HealthService, add_reflection
from lookalike_server.rpc.interceptors.calls import CallInterceptor, CallLimits
from lookalike_server.rpc.listening import Address, why_not
from lookalike_server.rpc.message_bytes import MessageBytes
from lookalike_server.rpc.oip.service import InferenceService
from lookalike_server.rpc.quotas import Quotas
from lookalike_server.rpc.readiness import Readiness
from lookalike_server.rpc.tls import Certificates
from lookalike_server.rpc.v1.product_wire import import_request, upsert_request
from lookalike_server.rpc.v1.raw_image_wire import embed_request
from lookalike_server.rpc.v1.services import CatalogService, EmbeddingService, SearchService

SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (catalog_service_pb2, "CatalogService"),
        (embedding_service_pb2, "EmbeddingService"),
        (search_service_pb2, "SearchService"),
        (inference_service_pb2, "GRPCInferenceService"),
    )
)


_CLOSE_SECONDS = 1.0
"""How long connections without calls may take to acknowledge that they are closed: one round trip."""


class RpcServer:
    """Listens from `start` on; health says NOT_SERVING until `open`, and again from `announce_drain` on.

    Attributes:
        on_readiness: Called with what health says from now on, and why, whenever that may have changed.
    """

    def __init__(
        self,
        gate: Gate,
        authenticator: Authenticator,
        quotas: Quotas,
        observer: Observer,
        *,
        limits: CallLimits,
        connections: ConnectionLimits,
        message_bytes: int,
        certificates: Certificates | None = None,
        audit_log: AuditLog | None = None,
        begin_span: BeginSpan | None = None,
    ) -> None:
        """Assemble the server; it listens from `start` on.

        Args:
            gate: Where the engine is, once it is ready.
            authenticator: Says who calls.
            quotas: What each caller may use.
            observer: Receives every call that ends.
            limits: What bounds a call.
            connections: What bounds a connection.
            message_bytes: The most bytes of requests and responses in memory.
            certificates: For TLS; without them it is in the clear.
            audit_log: Where writes are recorded; the server closes it.
            begin_span: Begins the span of a call; without it nothing is traced.
        """
        self.on_readiness: Callable[[Readiness], object] = lambda _: None
        self._state = Readiness.STARTING
        self._audit_log = audit_log
        self._gate = gate
        self._certificates = certificates
        self._message_bytes = MessageBytes(message_bytes)
        self._authenticator = authenticator
        self._stopping: asyncio.Task[None] | None = None
        self._server = make_server(
            interceptors=(
                CallInterceptor(
                    gate,
                    authenticator,
                    quotas,
                    self._message_bytes,
                    observer,
                    limits,
                    {
                        "/lookalike.v1.EmbeddingService/Embed": embed_request,
                        "/lookalike.v1.CatalogService/UpsertProducts": upsert_request,
                        "/lookalike.v1.CatalogService/ImportProducts": import_request,
                    },
                    audit_log,
                    begin_span,
                ),
            ),
            options=channel_options(connections),
        )
        services: Any = GenericMethods(self._server)
        max_bytes, timeout = limits.max_response_bytes, limits.message_timeout
        embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server(EmbeddingService(gate, timeout), services)
        search_service_pb2_grpc.add_SearchServiceServicer_to_server(SearchService(gate, max_bytes, timeout), services)
        catalog = CatalogService(gate, max_bytes, timeout)
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, services)
        inference = InferenceService(gate, max_bytes)
        inference_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, services)
        self._health = HealthService(observer, gate.draining)
        self._health.add_to(self._server)
        add_reflection((*SERVICES, health.SERVICE_NAME), self._server, observer, gate.draining)

    @property
    def message_bytes(self) -> int:
        """How many bytes of requests and responses are in memory."""
        return self._message_bytes.total

    @property
    def certificate(self) -> bytes | None:
        """The certificates in force, PEM: the server's own and those between it and a root; None without TLS."""
        return self._certificates.certificate if self._certificates is not None else None

    async def start(self, address: Address) -> int:
        """Listen, and return the port, which for port 0 is any free one.

        Raises:
            LookalikeError: FAILED_PRECONDITION when the address cannot be listened on.
        """
        self._set_state(Readiness.STARTING)
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(str(address))
            else:
                port = self._server.add_secure_port(str(address), self._certificates.credentials())
        except RuntimeError:
            port = 0
        if port == 0:
            raise why_not(address)
        await self._server.start()
        return port

    @property
    def readiness(self) -> Readiness:
        """What health says, and why."""
        if self._state is not Readiness.SERVING:
            return self._state
        if self._health.is_hung:
            return Readiness.HUNG
        return Readiness.DAMAGED if self._health.is_damaged else Readiness.SERVING

    async def open(self) -> None:
        """Report SERVING; the gate is open."""
        self._set_state(Readiness.SERVING)

    async def suspend(self) -> None:
        """Report NOT_SERVING until it is opened again; the gate is suspended."""
        self._set_state(Readiness.ENGINE_LOST)

    def report_hang(self, *, hung: bool) -> None:
        """Report NOT_SERVING while the model's run or process hangs; calls are still taken, as it may yet go on."""
        self._health.report_hang(hung=hung)
        self.on_readiness(self.readiness)

    def report_damage(self, *, damaged: bool) -> None:
        """Report NOT_SERVING while the catalog is damaged; calls are still taken, and what can be read is."""
        self._health.report_damage(damaged=damaged)
        self.on_readiness(self.readiness)

    def reload_credentials(self) -> None:
        """Read the files of keys, issuers and certificates again; of one that cannot be used the last version stays."""
        self._authenticator.reload()
        if self._certificates is not None:
            self._certificates.reload()

    async def announce_drain(self, seconds: float) -> None:
        """Report NOT_SERVING and serve everything for so long: callers that watch health move on, and lose nothing."""
        self._gate.announce_drain()
        self._set_state(Readiness.DRAINING)
        await asyncio.sleep(seconds)

    async def drain(self, seconds: float) -> bool:
        """Report NOT_SERVING, send all callers away, and wait for the calls under way; then `stop`.

        gRPC's GOAWAY sends the callers away: their next calls go through another connection. Streams end between two
        items. Connections without calls are not waited for long.

        Args:
            seconds: How long the calls under way may take.

        Returns:
            Whether all of them finished in that time.
        """
        await self.announce_drain(0)
        draining = self._gate.draining
        await draining.quiet()
        # Never canceled: that could cancel what grpcio waits for when it is stopped again.
        self._stopping = asyncio.create_task(self._server.stop(seconds))
        await asyncio.sleep(0)  # its first step sends the GOAWAY
        draining.end_streams()
        draining.release()
        finished = await self._gate.emptied(seconds)
        if finished:
            await asyncio.wait((self._stopping,), timeout=min(seconds, _CLOSE_SECONDS))
        return finished

    async def stop(self) -> None:
        """Close the port and cancel the calls still in progress."""
        self._gate.draining.release()
        await self._server.stop(grace=None)
        if self._stopping is not None:
            await self._stopping
        if self._audit_log is not None:
            self._audit_log.close()
            self._audit_log = None

    def _set_state(self, state: Readiness) -> None:
        if self._state is Readiness.DRAINING:
            return  # for good, also where an engine process comes back meanwhile
        self._state = state
        serves = state is Readiness.SERVING
        response = health_pb2.HealthCheckResponse
        for service in ("", *SERVICES):
            self._health.set(service, response.SERVING if serves else response.NOT_SERVING)
        self.on_readiness(self.readiness)
