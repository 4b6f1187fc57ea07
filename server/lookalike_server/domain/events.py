"""What the stages report to the observer: one hook, and one object of details per event.

A new log line touches only `telemetry.py`, a new metric only `metrics/`; a new event is a class here and the line that
reports it. Events of every call are not frozen, because that takes three times as long to make one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lookalike_server.domain.calls import TraceContext
from lookalike_server.domain.errors import Rejection


@dataclass(frozen=True, slots=True)
class TracedImage:
    """An image whose call's trace is recorded, and when it arrived in the queue, in `time.monotonic()`."""

    trace: TraceContext
    arrived: float


@dataclass(slots=True)
class BatchCompleted:
    """The model ran a batch of `size` images, padded to `padded_size`, in `seconds`.

    It began at `started`, in `time.monotonic()`; `traced` are those of its images whose calls' traces are recorded.
    """

    size: int
    padded_size: int
    seconds: float
    started: float = 0.0
    traced: Sequence[TracedImage] = ()


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """The model raised an error; every caller of this batch got INTERNAL, or by its kind another code.

    That is RESOURCE_EXHAUSTED where memory was short, and UNAVAILABLE where the GPU is lost.

    The batch left the queue at `started`, in `time.monotonic()`; `traced` are those of its images whose calls' traces
    are recorded.
    """

    size: int
    error: Exception
    started: float = 0.0
    traced: Sequence[TracedImage] = ()


@dataclass(frozen=True, slots=True)
class BatchSplit:
    """Memory was short for a batch of `size` images, and its halves run instead."""

    size: int
    error: Exception


@dataclass(frozen=True, slots=True)
class ImagesDropped:
    """Images left the queue before they reached the model; `traced` are those whose calls' traces are recorded."""

    cancelled: int = 0
    expired: int = 0
    traced: Sequence[TracedImage] = ()


@dataclass(slots=True)
class ImagesEmbedded:
    """Images of a batch have their embeddings.

    Attributes:
        queue_seconds: How long each waited for the batch.
        late_seconds: Of each whose finish was predicted, by how much it was later than that; negative where sooner.
    """

    queue_seconds: Sequence[float]
    late_seconds: Sequence[float]


@dataclass(slots=True)
class EmbeddingReused:
    """An embedding was in the cache, or (not `cached`) the same image was already being embedded."""

    cached: bool
    trace: TraceContext | None = None


@dataclass(frozen=True, slots=True)
class StageTraced:
    """A stage of a call whose trace is recorded ended.

    Attributes:
        stage: receive (the request), decode, search, read or write (the store); the model's are in the batch's events.
        trace: The call's.
        started: When it began, in `time.monotonic()`.
        seconds: How long it took.
        error: What it raised, if anything.
    """

    stage: str
    trace: TraceContext
    started: float
    seconds: float
    error: BaseException | None


@dataclass(slots=True)
class EmbeddingMissed:
    """An image was looked up in the cache and was not there, nor being embedded."""


@dataclass(slots=True)
class StageCompleted:
    """A stage of one call or image took so many seconds.

    Attributes:
        stage: "read" a request, "decode" an image, "search" the index and the products, or "write" to the catalog until
            it is durable and searchable; batches and the queue in front of them have events of their own.
        seconds: With what the stage itself waits for, such as a thread.
    """

    stage: Literal["read", "decode", "search", "write"]
    seconds: float


@dataclass(slots=True)
class SearchPredicted:
    """A search without an image had to wait for its turn.

    Attributes:
        late_seconds: By how much it was answered later than predicted; negative where sooner.
    """

    late_seconds: float


@dataclass(slots=True)
class CallStarted:
    """A call of this method began.

    Attributes:
        method: Its full gRPC name.
        kind: "unary", "client_stream", "server_stream" or "bidi_stream".
    """

    method: str
    kind: str


@dataclass(slots=True)
class CallRejected:
    """A call ended because the server rejected it; its `CallCompleted` follows."""

    method: str
    reason: Rejection
    trace: TraceContext | None = None


@dataclass(slots=True)
class CallCompleted:
    """A call ended with this gRPC code.

    Attributes:
        method: Its full gRPC name, as in `/lookalike.v1.SearchService/Search`.
        code: The name of its canonical code.
        seconds: From its arrival.
        request_id: Its `x-request-id`.
        fault: The error where it is a fault of the server, which the caller did not see.
        trace: Where it is in a trace, recorded or not; None without tracing.
    """

    method: str
    code: str
    seconds: float
    request_id: str
    fault: Exception | None
    trace: TraceContext | None = None


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """One item of a request failed by a fault of the server; its caller got INTERNAL."""

    error: Exception


