"""How much memory, disk and how many threads a server takes: the formulas of docs/sizing.md.

Each constant is rounded up from what was measured. A test measures a server again, and compares this file and the page.
"""

from __future__ import annotations

MIB = 1 << 20

PROCESS_BYTES = 90 * MIB
"""Anonymous memory of a process without a catalog: Python, gRPC, the runtime, and a small model."""

AUTOTUNE_BYTES = 50 * MIB
"""More in the first start on a CPU, which measures both runtimes; the next one loads the faster only."""

FRONTEND_BYTES = 70 * MIB
"""Anonymous memory of a front-end process, which has no model."""

MODEL_COPIES = 3
"""How often the weights of a model may be in memory: the graph as it was read, and sessions packed from it."""

ROW_BYTES = 450
"""Anonymous memory of a row besides its vector: id, label, attributes."""

LINK_BYTES = 10
"""Bytes of a graph's node for each of its `hnsw_m` links: 4 for each of twice as many, and those of upper levels."""

FIXED_THREADS = 16
"""Threads of a process besides its pools: gRPC, the writer, the index, the watchdog."""

POOLS = 5
"""Threads for each core: decoding, searching, the model's (which may be of two sessions), and Faiss."""

PAGE_BYTES = 4096
"""SQLite's page."""

CELL_BYTES = 60
"""Bytes of an embedding's row in SQLite besides its vector."""

PRODUCT_BYTES = 600
"""Bytes of a product in SQLite with its indexes and an idempotency key, with short texts."""

WAL_BYTES = 48 * MIB
"""The most of the write-ahead log while nobody reads for long; it is copied into the file each 16 MiB."""


def threads(cores: int, frontend_processes: int = 0) -> int:
    """Return the threads of all processes."""
    return FIXED_THREADS + POOLS * cores + frontend_processes * (FIXED_THREADS + cores)


def idle_bytes(model_bytes: int, graph_bytes: int = 0, frontend_processes: int = 0, rows: int = 0) -> int:
    """Return the anonymous memory without a call: processes, model, graphs, and what each row has.

    Args:
        model_bytes: Of the model's graph file.
        graph_bytes: Of the index's graphs, which have as much in memory as on the disk.
        frontend_processes: The setting.
        rows: Embeddings in the catalog.
    """
    processes = PROCESS_BYTES + AUTOTUNE_BYTES + frontend_processes * FRONTEND_BYTES
    return processes + MODEL_COPIES * model_bytes + graph_bytes + ROW_BYTES * rows


def graph_bytes(rows: int, dim: int, hnsw_m: int, *, cosine: bool) -> int:
    """Return the bytes of graphs over so many rows; where the metric is cosine, vectors are in half precision."""
    return rows * ((2 if cosine else 4) * dim + LINK_BYTES * hnsw_m)


def row_bytes(rows: int, dim: int) -> int:
    """Return the bytes of the vectors that searches compare: float32, in mapped files."""
    return rows * 4 * dim


def file_bytes(rows: int, dim: int, products: int, image_bytes: int = 0) -> int:
    """Return the bytes of `catalog.sqlite`, whose pages of 4 KiB a row may leave half empty."""
    cell = 4 * dim + CELL_BYTES
    in_page = PAGE_BYTES // cell
    of_row = PAGE_BYTES / in_page if in_page else cell + PAGE_BYTES / 4
    return int(rows * of_row + products * PRODUCT_BYTES + image_bytes * 17 / 16)
