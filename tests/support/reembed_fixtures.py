"""Fixtures for `reembed`: a shop with every kind of image, what its file holds, and models that count."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import image_pb2, product_pb2, search_service_pb2
from lookalike_server.config import Settings
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.reembed import Progress, ReembedResult, reembed
from lookalike_server.store.sqlite import FILE
from support.fakes import MeanColorSession, RecordingObserver, Wrapped
from support.paths import MODELS
from support.serving import Served, encoded, noise, raw

OLD, NEW = MODELS / "tiny", MODELS / "tiny-euclidean"
QUICK: dict[str, Any] = {
    "intra_op_threads": 1,
    "max_concurrent_batches": 1,
    "preferred_batch_size": 4,
}  # a plan that need not be measured


def item(product_id: str, *images: image_pb2.Image, category: str = "Shoes", **facts: Any) -> product_pb2.ProductInput:
    """Make a product to upsert, with these images."""
    return product_pb2.ProductInput(
        id=product_id,
        category=category,
        title=f"Title {product_id}",
        images=images,
        attributes={"color": "red"},
        **facts,
    )


def part(image: image_pb2.Image, left: float, right: float) -> image_pb2.Image:
    """Return the image with a region: the columns between these two fractions."""
    return image_pb2.Image(encoded=image.encoded, region=image_pb2.Region(left=left, top=0.0, right=right, bottom=1.0))


SHARED = encoded(noise(0, side=64), "JPEG")
SHOP = (
    item("file", encoded(noise(1, side=80))),
    item("large", encoded(noise(2, side=400), "JPEG")),
    item("pixels", raw(noise(3))),
    item("shared-1", SHARED, encoded(noise(4)), category="Hats"),
    item("shared-2", encoded(noise(5)), SHARED),
    item("parts", part(SHARED, 0.0, 0.5), part(SHARED, 0.5, 1.0), SHARED),
    item("same-part", part(SHARED, 0.5, 1.0), category="Hats"),
)
"""Seven products with eleven images, of which eight are distinct."""
DISTINCT = 8


async def fill(served: Served, items: Sequence[product_pb2.ProductInput] = SHOP, idempotency_key: str = "") -> None:
    """Upsert products; each must succeed."""
    request = pb.UpsertProductsRequest(products=items, idempotency_key=idempotency_key)
    response = await served.catalog.UpsertProducts(request)
    assert [result.status.message for result in response.results if result.status.code] == []


async def search_results(served: Served, products: int = 1000) -> list[list[tuple[str, int, float]]]:
    """Search for a few images and the first products: the ids, image indexes and distances of each search."""
    listed = await served.catalog.ListProducts(pb.ListProductsRequest(page_size=products))
    queries = [search_service_pb2.SearchRequest(image=raw(noise(seed))) for seed in range(3)]
    queries += [search_service_pb2.SearchRequest(product_id=product.id) for product in listed.products]
    found = []
    for query in queries:
        query.all_categories, query.k, query.exact = True, 1000, True
        neighbors = (await served.search.Search(query)).neighbors
        found.append([(each.product.id, each.image_index, each.distance) for each in neighbors])
    return found


def table(data: Path, name: str, order: str = "1, 2") -> list[tuple[Any, ...]]:
    """Read all rows of a table of the catalog."""
    with closing(sqlite3.connect(data / FILE)) as file:
        return file.execute(f"SELECT * FROM {name} ORDER BY {order}").fetchall()  # noqa: S608 - a constant of a test


def change(data: Path, script: str) -> None:
    """Change the file directly."""
    with closing(sqlite3.connect(data / FILE)) as file:
        file.executescript(script)


def embeddings(data: Path) -> dict[tuple[str, int], Floats]:
    """Read the vectors of every product, by its id and image index."""
    return {(row[1], row[2]): np.frombuffer(row[3], "<f4") for row in table(data, "embeddings")}


def preserved(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read what a reembedding must not change."""
    read = {name: table(data, name) for name in ("products", "images", "idempotency_keys")}
    return read | {"images": [row[1:3] + row[4:6] for row in table(data, "embeddings", "product_id, image_index")]}


def everything(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read what searches with the old model need: all but the new vectors of an unfinished reembedding."""
    names = ("products", "embeddings", "images", "idempotency_keys", "segments")
    return {name: table(data, name) for name in names} | {"model": digest(data)}


def digest(data: Path) -> list[tuple[Any, ...]]:
    """Read the digest of the model that the catalog is bound to."""
    return [row for row in table(data, "meta") if row[0] == "model_digest"]


class CountingModel:
    """Loads a real model, and counts the images that it embeds; the black ones are those of the autotuning."""

    def __init__(self, wrap: Callable[[Session], Session] = lambda session: session) -> None:
        """Wrap the real model in another session."""
        self.loaded = 0
        self.images = 0
        self.lock = threading.Lock()
        self._wrap = wrap

    def __call__(self, folder: ModelFolder, settings: Settings) -> Session:
        """Load it."""
        self.loaded += 1
        return _Counting(self._wrap(OnnxSession(folder, settings.provider, settings.intra_op_threads)), self)


class _Counting(Wrapped):
    def __init__(self, session: Session, model: CountingModel) -> None:
        super().__init__(session)
        self._model = model

    def run(self, images: Pixels) -> Floats:
        """Run, and count the images."""
        vectors = self._session.run(images)
        with self._model.lock:
            self._model.images += int(images.any(axis=(1, 2, 3)).sum())
        return vectors


def mean_colors(folder: Path) -> Path:
    """Make a model folder for `MeanColorSession`, with another input size (24 x 20) and dim (3)."""
    manifest = json.loads((NEW / "model.json").read_text(encoding="utf-8"))
    manifest["name"] = "mean-colors"
    manifest["graph"]["sha256"] = hashlib.sha256(b"mean colors").hexdigest()
    manifest["input"] |= {"height": 24, "width": 20}
    manifest["output"]["dim"] = 3
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "model.onnx").write_bytes(b"mean colors")
    return folder


def load_mean_colors(folder: ModelFolder, settings: Settings) -> Session:
    """Load the model of `mean_colors`."""
    return MeanColorSession()


def reembed_catalog(
    data: Path,
    model: Path = NEW,
    load_session: Callable[[ModelFolder, Settings], Session] | None = None,
    progress: Progress = lambda *_: None,
    observer: RecordingObserver | None = None,
    *,
    drop_missing: bool = False,
) -> ReembedResult:
    """Reembed this catalog."""
    return reembed(
        Settings(model=model, data_dir=data, **QUICK),
        drop_missing=drop_missing,
        progress=progress,
        observer=observer or RecordingObserver(),
        load_session=load_session,
    )
