"""What the tests of `rebuild` share: a shop with every kind of image, what its file holds, and models that count."""

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
}  # a plan that nobody needs to measure


def item(product_id: str, *images: image_pb2.Image, category: str = "Shoes", **facts: Any) -> product_pb2.ProductInput:
    """A product to store, with these images."""
    return product_pb2.ProductInput(
        id=product_id,
        category=category,
        title=f"Title {product_id}",
        images=images,
        attributes={"color": "red"},
        **facts,
    )


def part(image: image_pb2.Image, left: float, right: float) -> image_pb2.Image:
    """The image, of which only the columns between these two count."""
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


async def fill(served: Served, items: Sequence[product_pb2.ProductInput] = SHOP, name: str = "") -> None:
    """Store products; each must succeed."""
    request = pb.UpsertProductsRequest(products=items, idempotency_key=name)
    response = await served.catalog.UpsertProducts(request)
    assert [result.status.message for result in response.results if result.status.code] == []


async def answers(served: Served, products: int = 1000) -> list[list[tuple[str, int, float]]]:
    """What is found for a few images and for the first so many products: ids, image indexes and distances."""
    listed = await served.catalog.ListProducts(pb.ListProductsRequest(page_size=products))
    questions = [search_service_pb2.SearchRequest(image=raw(noise(seed))) for seed in range(3)]
    questions += [search_service_pb2.SearchRequest(product_id=product.id) for product in listed.products]
    found = []
    for question in questions:
        question.all_categories, question.k, question.exact = True, 1000, True
        neighbors = (await served.search.Search(question)).neighbors
        found.append([(each.product.id, each.image_index, each.distance) for each in neighbors])
    return found


def table(data: Path, name: str, order: str = "1, 2") -> list[tuple[Any, ...]]:
    """All rows of a table of the catalog."""
    with closing(sqlite3.connect(data / FILE)) as file:
        return file.execute(f"SELECT * FROM {name} ORDER BY {order}").fetchall()  # noqa: S608 - a test's own words


def change(data: Path, script: str) -> None:
    """Do something to the file behind everybody's back."""
    with closing(sqlite3.connect(data / FILE)) as file:
        file.executescript(script)


def embeddings(data: Path) -> dict[tuple[str, int], Floats]:
    """The vectors of every product, by its id and image index."""
    return {(row[1], row[2]): np.frombuffer(row[3], "<f4") for row in table(data, "embeddings")}


def unchanging(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that a rebuild leaves as it is."""
    read = {name: table(data, name) for name in ("products", "images", "requests")}
    return read | {"images": [row[1:3] + row[4:] for row in table(data, "embeddings", "product_id, image_index")]}


def everything(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that the old model answers from: the file but for what another model has made so far."""
    names = ("products", "embeddings", "images", "requests", "segments")
    return {name: table(data, name) for name in names} | {"model": digest(data)}


def digest(data: Path) -> list[tuple[Any, ...]]:
    """The digest of the model that the catalog is of."""
    return [row for row in table(data, "meta") if row[0] == "model_digest"]


class CountingModel:
    """Loads a real model, and counts the images that it is run on; the black ones are those of the measuring."""

    def __init__(self, wrap: Callable[[Session], Session] = lambda session: session) -> None:
        """Put the real model into another session first."""
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
        """Run, and count what was answered."""
        vectors = self._session.run(images)
        with self._model.lock:
            self._model.images += int(images.any(axis=(1, 2, 3)).sum())
        return vectors


def mean_colors(folder: Path) -> Path:
    """A model folder of another input size and dim, for `MeanColorSession`: 3 numbers of 24 x 20 pixels."""
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
    """Load what `mean_colors` describes."""
    return MeanColorSession()


def remade(
    data: Path,
    model: Path = NEW,
    load_session: Callable[[ModelFolder, Settings], Session] | None = None,
    progress: Progress = lambda *_: None,
    observer: RecordingObserver | None = None,
    *,
    drop_missing: bool = False,
) -> ReembedResult:
    """Rebuild this catalog."""
    return reembed(
        Settings(model=model, data_dir=data, **QUICK),
        drop_missing=drop_missing,
        progress=progress,
        observer=observer or RecordingObserver(),
        load_session=load_session,
    )
