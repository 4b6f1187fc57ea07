"""Catalogs of a given size, and what a server's process and folder take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from lookalike_server.domain.catalog import EmbeddedProduct, Product
from lookalike_server.inference.manifest import read_model_folder
from support.store_fixtures import opened
from support.tiny_model import SIDE, features, manifest, serialized_model

DIM = 3 * (SIDE // 2) ** 2
"""Dimensions of the model here: the mean color of each 2 x 2 pixels of 32 x 32."""


def write_model(folder: Path) -> Path:
    """Write a folder of a small model whose embeddings are of a usual length, and return it."""
    pooled: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=1),
        helper.make_node("Sub", ["wide", "middle"], ["centered"]),
        helper.make_node("Transpose", ["centered"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["tiles"], **pooled),
        helper.make_node("Flatten", ["tiles"], [features("cosine")]),
    ]
    serialized = serialized_model("sized", nodes, {"middle": np.float32(127.5)}, "cosine", DIM)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(serialized)
    (folder / "model.json").write_text(manifest("cosine", serialized, "sized", DIM), encoding="utf-8")
    return folder


def fill(data: Path, model: Path, products: int) -> None:
    """Store so many products of one category, with an embedding of length 1 and two attributes each."""
    random = np.random.default_rng(products)
    with opened(data, read_model_folder(model).model) as store:
        waiting = []
        for number in range(products):
            vector = random.standard_normal((1, DIM), dtype=np.float32)
            vector /= np.linalg.norm(vector)
            attributes = {"color": f"color {number % 50}", "price": str(number % 1000)}
            product = Product(f"sku-{number:09d}", "Shoes", f"A product called {number}", "", attributes)
            waiting.append(store.upsert(EmbeddedProduct(product, vector)))
        for each in waiting:
            each.result(timeout=300)


@dataclass(frozen=True)
class Memory:
    """What a process has in memory, in bytes: what cannot be dropped, and what is of files."""

    anonymous: int
    of_files: int
    threads: int
    open_files: int


def memory_of(pid: int) -> Memory:
    """Read what a process has in memory now."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    size = {name: int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}
    open_files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Memory(size["RssAnon"], size["RssFile"], int(lines["Threads"]), open_files)


def disk_of(data: Path) -> dict[str, int]:
    """Return the bytes on the disk by kind: `catalog.sqlite`, `.graph`, `.rows`; without the write-ahead log."""
    sizes = {"catalog.sqlite": (data / "catalog.sqlite").stat().st_blocks * 512, ".graph": 0, ".rows": 0}
    for path in (data / "index").iterdir():
        if path.suffix in sizes:
            sizes[path.suffix] += path.stat().st_blocks * 512
    return sizes