@dataclass(slots=True)
class TransactionCommitted:
    """The catalog committed a transaction of so many write operations, which took `seconds` with its flush."""

    operations: int
    seconds: float


@dataclass(slots=True)
class EventLoopLagged:
    """A timer of the event loop, which is set many times a second, was `seconds` late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SearchFellBack:
    """A graph failed or found too few rows, and an exact search took its place."""

    category: str


@dataclass(frozen=True, slots=True)
class DeviceSearchFailed:
    """The device that searches failed or has too little memory, so this category is searched by graphs from now on."""

    category: str
    error: Exception


@dataclass(frozen=True, slots=True)
class RecallMeasured:
    """An approximate search was repeated exactly; `recall` is 0 to 1."""

    category: str
    recall: float


@dataclass(frozen=True, slots=True)
class CategoriesLoaded:
    """The index read these categories from the store; `remaining` are still to be read."""

    categories: Sequence[str]
    remaining: int


@dataclass(frozen=True, slots=True)
class GraphBuilt:
    """A graph of a category was built, extended or compacted."""

    category: str
    products: int


@dataclass(frozen=True, slots=True)
class IndexMaintenanceFailed:
    """A category could not be loaded or maintained; where it is loaded, it is searched as it is.

    Of small categories, which are loaded many at once, `category` is the first.
    """

    category: str
    error: Exception


@dataclass(frozen=True, slots=True)
class GraphFileUnusable:
    """A graph's file is missing, damaged or made with other settings; the graph is rebuilt."""

    category: str
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class GraphFileFailed:
    """A graph's file could not be written or removed; the next start rebuilds the graph."""

    category: str
    error: Exception


@dataclass(frozen=True, slots=True)
class RowFileUnusable:
    """A file of rows is missing, damaged or made with other settings; the rows are read from the store."""

    category: str
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class RowFileFailed:
    """A file of rows could not be written, for instance on a full disk.

    The rows are in memory that cannot be dropped, or the next start reads them from the store.
    """

    error: Exception


@dataclass(frozen=True, slots=True)
class CatalogDamaged:
    """The catalog's file is damaged; health says NOT_SERVING from now on, and nothing more is stored.

    Attributes:
        error: What was found.
        remedy: What an operator can do.
    """

    error: Exception
    remedy: str


@dataclass(frozen=True, slots=True)
class VectorDamaged:
    """A stored embedding is not what was stored; searches leave it out."""

    product_id: str
    image_index: int


@dataclass(frozen=True, slots=True)
class CatalogChecked:
    """The check after a start is done: so many embeddings were read, and so many of these are damaged."""

    vectors: int
    damaged: int


@dataclass(frozen=True, slots=True)
class CatalogCheckFailed:
    """The check after a start ended before it was done; the next start begins it again."""

    error: Exception


@dataclass(frozen=True, slots=True)
class CredentialsFileReloaded:
    """A file of keys or of an issuer's public keys has changed, and its new version is in force."""

    file: str


@dataclass(frozen=True, slots=True)
class CredentialsFileRejected:
    """The new version of such a file cannot be used; the one before stays in force."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class TraceExportFailed:
    """Spans could not be sent to the collector, or there were more than can be; nothing else is affected.

    Attributes:
        reason: What the exporter said last.
        repeated: How often it said something since the last such event.
    """

    reason: str
    repeated: int


@dataclass(frozen=True, slots=True)
class AuditLogFailed:
    """A line could not be written to the audit log; the write itself is not affected."""

    file: str
    error: Exception


Event: TypeAlias = (
    BatchCompleted
    | BatchFailed
    | BatchSplit
    | ImagesDropped
    | ImagesEmbedded
    | EmbeddingReused
    | EmbeddingMissed
    | StageCompleted
    | SearchPredicted
    | CallStarted
    | CallRejected
    | StageTraced
    | CallCompleted
    | TransactionCommitted
    | EventLoopLagged
    | ItemFailed
    | SearchFellBack
    | DeviceSearchFailed
    | RecallMeasured
    | CategoriesLoaded
    | GraphBuilt
    | IndexMaintenanceFailed
    | GraphFileUnusable
    | GraphFileFailed
    | RowFileUnusable
    | RowFileFailed
    | CatalogDamaged
    | VectorDamaged
    | CatalogChecked
    | CatalogCheckFailed
    | CredentialsFileReloaded
    | CredentialsFileRejected
    | TraceExportFailed
    | AuditLogFailed
)

Observer: TypeAlias = Callable[[Event], None]
"""Receives every event, in whichever thread reports it; must neither block nor raise."""
