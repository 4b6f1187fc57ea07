"""The embeddings of real images, made once by our own server with a real network and kept outside of the repository.

The images lie beside the checkout (`shared/catalog`) or nowhere; nothing of them comes into the repository.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from benchmarks.catalog.bench import CatalogBench
from benchmarks.catalog.our_server import served
from benchmarks.catalog.vectors import Floats, Stock, write_stock
from benchmarks.environment import ROOT
from benchmarks.processes import StartError

CATALOG = ROOT.parent / "shared" / "catalog" / "catalog.csv"
_HELD_OUT = 6  # every sixth image asks and is no row


def real_stock(bench: CatalogBench, networks: list[Path]) -> Stock:
    """The images' embeddings as one partition of rows and held-out queries.

    Args:
        bench: The means.
        networks: Model folders; the first with weights that are not random is taken.

    Raises:
        StartError: When there are no images or no such network; the message says which.
    """
    if not CATALOG.is_file():
        raise StartError("no real images: ../shared/catalog is not there")
    for network in networks:
        manifest = network / "model.json"
        if manifest.is_file():
            told = json.loads(manifest.read_text(encoding="utf-8"))
            if told["weights"] not in ("none", "random") and not told["weights"].startswith("random"):
                break
    else:
        raise StartError("no network with real weights: `make run` exports one")
    file = bench.cache / f"real-{told['graph']['sha256'][:16]}.npy"
    if not file.is_file():
        _embed(bench, network, file)
    embeddings: Floats = np.load(file)
    order = np.random.default_rng(1).permutation(len(embeddings))
    asking = order[::_HELD_OUT]
    folder = bench.scratch / "real"
    folder.mkdir()
    bench.notes["real embeddings"] = {"network": told["name"], "weights": told["weights"], "images": len(embeddings)}
    return write_stock(folder, [embeddings[np.setdiff1d(order, asking)]], [embeddings[asking]])


def _embed(bench: CatalogBench, network: Path, file: Path) -> None:
    with CATALOG.open(encoding="utf-8", newline="") as rows:
        images = [str(CATALOG.parent / row["image"]) for row in csv.DictReader(rows)]
    bench.say(f"embedding {len(images)} real images with {network.name}, once")
    with served(network, bench.scratch / "embedding", ()) as server:
        part = file.with_name(f"{file.stem}.part.npy")
        bench.caller.do("embed", 1200.0, address=server.address, images=images, out=str(part))
        part.rename(file)
