"""What is read when somebody asks: queues, memory, rows, files, certificates, GPUs and what serves. In any thread."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from lookalike_server import __version__
from lookalike_server.metrics import definitions
from lookalike_server.metrics.categories import MAX_CATEGORIES, bounded, bounded_recalls
from lookalike_server.metrics.cells import gauge
from lookalike_server.metrics.gpu import Gpus
from lookalike_server.rpc.certificate_dates import certificate_dates
from lookalike_server.store.sqlite import FILE

if TYPE_CHECKING:
    from lookalike_server.engine.engine import Engine
    from lookalike_server.index.category_index import CategoryIndex
    from lookalike_server.rpc.server import RpcServer
    from lookalike_server.scheduling.fair_queue import FairQueue


class State:
    """Reads a running server, as far as there is one in this process.

    Attributes:
        server: Takes calls.
        engine: Serves them.
        index: Of the engine.
        data_dir: Where the catalog is.
        decoding: The queue of decoders in a process without an engine.
    """

    def __init__(self) -> None:
        """Begin with nothing to read."""
        self.server: RpcServer | None = None
        self.engine: Engine | None = None
        self.index: CategoryIndex | None = None
        self.data_dir: Path | None = None
        self.decoding: FairQueue | None = None
        self._gpus = Gpus()
        self._certificate: bytes | None = None
        self._expiry = 0.0

    def families(self) -> Iterable[Metric]:
        """Yield all metrics; those of what is not there have no values."""
        yield from self._queues()
        yield from self._rows()
        yield from self._files()
        yield self._expiry_family()
        yield from self._gpu_families()
        yield self._build()

    def _queues(self) -> Iterable[Metric]:
        lengths = dict(self.engine.queue_lengths()) if self.engine is not None else {}
        decoding_bytes = self.engine.decoding_bytes if self.engine is not None else 0
        if self.decoding is not None:
            lengths["decode", "interactive"], lengths["decode", "bulk"] = self.decoding.lengths()
            decoding_bytes = self.decoding.units
        yield gauge(definitions.QUEUE_DEPTH, *((labels, each.depth) for labels, each in lengths.items()))
        yield gauge(definitions.QUEUE_OLDEST, *((labels, each.oldest_seconds) for labels, each in lengths.items()))
        yield gauge(definitions.DECODING_BYTES, ((), decoding_bytes))
        yield gauge(definitions.MESSAGE_BYTES, ((), self.server.message_bytes if self.server is not None else 0))

    def _rows(self) -> Iterable[Metric]:
        counts = bounded(self.index.row_counts(MAX_CATEGORIES + 1)) if self.index is not None else {}
        recalls = bounded_recalls(self.index.recalls(), counts) if self.index is not None else {}
        yield gauge(definitions.ROWS, *(((name,), rows.live) for name, rows in counts.items()))
        yield gauge(definitions.DEAD_ROWS, *(((name,), rows.dead) for name, rows in counts.items()))
        yield gauge(definitions.WAITING_ROWS, *(((name,), rows.waiting) for name, rows in counts.items()))
        yield gauge(definitions.RECALL, *(((name,), recall) for name, recall in recalls.items()))

    def _files(self) -> Iterable[Metric]:
        sizes: dict[definitions.Definition, float] = {}
        if self.data_dir is not None:
            file = self.data_dir / FILE
            with suppress(OSError):
                sizes[definitions.DISK_FREE] = shutil.disk_usage(self.data_dir).free
                sizes[definitions.DATABASE_BYTES] = file.stat().st_size
                sizes[definitions.WAL_BYTES] = file.with_name(f"{file.name}-wal").stat().st_size
        for definition in (definitions.WAL_BYTES, definitions.DATABASE_BYTES, definitions.DISK_FREE):
            yield gauge(definition, *([((), sizes[definition])] if definition in sizes else []))

    def _expiry_family(self) -> Metric:
        certificate = self.server.certificate if self.server is not None else None
        if certificate is None:
            return gauge(definitions.CERTIFICATE)
        if certificate != self._certificate:
            self._certificate = certificate
            self._expiry = min(end.timestamp() for _, end in certificate_dates(certificate.decode()))
        return gauge(definitions.CERTIFICATE, ((), self._expiry))

    def _gpu_families(self) -> Iterable[Metric]:
        states = self._gpus.states()
        yield gauge(definitions.GPU_MEMORY_USED, *(((each.gpu,), each.used_bytes) for each in states))
        yield gauge(definitions.GPU_MEMORY, *(((each.gpu,), each.total_bytes) for each in states))
        used = [(each.gpu, each.utilization) for each in states if each.utilization is not None]
        yield gauge(definitions.GPU_USE, *(((gpu,), utilization) for gpu, utilization in used))

    def _build(self) -> Metric:
        if self.engine is None:
            return gauge(definitions.BUILD)
        model, runtime = self.engine.model, self.engine.runtime
        labels = (__version__, model.name, model.digest, runtime.provider, runtime.library, runtime.precision)
        return gauge(definitions.BUILD, (labels, 1))
