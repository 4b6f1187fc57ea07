"""Asks the server what it can be asked: its model, its categories, and some of its products, images and embeddings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from lookalike_client.client import Client
from lookalike_client.transfer.catalog_csv import CatalogError
from lookalike_client.transfer.npy_file import open_array
from lookalike_client.types import Category, Model, Product
from lookalike_loadtest import images as sources
from lookalike_loadtest.images import LeftOut, LoadImage, NoImageError
from lookalike_loadtest.plan import Kind, Mix
from lookalike_loadtest.requests import Question, Scope, by_id, by_vector, with_image

_PRODUCTS = 5_000
_VECTORS = 1_000
_VECTOR_BYTES = 64 * 1024 * 1024
_IMAGE_CHANCES = 2  # products asked for an image, for each one that is wanted: some may have come as vectors


class SupplyError(Exception):
    """There is nothing to ask with; `str()` of it is written for the user."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be asked, before anybody knows whether that is possible.

    Attributes:
        mix: The kinds and shares; None for images where there are any, else ids.
        k: Products an answer should have.
        category: Only this one; empty for all, in proportion to their products.
        all_categories: Have each search look in every category.
        folder: Images; None to take the catalog's.
        max_images: How many different ones at most.
        raw: Send pixels, not files.
        unique: Make every image that is sent differ from all others.
        vectors: A file of embeddings to search with; None to make some between those of the catalog.
        seed: Draws what is taken.
    """

    mix: Mix | None = None
    k: int = 10
    category: str = ""
    all_categories: bool = False
    folder: Path | None = None
    max_images: int = 100
    raw: bool = False
    unique: bool = True
    vectors: Path | None = None
    seed: int = 1


@dataclass(slots=True)
class Supplies:
    """What can be asked.

    Attributes:
        model: The server's.
        categories: Those that are searched.
        mix: The kinds and shares.
        queries: The queries of each kind.
        left_out: Images that cannot be sent.
        image_bytes: The mean size of those that can; 0 without images.
    """

    model: Model
    categories: list[Category]
    mix: Mix
    questions: dict[Kind, list[Question]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    image_bytes: int = 0


def gather(client: Client, wish: Wish) -> Supplies:
    """Make the queries.

    Raises:
        LookalikeError: The server rejects or does not answer.
        SupplyError: What is wished for is not there.
    """
    model = client.model()
    vectors = None if wish.vectors is None else _read_vectors(wish.vectors, model)
    categories = _categories(client, wish)
    rng = random.Random(wish.seed)  # noqa: S311 - a sample, not a secret
    products = _products(client, categories)
    rng.shuffle(products)
    mix = wish.mix or {Kind.SEARCH_IMAGE: 1.0}
    supplies = Supplies(model, categories, mix)
    if any(kind.has_image for kind in mix):
        images = _images(client, wish, model, products, supplies.left_out)
        if not images and wish.mix is None:
            supplies.mix = mix = {Kind.SEARCH_ID: 1.0}
        elif not images:
            raise SupplyError("the server keeps no images of its products: give images to send with --images FOLDER")
        else:
            supplies.image_bytes = sum(image.size for image in images) // len(images)
    else:
        images = []
    if any(kind.searches for kind in mix) and not products:
        raise SupplyError(
            "the server holds no product to find; `lookalike import` puts some in, or ask --workload embed=1"
        )
    scopes = _Scopes(wish, categories, rng)
    for kind in mix:
        if kind is Kind.EMBED:
            made = [with_image(image.data, None, unique=wish.unique) for image in images]
        elif kind is Kind.SEARCH_IMAGE:
            made = [with_image(image.data, scopes.of(image.category), unique=wish.unique) for image in images]
        elif kind is Kind.SEARCH_ID:
            made = [by_id(product.id, scopes.of_products) for product in products]
        elif vectors is not None:
            made = [by_vector(vector, scopes.of("")) for vector in vectors]
        else:
            made = [by_vector(vector, scopes.of(category)) for category, vector in _between(client, model, categories)]
        if not made:
            raise SupplyError(f"there is nothing to ask {kind} with")
        supplies.questions[kind] = made
    return supplies


class _Scopes:
    """Where each search looks."""

    def __init__(self, wish: Wish, categories: Sequence[Category], rng: random.Random) -> None:
        self._wish = wish
        self._names = [each.name for each in categories]
        self._weights = [each.count for each in categories]
        self._rng = rng

    @property
    def of_products(self) -> Scope:
        """For a product: its own category, unless all are wanted."""
        return Scope(self._wish.k, all_categories=self._wish.all_categories)

    def of(self, category: str) -> Scope:
        """For an image or vector of this category; of none, one is drawn in proportion to the products."""
        if self._wish.all_categories:
            return Scope(self._wish.k, all_categories=True)
        return Scope(self._wish.k, category or self._rng.choices(self._names, self._weights)[0])


def _categories(client: Client, wish: Wish) -> list[Category]:
    there = [each for each in client.categories() if each.count]
    if not wish.category:
        return there
    chosen = [each for each in there if each.name == wish.category]
    if not chosen:
        names = ", ".join(each.name for each in there[:10]) or "none"
        raise SupplyError(f"the server has no category {wish.category!r} (it has {names})")
    return chosen


def _products(client: Client, categories: Sequence[Category]) -> list[Product]:
    """The first products of every category, as many as its share is."""
    total = sum(each.count for each in categories)
    found: list[Product] = []
    for each in categories:
        share = max(1, round(_PRODUCTS * each.count / total))
        found += islice(client.products(each.name, page_size=min(share, 1000)), share)
    return found


def _images(
    client: Client, wish: Wish, model: Model, products: Sequence[Product], left_out: list[LeftOut]
) -> list[LoadImage]:
    """Images that the server takes; those that cannot be used are added to `left_out`.

    Raises:
        SupplyError: A folder was given and none of its images can be used.
    """
    if wish.folder is None:
        images = sources.of_catalog(client, products[: _IMAGE_CHANCES * wish.max_images], wish.max_images)
    else:
        try:
            images, unread = sources.of_folder(wish.folder, wish.max_images, wish.seed)
        except NoImageError as error:
            raise SupplyError(str(error)) from error
        left_out += unread
    if wish.raw:
        images, bad = sources.decoded(images, model)
    elif wish.folder is not None:
        images, bad = sources.accepted(client, images, unique=wish.unique)
    else:
        bad = []  # the server has embedded them before
    left_out += bad
    if wish.folder is not None and not images:
        first = left_out[0]
        raise SupplyError(f"none of the files in {wish.folder} can be sent ({first.name}: {first.reason})")
    return sources.within_budget(images)


def _read_vectors(path: Path, model: Model) -> np.ndarray:
    try:
        array = open_array(path, "array.astype(np.float32)")
    except CatalogError as error:
        raise SupplyError(str(error)) from error
    if array.dtype.kind not in "fiu":
        raise SupplyError(f"{path} holds {array.dtype}, not numbers")
    if array.ndim != 2 or not array.size:
        raise SupplyError(f"{path} is of shape {list(array.shape)}; one vector a row is needed, of shape [n, dim]")
    if array.shape[1] != model.dim:
        raise SupplyError(
            f"{path} holds vectors of {array.shape[1]:,} numbers, and those of the server's model {model.name!r}"
            f" have {model.dim:,}"
        )
    vectors = np.array(array[: _most_vectors(model)], dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1))
    if len(bad):
        raise SupplyError(f"row {bad[0]} of {path} is not finite, or all zero, which the server rejects")
    return vectors


def _most_vectors(model: Model) -> int:
    return max(1, min(_VECTORS, _VECTOR_BYTES // (4 * model.dim)))


def _between(client: Client, model: Model, categories: Sequence[Category]) -> list[tuple[str, np.ndarray]]:
    """Vectors near those of the catalog but not in it, with their categories: each midway between two products.

    Random directions would be far from every product, which no caller's query is.
    """
    most, total = _most_vectors(model), sum(each.count for each in categories)
    made: list[tuple[str, np.ndarray]] = []
    for each in categories:
        share = max(1, round(most * each.count / total))
        rows = [found.vectors[0] for found in islice(client.export_products(each.name), share + 1)]
        halves = [(a + b) / 2 for a, b in pairwise(rows)] or rows
        made += [(each.name, half) for half in halves if half.any()]
    return made
