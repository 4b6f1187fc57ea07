"""How much memory, disk and how many threads a server takes: the formulas of docs/sizing.md, for the doctor too.

A test compares the constants with the page, and the formulas with a process.
"""

from __future__ import annotations

MIB = 1 << 20

PROCESS_BYTES = 80 * MIB
"""Anonymous memory of a process with the model: Python, gRPC, ONNX Runtime or OpenVINO, Faiss."""

FRONTEND_BYTES = 64 * MIB
"""Anonymous memory of a front-end process, and of the supervisor."""

MODEL_COPIES = 3
"""How often the weights of a model may be in memory: as they were read, and packed for one and for many images."""

RUN_PIXEL_BYTES = 128
"""Bytes that a run may keep for each pixel of its images: the largest layers of a convolutional network."""

ROW_BYTES = 450
"""Anonymous memory of a row besides its vector: its id, its label, its attributes."""

LINK_BYTES = 10
"""Bytes of a graph's node for each of its `hnsw_m` links: 4 for each of twice as many, and those of upper levels."""

FIXED_THREADS = 16
"""Threads of a process besides its pools: gRPC, the writer, the index, the watchdog."""

THREADS_PER_CORE = 5
"""Threads for each core: decoding, searching, two sessions of the model, Faiss."""

PAGE_BYTES = 4096
"""SQLite's page; a row of at most a page is in one, and a longer one in pages of its own."""

CELL_BYTES = 60
"""Bytes of an embedding's row in SQLite besides its vector."""

PRODUCT_BYTES = 250
"""Bytes of a product in SQLite, with its entries in indexes, besides what its texts have beyond 100 characters."""

IMAGE_BYTES = 200
"""Bytes of a stored image in SQLite besides its file: its sha256, also in an index and in its embedding's row."""

WAL_BYTES = 32 * MIB
"""The write-ahead log, which is copied into the file each 16 MiB."""

DEVICE_BYTES = 1536 * MIB
"""GPU memory of a server that searches there besides its rows: CUDA and its libraries, runs, a block that is copied."""

DEVICE_ROW_BYTES = 1
"""GPU memory of a row besides its vector: whether it is live."""

USUAL_PIXELS = 224 * 224
"""Of a model's input, where it is not known."""


def threads(cores: int, frontend_processes: int = 0) -> int:
    """Return the most threads of all processes together."""
    return FIXED_THREADS + THREADS_PER_CORE * cores + frontend_processes * (FIXED_THREADS + cores)


def idle_bytes(
    *,
    model_bytes: int,
    max_batch_size: int,
    pixels: int = USUAL_PIXELS,
    graph_bytes: int = 0,
    rows: int = 0,
    frontend_processes: int = 0,
) -> int:
    """Return the anonymous memory without a call: processes, model, graphs, and what each row has.

    Args:
        model_bytes: Of the model's `model.onnx`.
        max_batch_size: The setting.
        pixels: Of the model's input.
        graph_bytes: Of the index's graphs, which have as much in memory as on the disk.
        rows: Embeddings in the catalog.
        frontend_processes: The setting.
    """
    frontends = (frontend_processes + 1) * FRONTEND_BYTES if frontend_processes else 0
    model = MODEL_COPIES * model_bytes + RUN_PIXEL_BYTES * pixels * max_batch_size
    return PROCESS_BYTES + frontends + model + graph_bytes + ROW_BYTES * rows


def graph_bytes(rows: int, dim: int, hnsw_m: int, *, cosine: bool) -> int:
    """Return the bytes of graphs over so many rows; where the metric is cosine, vectors are in half precision."""
    return rows * ((2 if cosine else 4) * dim + LINK_BYTES * hnsw_m)


def row_bytes(rows: int, dim: int) -> int:
    """Return the bytes of the vectors that searches compare: float32, in mapped files."""
    return rows * 4 * dim


def device_bytes(rows: int, dim: int) -> int:
    """Return the bytes of GPU memory that searches there take: half precision. The model comes on top."""
    return DEVICE_BYTES + rows * (2 * dim + DEVICE_ROW_BYTES)


def file_bytes(rows: int, dim: int, products: int, images: int = 0, image_bytes: int = 0) -> int:
    """Return the bytes of `catalog.sqlite`.

    Args:
        rows: Embeddings.
        dim: Dimensions of each.
        products: With at least an embedding each.
        images: Stored images, each counted once.
        image_bytes: Of the file of each, in the mean.
    """
    of_rows = rows * stored_bytes(4 * dim + CELL_BYTES)
    return int(of_rows + products * PRODUCT_BYTES + images * (stored_bytes(image_bytes) + IMAGE_BYTES))


def stored_bytes(payload: int) -> float:
    """Return what a row of so many bytes takes in SQLite's pages, which it may leave half empty.

    What does not fit into a page has pages of its own but for a part (https://sqlite.org/fileformat2.html, 1.6).
    """
    usable, least = PAGE_BYTES, (PAGE_BYTES - 12) * 32 // 255 - 23
    own_pages, local = 0, payload
    if payload > usable - 35:
        rest = least + (payload - least) % (usable - 4)
        local = rest if rest <= usable - 35 else least
        own_pages = -(-(payload - local) // (usable - 4))
    return PAGE_BYTES * (own_pages + 1 / max(1, usable // (local + 10)))
