"""The embeddings of real images, made once by our own server with a real network and kept outside of the repository.

The images are beside the checkout (`shared/catalog`) or missing; nothing of them comes into the repository.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from benchmarks.catalog import client
from benchmarks.catalog.bench import CatalogBench
from benchmarks.catalog.our_server import served
from benchmarks.catalog.vectors import Floats, VectorSet, write_vectors
from benchmarks.environment import ROOT
from benchmarks.processes import StartError

CATALOG = ROOT.parent / "shared" / "catalog" / "catalog.csv"
_HELD_OUT = 6  # every sixth image is a query and no row


def real_vectors(bench: CatalogBench, networks: list[Path]) -> VectorSet:
    """Return the images' embeddings as one partition of rows and held-out queries.

    Args:
        bench: The means of measuring.
        networks: Model folders; the first with weights that are not random is taken.

    Raises:
        StartError: There are no images or no such network; the message says which.
    """
    if not CATALOG.is_file():
        raise StartError("no real images: ../shared/catalog is missing")
    for network in networks:
        file = network / "model.json"
        if file.is_file():
            manifest = json.loads(file.read_text(encoding="utf-8"))
            if manifest["weights"] not in ("none", "random") and not manifest["weights"].startswith("random"):
                break
    else:
        raise StartError("no network with real weights: `make run` exports one")
    file = bench.cache / f"real-{manifest['graph']['sha256'][:16]}.npy"
    if not file.is_file():
        _embed(bench, network, file)
    embeddings: Floats = np.load(file)
    order = np.random.default_rng(1).permutation(len(embeddings))
    held_out = order[::_HELD_OUT]
    folder = bench.scratch / "real"
    folder.mkdir()
    bench.notes["real embeddings"] = {
        "network": manifest["name"],
        "weights": manifest["weights"],
        "images": len(embeddings),
    }
    return write_vectors(folder, [embeddings[np.setdiff1d(order, held_out)]], [embeddings[held_out]])


def _embed(bench: CatalogBench, network: Path, file: Path) -> None:
    with CATALOG.open(encoding="utf-8", newline="") as rows:
        images = [CATALOG.parent / row["image"] for row in csv.DictReader(rows)]
    bench.log(f"embedding {len(images)} real images with {network.name}, once")
    with served(network, bench.scratch / "embedding", ()) as server:
        part = file.with_name(f"{file.stem}.part.npy")
        np.save(part, client.embed_files(server.address, images))
        part.rename(file)
