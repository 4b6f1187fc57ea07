"""The errors a caller can meet, without a word about gRPC; `rpc/status.py` maps each code to its canonical twin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Code(Enum):
    """What kind of failure it is; the names are those of the canonical gRPC codes."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing that a request named: its kind ("product", "category") and its name."""

    kind: str
    name: str


class LookalikeError(Exception):
    """A failure written for the caller: what is wrong, with which field, and what to do.

    Attributes:
        code: The kind of failure.
        message: One sentence for the caller.
        field: Path of the request's field that is to blame, as in `products[2].images[0].encoded`, or None.
        resource: The thing that was not found, or None.
        retry_after: Seconds after which a repeat makes sense, or None.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        resource: Resource | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.resource = resource
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def invalid(field: str, message: str) -> LookalikeError:
    """The value of `field` cannot be used, and why."""
    return LookalikeError(Code.INVALID_ARGUMENT, message, field=field)


def not_found(kind: str, name: str) -> LookalikeError:
    """There is no such product or category."""
    return LookalikeError(Code.NOT_FOUND, f"no {kind} {name!r}", resource=Resource(kind, name))


def exhausted(message: str, retry_after: float) -> LookalikeError:
    """The server is full; a repeat after `retry_after` seconds makes sense."""
    return LookalikeError(Code.RESOURCE_EXHAUSTED, message, retry_after=retry_after)


class ServerError(Exception):
    """A failure of the server itself whose reason callers may know: they hear `public`, and the log hears it all."""

    def __init__(self, public: LookalikeError) -> None:
        super().__init__(public.message)
        self.public = public


def disk_full() -> ServerError:
    """The catalog's disk is full. Nobody knows when there will be room, so no time for a repeat is named."""
    return ServerError(
        LookalikeError(
            Code.RESOURCE_EXHAUSTED,
            "the disk of the catalog is full and nothing of this was stored; have room made on it, then repeat",
        )
    )


def deadline_exceeded() -> LookalikeError:
    """The caller's deadline passed before the work was begun."""
    return LookalikeError(Code.DEADLINE_EXCEEDED, "the call's deadline passed before its answer was ready")


def unavailable(message: str) -> LookalikeError:
    """The server is not ready yet, or no longer."""
    return LookalikeError(Code.UNAVAILABLE, message, retry_after=1.0)
