"""The names of all metrics, with their types, labels and meanings; docs/metrics.md is the same for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of calls and stages: from a search by id to the default deadline of a call."""

LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
LATE_SECONDS = (-1.0, -0.25, -0.1, -0.05, -0.025, -0.01, 0.0, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OPERATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric.

    Attributes:
        name: As Prometheus stores it; that of a counter ends in `_total`.
        kind: Its type.
        meaning: One sentence for its HELP line.
        labels: The names of its labels.
        buckets: The upper bounds of a histogram's buckets, without infinity.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()


def _counter(name: str, meaning: str, *labels: str) -> Definition:
    return Definition(name, "counter", meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Definition:
    return Definition(name, "gauge", meaning, labels)


def _histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Definition:
    return Definition(name, "histogram", meaning, labels, buckets)


_METHOD = ("grpc_type", "grpc_service", "grpc_method")

STARTED = _counter("grpc_server_started_total", "Calls that began.", *_METHOD)
HANDLED = _counter("grpc_server_handled_total", "Calls that ended, by their gRPC code.", *_METHOD, "grpc_code")
HANDLING = _histogram("grpc_server_handling_seconds", "From a call's arrival to its status.", SECONDS, *_METHOD)
REJECTED = _counter("lookalike_rejected_total", "Calls that the server rejected, by the reason.", "reason")

STAGE = _histogram("lookalike_stage_seconds", "Seconds that a stage took.", SECONDS, "stage")
BATCH_SIZE = _histogram("lookalike_batch_size", "Images in a batch, without padding.", BATCH_SIZES)
PADDING = _counter("lookalike_batch_padding_total", "Images of padding that the model ran.")
DROPPED = _counter("lookalike_images_dropped_total", "Images that left a queue before the model ran them.", "reason")
LATE = _histogram(
    "lookalike_finish_prediction_error_seconds",
    "Actual minus predicted finish of images and searches that had to wait.",
    LATE_SECONDS,
)
LOOKUPS = _counter("lookalike_embedding_cache_lookups_total", "Images looked up in the embedding cache.", "result")

QUEUE_DEPTH = _gauge("lookalike_queue_depth", "What waits in a queue.", "queue", "class")
QUEUE_OLDEST = _gauge("lookalike_queue_oldest_seconds", "For how long the oldest has waited.", "queue", "class")
DECODING_BYTES = _gauge("lookalike_decoding_bytes", "Bytes that the images take that are being decoded.")
MESSAGE_BYTES = _gauge("lookalike_message_bytes", "Bytes of requests and responses in memory.")
LOOP_LAG = _histogram("lookalike_event_loop_lag_seconds", "By how much timers of the event loop are late.", LAG_SECONDS)

ROWS = _gauge("lookalike_index_rows", "Rows that searches find, one for each image of a product.", "category")
DEAD_ROWS = _gauge("lookalike_index_dead_rows", "Deleted rows that are still in memory.", "category")
WAITING_ROWS = _gauge("lookalike_index_waiting_rows", "Rows that wait for a graph.", "category")
GRAPH_BUILDS = _counter("lookalike_graph_builds_total", "Graphs that were built, extended or compacted.")
FALLBACKS = _counter("lookalike_search_fallbacks_total", "Searches by graph that became exact ones.")
RECALL = _gauge("lookalike_recall", "Recent recall of searches by graph, 0 to 1.", "category")

COMMIT = _histogram("lookalike_commit_seconds", "Seconds that a transaction took, with its flush.", SECONDS)
COMMIT_OPERATIONS = _histogram("lookalike_commit_operations", "Write operations in a transaction.", OPERATIONS)
WAL_BYTES = _gauge("lookalike_wal_bytes", "Size of the catalog's write-ahead log.")
DATABASE_BYTES = _gauge("lookalike_database_bytes", "Size of the catalog's file.")
DISK_FREE = _gauge("lookalike_disk_free_bytes", "Free bytes of the catalog's file system.")
DAMAGED = _gauge("lookalike_catalog_damaged", "1 if the catalog is known to be damaged, else 0.")

FAULTS = _counter("lookalike_faults_total", "Faults of the server, by what failed.", "kind")
CERTIFICATE = _gauge(
    "lookalike_certificate_expiry_timestamp_seconds", "When the first of the TLS certificates in force expires."
)
GPU_MEMORY_USED = _gauge("lookalike_gpu_memory_used_bytes", "Used memory of a GPU.", "gpu")
GPU_MEMORY = _gauge("lookalike_gpu_memory_total_bytes", "Memory of a GPU.", "gpu")
GPU_USE = _gauge("lookalike_gpu_utilization_ratio", "Share of the time in which a GPU computed, 0 to 1.", "gpu")
BUILD = _gauge(
    "lookalike_build_info",
    "1; the labels say what serves.",
    "version",
    "model",
    "model_digest",
    "provider",
    "library",
    "precision",
)
