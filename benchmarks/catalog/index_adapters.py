"""The other indexes, each behind the same few calls: one index a partition, M=16, ef_construction=100.

Each library is imported only by the process that measures it. Rows are numbered over all partitions. The metric is the
inner product of unit vectors, which is the cheapest that any of them has.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.catalog.vectors import Floats, K, VectorSet

M, EF_CONSTRUCTION = 16, 100


class IndexAdapter(Protocol):
    """One library.

    Attributes:
        writes_its_files: Whether an update reaches its files without saving the whole index.
        no_updates: Why a row cannot be replaced while others search; empty where it can.
        durability: What of an update is on disk when it returns.
    """

    writes_its_files: bool
    no_updates: str
    durability: str

    def build(self, vectors: VectorSet, folder: Path, threads: int) -> None:
        """Index every row and write the files."""

    def open(self, vectors: VectorSet, folder: Path, ef: int) -> None:
        """Read the files; a search weighs `ef` candidates."""

    def search(self, partition: int, query: Floats) -> Any:
        """Return the K nearest rows of one query (float32 [dim]), numbered within the partition, nearest first."""

    def replace(self, row: int, vector: Floats) -> None:
        """Give a row another vector."""


class Hnswlib:
    """hnswlib over float32 vectors."""

    writes_its_files = False
    no_updates = "a query beside an add is not safe"
    durability = "none: in memory until it is saved as a whole"

    def __init__(self) -> None:
        self._library = import_module("hnswlib")
        self._indexes: list[Any] = []

    def build(self, vectors: VectorSet, folder: Path, threads: int) -> None:
        """Index every row and write the files."""
        for partition in range(vectors.partitions):
            index = self._library.Index(space="ip", dim=vectors.dim)
            index.init_index(max_elements=vectors.rows, M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
            index.add_items(vectors.part("rows", partition), num_threads=threads)
            index.save_index(str(folder / f"{partition}"))

    def open(self, vectors: VectorSet, folder: Path, ef: int) -> None:
        """Read the files."""
        for file in _files(folder):
            index = self._library.Index(space="ip", dim=vectors.dim)
            index.load_index(str(file))
            index.set_ef(ef)
            self._indexes.append(index)

    def search(self, partition: int, query: Floats) -> Any:
        """Return the K nearest rows, numbered within the partition."""
        return self._indexes[partition].knn_query(query, k=K, num_threads=1)[0][0]

    def replace(self, row: int, vector: Floats) -> None:
        """Not while others search."""
        raise NotImplementedError(self.no_updates)


class Usearch:
    """usearch: its own HNSW over bf16, whose candidates are measured again in float32."""

    writes_its_files = False
    no_updates = ""
    durability = "none: in memory until it is saved as a whole"

    _CANDIDATES = 30

    def __init__(self) -> None:
        self._library = import_module("usearch.index")
        self._indexes: list[Any] = []
        self._rows = 0
        self._vectors: Floats = np.empty((0, 0), np.float32)

    def build(self, vectors: VectorSet, folder: Path, threads: int) -> None:
        """Index every row and write the files."""
        for partition in range(vectors.partitions):
            index = self._index(vectors.dim)
            index.add(np.arange(vectors.rows), np.array(vectors.part("rows", partition)), threads=threads)
            index.save(str(folder / f"{partition}"))

    def open(self, vectors: VectorSet, folder: Path, ef: int) -> None:
        """Read the files."""
        self._rows = vectors.rows
        # copied when it is written: rows that are replaced do not reach the file
        self._vectors = np.load(Path(vectors.folder) / "rows.npy", mmap_mode="c")
        for file in _files(folder):
            index = self._index(vectors.dim)
            index.load(str(file))
            index.expansion_search = ef  # a loaded file brings none
            self._indexes.append(index)

    def search(self, partition: int, query: Floats) -> Any:
        """Return the K nearest rows, numbered within the partition."""
        keys = self._indexes[partition].search(query, self._CANDIDATES, threads=1).keys.astype(np.int64)
        cosines = self._vectors[keys + partition * self._rows] @ query
        return keys[np.argsort(-cosines, kind="stable")[:K]]

    def replace(self, row: int, vector: Floats) -> None:
        """Remove and add under the same key."""
        index = self._indexes[row // self._rows]
        index.remove(row % self._rows)
        index.add(row % self._rows, vector, threads=1)
        self._vectors[row] = vector

    def _index(self, dim: int) -> Any:
        return self._library.Index(ndim=dim, metric="ip", dtype="bf16", connectivity=M, expansion_add=EF_CONSTRUCTION)


class Faiss:
    """faiss: IndexHNSWSQ over fp16, as our own graphs are."""

    writes_its_files = False
    no_updates = "its HNSW cannot remove a row"
    durability = "none: in memory until it is saved as a whole"

    def __init__(self) -> None:
        self._library = import_module("faiss")
        self._indexes: list[Any] = []

    def build(self, vectors: VectorSet, folder: Path, threads: int) -> None:
        """Index every row and write the files."""
        self._library.omp_set_num_threads(threads)
        for partition in range(vectors.partitions):
            fp16, product = self._library.ScalarQuantizer.QT_fp16, self._library.METRIC_INNER_PRODUCT
            index = self._library.IndexHNSWSQ(vectors.dim, fp16, M, product)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            index.add(np.ascontiguousarray(vectors.part("rows", partition)))
            self._library.write_index(index, str(folder / f"{partition}"))

    def open(self, vectors: VectorSet, folder: Path, ef: int) -> None:
        """Read the files."""
        del vectors
        self._library.omp_set_num_threads(1)
        for file in _files(folder):
            index = self._library.read_index(str(file))
            index.hnsw.efSearch = ef
            self._indexes.append(index)

    def search(self, partition: int, query: Floats) -> Any:
        """Return the K nearest rows, numbered within the partition."""
        return self._indexes[partition].search(query[np.newaxis], K)[1][0]

    def replace(self, row: int, vector: Floats) -> None:
        """Not possible."""
        raise NotImplementedError(self.no_updates)


class MilvusLite:
    """milvus-lite through pymilvus, as its users call it: a collection a partition, HNSW, on a folder of its own."""

    writes_its_files = True
    no_updates = ""
    durability = "its log is written before it answers, and flushed to the disk only when it is closed"

    _INSERTED = 500  # rows a call: 4 MiB of vectors

    def __init__(self) -> None:
        self._library = import_module("pymilvus")
        self._client: Any = None
        self._rows = 0
        self._ef = 0

    def build(self, vectors: VectorSet, folder: Path, threads: int) -> None:
        """Index every row and write the files; it takes no number of threads."""
        del threads
        client = self._library.MilvusClient(str(folder / "milvus.db"))
        for partition in range(vectors.partitions):
            kinds = self._library.DataType
            schema = client.create_schema(auto_id=False)
            schema.add_field("id", kinds.INT64, is_primary=True)
            schema.add_field("vector", kinds.FLOAT_VECTOR, dim=vectors.dim)
            index = client.prepare_index_params()
            graph = {"M": M, "efConstruction": EF_CONSTRUCTION}
            index.add_index("vector", index_type="HNSW", metric_type="IP", params=graph)
            client.create_collection(f"c{partition}", schema=schema, index_params=index)
            rows = vectors.part("rows", partition)
            for begin in range(0, vectors.rows, self._INSERTED):
                some = rows[begin : begin + self._INSERTED]
                client.insert(
                    f"c{partition}",
                    [{"id": begin + at, "vector": np.asarray(vector)} for at, vector in enumerate(some)],
                )
            client.flush(f"c{partition}")
        client.close()

    def open(self, vectors: VectorSet, folder: Path, ef: int) -> None:
        """Open the files and load the collections."""
        self._rows, self._ef = vectors.rows, ef
        self._client = self._library.MilvusClient(str(folder / "milvus.db"))
        for name in self._client.list_collections():
            self._client.load_collection(name)

    def search(self, partition: int, query: Floats) -> Any:
        """Return the K nearest rows, numbered within the partition, without their vectors."""
        asked = {"metric_type": "IP", "params": {"ef": self._ef}}
        found = self._client.search(f"c{partition}", data=[query], limit=K, search_params=asked, output_fields=["id"])
        return [hit["id"] for hit in found[0]]

    def replace(self, row: int, vector: Floats) -> None:
        """Upsert it."""
        self._client.upsert(f"c{row // self._rows}", [{"id": row % self._rows, "vector": vector}])


ADAPTERS: dict[str, Callable[[], IndexAdapter]] = {
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "faiss": Faiss,
    "milvus-lite": MilvusLite,
}
PACKAGES = {"hnswlib": "hnswlib", "usearch": "usearch", "faiss": "faiss-cpu", "milvus-lite": "milvus-lite"}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda file: int(file.name))
