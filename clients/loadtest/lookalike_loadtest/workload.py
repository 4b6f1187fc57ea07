"""Prepares the requests of a load test from the server's own model, categories, products, images and embeddings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from lookalike_client.client import Client
from lookalike_client.transfer.catalog_error import CatalogError
from lookalike_client.transfer.npy_file import open_array
from lookalike_client.types import Category, Model, Product
from lookalike_loadtest import images as sources
from lookalike_loadtest.images import LoadImage, NoImageError, SkippedImage
from lookalike_loadtest.plan import Kind, Shares
from lookalike_loadtest.requests import (
    EMBED,
    SEARCH,
    RequestSet,
    RequestTemplate,
    SearchScope,
    by_id,
    by_vector,
    with_image,
)

_MAX_PRODUCTS = 5_000
_MAX_VECTORS = 1_000
_MAX_VECTOR_BYTES = 64 * 1024 * 1024
_TRIES_PER_IMAGE = 2  # products asked for an image, for each one that is wanted: some may have come as vectors


class WorkloadError(Exception):
    """There is nothing to send; `str()` of it is written for the user."""


@dataclass(frozen=True, slots=True)
class WorkloadOptions:
    """What the user wants to send, before anybody knows whether that is possible.

    Attributes:
        shares: The kinds and their shares; None for images where there are any, else ids.
        k: Results of a search.
        category: Search only this one; empty for all, in proportion to their products.
        all_categories: Have each search look in every category.
        folder: Images; None to take the catalog's.
        max_images: How many different ones at most.
        raw: Send pixels, not files.
        bust_cache: Make every image that is sent differ from all others.
        vectors: A file of embeddings to search with; None to make some between those of the catalog.
        seed: Draws what is taken.
    """

    shares: Shares | None = None
    k: int = 10
    category: str = ""
    all_categories: bool = False
    folder: Path | None = None
    max_images: int = 100
    raw: bool = False
    bust_cache: bool = True
    vectors: Path | None = None
    seed: int = 1


@dataclass(slots=True)
class Workload:
    """What is sent.

    Attributes:
        model: The server's model.
        categories: The categories that are searched.
        shares: The kinds and their shares.
        templates: The requests of each kind.
        skipped: Images that cannot be sent.
        image_bytes: The mean size of those that can; 0 without images.
    """

    model: Model
    categories: list[Category]
    shares: Shares
    templates: dict[Kind, list[RequestTemplate]] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)
    image_bytes: int = 0

    def requests(self) -> list[RequestSet]:
        """Return the requests for the workers, in the order of `shares`."""
        return [
            RequestSet(EMBED if kind is Kind.EMBED else SEARCH, self.templates[kind], share)
            for kind, share in self.shares.items()
        ]


def prepare_workload(client: Client, options: WorkloadOptions) -> Workload:
    """Make the requests.

    Raises:
        LookalikeError: The server rejects a call or does not answer.
        WorkloadError: The server or the files do not have what the options need.
    """
    model = client.model()
    vectors = None if options.vectors is None else _read_vectors(options.vectors, model)
    categories = _categories(client, options)
    rng = random.Random(options.seed)  # noqa: S311 - a sample, not a secret
    products = _products(client, categories)
    rng.shuffle(products)
    shares = options.shares or {Kind.SEARCH_IMAGE: 1.0}
    workload = Workload(model, categories, shares)
    if any(kind.has_image for kind in shares):
        images = _images(client, options, model, products, workload.skipped)
        if not images and options.shares is None:
            workload.shares = shares = {Kind.SEARCH_ID: 1.0}
        elif not images:
            raise WorkloadError("the server stores no images of its products; give images to send with --images FOLDER")
        else:
            workload.image_bytes = sum(image.size for image in images) // len(images)
    else:
        images = []
    if any(kind.searches for kind in shares) and not products:
        raise WorkloadError(
            "the server holds no products to find; add some with `lookalike import`, or use --workload embed=1"
        )
    scopes = _Scopes(options, categories, rng)
    for kind in shares:
        if kind is Kind.EMBED:
            made = [with_image(image.data, None, bust_cache=options.bust_cache) for image in images]
        elif kind is Kind.SEARCH_IMAGE:
            made = [
                with_image(image.data, scopes.of(image.category), bust_cache=options.bust_cache) for image in images
            ]
        elif kind is Kind.SEARCH_ID:
            made = [by_id(product.id, scopes.of_products) for product in products]
        elif vectors is not None:
            made = [by_vector(vector, scopes.of("")) for vector in vectors]
        else:
            made = [by_vector(vector, scopes.of(category)) for category, vector in _between(client, model, categories)]
        if not made:
            raise WorkloadError(f"there is nothing to send for {kind}")
        workload.templates[kind] = made
    return workload


class _Scopes:
    """Where each search looks."""

    def __init__(self, options: WorkloadOptions, categories: Sequence[Category], rng: random.Random) -> None:
        self._options = options
        self._names = [each.name for each in categories]
        self._weights = [each.count for each in categories]
        self._rng = rng

    @property
    def of_products(self) -> SearchScope:
        """The scope of a search by product: its own category, unless all are wanted."""
        return SearchScope(self._options.k, all_categories=self._options.all_categories)

    def of(self, category: str) -> SearchScope:
        """Return the scope for an image or vector of this category; if empty, one is drawn by its size."""
        if self._options.all_categories:
            return SearchScope(self._options.k, all_categories=True)
        return SearchScope(self._options.k, category or self._rng.choices(self._names, self._weights)[0])


def _categories(client: Client, options: WorkloadOptions) -> list[Category]:
    filled = [each for each in client.categories() if each.count]
    if not options.category:
        return filled
    chosen = [each for each in filled if each.name == options.category]
    if not chosen:
        names = ", ".join(each.name for each in filled[:10]) or "none"
        raise WorkloadError(f"the server has no category {options.category!r} (it has {names})")
    return chosen


def _products(client: Client, categories: Sequence[Category]) -> list[Product]:
    """Fetch the first products of every category, in proportion to its size."""
    total = sum(each.count for each in categories)
    found: list[Product] = []
    for each in categories:
        share = max(1, round(_MAX_PRODUCTS * each.count / total))
        found += islice(client.products(each.name, page_size=min(share, 1000)), share)
    return found


def _images(
    client: Client, options: WorkloadOptions, model: Model, products: Sequence[Product], skipped: list[SkippedImage]
) -> list[LoadImage]:
    """Return images that the server accepts; those that cannot be sent are added to `skipped`.

    Raises:
        WorkloadError: A folder was given and none of its images can be sent.
    """
    if options.folder is None:
        images = sources.from_catalog(client, products[: _TRIES_PER_IMAGE * options.max_images], options.max_images)
    else:
        try:
            images, unread = sources.from_folder(options.folder, options.max_images, options.seed)
        except NoImageError as error:
            raise WorkloadError(str(error)) from error
        skipped += unread
    if options.raw:
        images, bad = sources.decoded(images, model)
    elif options.folder is not None:
        images, bad = sources.accepted(client, images, bust_cache=options.bust_cache)
    else:
        bad = []  # the server has embedded them before
    skipped += bad
    if options.folder is not None and not images:
        first = skipped[0]
        raise WorkloadError(f"none of the files in {options.folder} can be sent ({first.name}: {first.reason})")
    return sources.within_budget(images)


def _read_vectors(path: Path, model: Model) -> np.ndarray:
    try:
        array = open_array(path, "array.astype(np.float32)")
    except CatalogError as error:
        raise WorkloadError(str(error)) from error
    if array.dtype.kind not in "fiu":
        raise WorkloadError(f"{path} holds {array.dtype}, not numeric values")
    if array.ndim != 2 or not array.size:
        raise WorkloadError(f"{path} has shape {list(array.shape)}; it must be [n, dim], one vector a row")
    if array.shape[1] != model.dim:
        raise WorkloadError(
            f"{path} holds vectors of {array.shape[1]:,} dimensions, and the server's model {model.name!r}"
            f" has {model.dim:,}"
        )
    vectors = np.array(array[: _max_vectors(model)], dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1))
    if len(bad):
        raise WorkloadError(f"row {bad[0]} of {path} must be finite and not all zeros")
    return vectors


def _max_vectors(model: Model) -> int:
    return max(1, min(_MAX_VECTORS, _MAX_VECTOR_BYTES // (4 * model.dim)))


def _between(client: Client, model: Model, categories: Sequence[Category]) -> list[tuple[str, np.ndarray]]:
    """Make vectors near those of the catalog but not in it, with their categories: each midway between two products.

    Random directions would be far from every product, which no user's query is.
    """
    limit, total = _max_vectors(model), sum(each.count for each in categories)
    made: list[tuple[str, np.ndarray]] = []
    for each in categories:
        share = max(1, round(limit * each.count / total))
        rows = [product.vectors[0] for product in islice(client.export_products(each.name), share + 1)]
        halves = [(a + b) / 2 for a, b in pairwise(rows)] or rows
        made += [(each.name, half) for half in halves if half.any()]
    return made
