"""The vectors of the catalog's scenarios: drawn from clusters by fixed seeds, and what brute force finds among them.

A partition has `CLUSTERS` centers, directions drawn evenly from the sphere. A vector is a center plus noise that is, in
expectation, `NOISE` times as long, scaled to length 1: two of one cluster have a cosine of about 1 / (1 + NOISE^2), two
of different ones about 0. Queries are fresh draws from the same clusters and never rows of an index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt

CLUSTERS = 200
NOISE = 0.7
K = 10
SPARES = 2_000
"""Vectors a partition that replace others: fresh draws too, used again in turns."""

TIE = 1e-6
"""Cosines nearer than this are equal: float32 sums differ by their order."""

_SEED = 20_480
_ROWS, _QUERIES, _SPARES = range(3)
_CHUNK = 4_096
_CHUNK_VALUES = 2**25

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Vectors in a folder: rows.npy, queries.npy and spares.npy, float32 [n, dim], length 1, partition after partition.

    Attributes:
        folder: Where they are.
        partitions: Into how many parts of the same size each array falls.
        rows: Rows of a partition.
        queries: Queries of a partition.
        dim: Dimensions of a vector.
        label: Begins the names of its products and categories, where several are in one catalog.
    """

    folder: str
    partitions: int
    rows: int
    queries: int
    dim: int
    label: str = ""

    @property
    def total(self) -> int:
        """Rows of all partitions."""
        return self.partitions * self.rows

    @property
    def raw_bytes(self) -> int:
        """Bytes of the rows as float32."""
        return 4 * self.total * self.dim

    def array(self, name: str) -> Floats:
        """Return one of the arrays, memory-mapped."""
        array: Floats = np.load(Path(self.folder) / f"{name}.npy", mmap_mode="r")
        return array

    def part(self, name: str, partition: int) -> Floats:
        """Return a partition's part of one of the arrays."""
        whole = self.array(name)
        size = len(whole) // self.partitions
        return whole[partition * size : (partition + 1) * size]

    def name(self) -> str:
        """Return a name for what is made of these vectors: the same for the same vectors."""
        return f"{self.partitions}x{self.rows}x{self.dim}-{CLUSTERS}-{NOISE}-{_SEED}"

    def in_turns(self) -> list[int]:
        """Return the numbers of all queries, one of each partition in turns: a short turn covers all partitions."""
        return [part * self.queries + at for at in range(self.queries) for part in range(self.partitions)]

    def replacements(self, seed: int) -> Iterator[tuple[int, Floats]]:
        """Yield random rows, each with a new vector of its own partition, without end; all come before one returns."""
        random = np.random.default_rng([_SEED, seed])
        order = random.permutation(self.total)
        spares = self.array("spares")
        share = len(spares) // self.partitions
        for row in cycle(order.tolist()):
            yield row, spares[row // self.rows * share + int(random.integers(share))]

    def to_json(self) -> str:
        """Encode for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> VectorSet:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def draw_clustered(
    folder: Path, partitions: int, rows: int, queries: int, dim: int, *, spares: int = SPARES
) -> VectorSet:
    """Draw everything and write it; the same arguments give the same vectors everywhere."""
    kinds = {"rows": (_ROWS, rows), "queries": (_QUERIES, queries), "spares": (_SPARES, spares)}
    for name, (stream, count) in kinds.items():
        shape = (partitions * count, dim)
        array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
        for partition in range(partitions):
            centers = unit(np.random.default_rng([_SEED, partition]).standard_normal((CLUSTERS, dim), np.float32))
            random = np.random.default_rng([_SEED, partition, stream])
            # fewer long vectors at a time; the usual ones stay as they were
            chunk = min(_CHUNK, max(1, _CHUNK_VALUES // dim))
            for begin in range(0, count, chunk):
                size = min(chunk, count - begin)
                noise = random.standard_normal((size, dim), np.float32) * np.float32(NOISE / np.sqrt(dim))
                at = partition * count + begin
                array[at : at + size] = unit(centers[random.integers(CLUSTERS, size=size)] + noise)
        array.flush()
    return VectorSet(str(folder), partitions, rows, queries, dim)


def write_vectors(folder: Path, rows: Sequence[Floats], queries: Sequence[Floats]) -> VectorSet:
    """Write vectors made elsewhere, a partition each; all partitions are cut to the size of the smallest."""
    size, query_count = min(map(len, rows)), min(map(len, queries))
    np.save(folder / "rows.npy", unit(np.concatenate([part[:size] for part in rows])))
    np.save(folder / "queries.npy", unit(np.concatenate([part[:query_count] for part in queries])))
    return VectorSet(str(folder), len(rows), size, query_count, rows[0].shape[1])


def nearest(rows: Floats, queries: Floats, k: int = K) -> tuple[npt.NDArray[np.int64], Floats]:
    """Find by brute force the rows nearest to each query, int64 [queries, k], and their cosines, float32."""
    cosines = np.asarray(queries) @ np.asarray(rows).T
    found = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(cosines, found, axis=1), axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)
    return found, np.take_along_axis(cosines, found, axis=1)


def recall(vectors: VectorSet, answers: Sequence[Sequence[int]]) -> list[float]:
    """Return the share of the true nearest rows that each answer has.

    Args:
        vectors: The vectors.
        answers: Row numbers, counted over all partitions, one answer for every query in order.
    """
    shares: list[float] = []
    for partition in range(vectors.partitions):
        rows, queries = np.array(vectors.part("rows", partition)), vectors.part("queries", partition)
        first = partition * vectors.rows
        _, cosines = nearest(rows, queries)
        for at, query in enumerate(queries):
            answer = np.array(answers[partition * vectors.queries + at], dtype=np.int64) - first
            # a row that is as near as the last of the true ones is right, whichever of them brute force returns
            inside = answer[(answer >= 0) & (answer < vectors.rows)]
            right = int((rows[np.unique(inside)] @ query >= cosines[at, -1] - TIE).sum())
            shares.append(min(right, K) / K)
    return shares


def unit(vectors: Floats) -> Floats:
    """Scale float32 [n, dim] to length 1; zeros stay zeros."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    scaled: Floats = (vectors / lengths).astype(np.float32)
    return scaled
