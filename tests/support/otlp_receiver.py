"""A collector: receives spans by OTLP over gRPC, as any would, and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class ReceivedSpan:
    """A span, what its process says of itself, and their attributes as Python values."""

    span: trace_pb2.Span
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.span.name)

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes."""
        return _values(self.span.attributes)

    @property
    def trace_id(self) -> str:
        """Its trace, in hexadecimal digits."""
        return bytes(self.span.trace_id).hex()

    @property
    def span_id(self) -> str:
        """Itself, in hexadecimal digits."""
        return bytes(self.span.span_id).hex()

    @property
    def parent(self) -> str:
        """The span above it; empty where there is none."""
        return bytes(self.span.parent_span_id).hex()

    @property
    def links(self) -> list[str]:
        """The spans that it links to."""
        return [bytes(link.span_id).hex() for link in self.span.links]

    @property
    def is_error(self) -> bool:
        """Whether its status is an error."""
        return bool(self.span.status.code == trace_pb2.Status.STATUS_CODE_ERROR)


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span that it receives."""

    def __init__(self) -> None:
        self.target = ""
        self.answering = threading.Event()
        """Cleared while exports are to wait."""
        self.answering.set()
        self.asked = threading.Event()
        """Set once an export has begun."""
        self.requests: list[bytes] = []
        """As they came, to search in."""
        self._spans: list[ReceivedSpan] = []
        self._grown = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name is the protocol's
        """Receive spans."""
        self.asked.set()
        self.answering.wait(TIMEOUT_SECONDS)
        with self._grown:
            self.requests.append(request.SerializeToString())
            for resource_spans in request.resource_spans:
                resource = _values(resource_spans.resource.attributes)
                for scope in resource_spans.scope_spans:
                    self._spans += [ReceivedSpan(span, resource) for span in scope.spans]
            self._grown.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, name: str = "") -> list[ReceivedSpan]:
        """Return the spans of this name, or all, until now."""
        with self._grown:
            return [span for span in self._spans if name in {"", span.name}]

    def wait_for(self, condition: Callable[[Sequence[ReceivedSpan]], bool]) -> list[ReceivedSpan]:
        """Wait until the condition holds of all spans, and return them."""
        with self._grown:
            assert self._grown.wait_for(lambda: condition(self._spans), TIMEOUT_SECONDS), [s.name for s in self._spans]
            return list(self._spans)


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Run a collector on a free port until the block ends."""
    receiver = OtlpReceiver()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    receiver.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        receiver.answering.set()
        server.stop(None).wait()


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
