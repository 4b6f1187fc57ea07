"""The errors that a caller may see, free of gRPC; `rpc/status.py` maps each code to its gRPC status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class Code(Enum):
    """The kind of failure; the names are those of gRPC's status codes."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    DATA_LOSS = "data_loss"


class Rejection(StrEnum):
    """Why the server did not serve what it could have served at another time; the values are labels of metrics."""

    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    QUOTA = "quota"
    BYTES = "bytes"
    EVENT_LOOP = "event_loop"
    SILENT = "silent"
    INDEX_BEHIND = "index_behind"
    DISK_FULL = "disk_full"
    MEMORY = "memory"
    STARTING = "starting"
    DRAINING = "draining"
    ENGINE_LOST = "engine_lost"


@dataclass(frozen=True, slots=True)
class Resource:
    """What a request named: its kind ("product", "category") and its name."""

    kind: str
    name: str


class LookalikeError(Exception):
    """A failure whose message is for the caller: what is wrong, in which field, and what to do.

    Attributes:
        code: The kind of failure.
        message: One sentence for the caller.
        field: Path of the request's field at fault, as in `products[2].images[0].encoded`, or None.
        resource: What was not found, or None.
        retry_after: Seconds after which a retry makes sense, or None.
        rejection: Why the server rejected what it could have served at another time, or None.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        resource: Resource | None = None,
        retry_after: float | None = None,
        rejection: Rejection | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.resource = resource
        self.retry_after = retry_after
        self.rejection = rejection

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def invalid(field: str, message: str) -> LookalikeError:
    """INVALID_ARGUMENT: the value of `field` is wrong; the message continues the field's name."""
    return LookalikeError(Code.INVALID_ARGUMENT, message, field=field)


def not_found(kind: str, name: str) -> LookalikeError:
    """NOT_FOUND: there is no such product, category or image."""
    return LookalikeError(Code.NOT_FOUND, f"no {kind} {name!r}", resource=Resource(kind, name))


def exhausted(message: str, retry_after: float, rejection: Rejection) -> LookalikeError:
    """RESOURCE_EXHAUSTED: the server is full; a retry makes sense after `retry_after` seconds."""
    return LookalikeError(Code.RESOURCE_EXHAUSTED, message, retry_after=retry_after, rejection=rejection)


class ServerError(Exception):
    """A failure of the server whose reason callers may know: they get `public`, and the log gets the whole error."""

    def __init__(self, public: LookalikeError) -> None:
        super().__init__(public.message)
        self.public = public


def disk_full() -> ServerError:
    """RESOURCE_EXHAUSTED: the catalog's disk is full. When that ends is unknown, so there is no retry delay."""
    return ServerError(
        LookalikeError(
            Code.RESOURCE_EXHAUSTED,
            "the catalog's disk is full and nothing was stored; free some space on it, then retry",
            rejection=Rejection.DISK_FULL,
        )
    )


def vectors_damaged(product_id: str) -> LookalikeError:
    """DATA_LOSS: no embedding of this product is what was stored."""
    return LookalikeError(
        Code.DATA_LOSS,
        f"the embedding of {product_id!r} is damaged on the server's disk; upsert the product again, or restore a"
        " backup of the catalog",
    )


def deadline_exceeded() -> LookalikeError:
    """DEADLINE_EXCEEDED: the caller's deadline passed before the response was ready."""
    return LookalikeError(Code.DEADLINE_EXCEEDED, "the call's deadline passed before its response was ready")


def unavailable(message: str, rejection: Rejection) -> LookalikeError:
    """UNAVAILABLE: the server is not ready yet, or no longer."""
    return LookalikeError(Code.UNAVAILABLE, message, retry_after=1.0, rejection=rejection)
