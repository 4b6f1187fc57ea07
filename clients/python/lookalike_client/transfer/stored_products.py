"""What a server has already: the ids, the rows and the images of its products, to find what an import need not send."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from lookalike_client.async_client import AsyncClient
from lookalike_client.errors import LookalikeError
from lookalike_client.inputs import ProductInput
from lookalike_client.types import Product


async def existing_ids(client: AsyncClient) -> set[str]:
    """Return the ids of all products that the server has.

    Raises:
        LookalikeError: The server rejects the call or does not respond.
    """
    return {product.id async for product in client.products(page_size=1000)}


@dataclass(frozen=True, slots=True)
class StoredRow:
    """What the server has of a row.

    Attributes:
        product: The digest of category, title and image path.
        attributes: The digest of the attributes.
        names: The names of the attributes.
    """

    product: bytes
    attributes: bytes
    names: tuple[str, ...]

    def is_same(self, product: ProductInput) -> bool:
        """Return whether a row would store the same, but for the image."""
        return self.product == _product_digest(product) and self.attributes == _attributes_digest(product)


class Comparison(Enum):
    """What became of a row whose product the server has."""

    UNCHANGED = auto()
    UPDATED = auto()
    TO_SEND = auto()


async def stored_rows(client: AsyncClient) -> dict[str, StoredRow]:
    """Return what the server has of all products, by id.

    Raises:
        LookalikeError: The server rejects the call or does not respond.
    """
    names: dict[tuple[str, ...], tuple[str, ...]] = {}  # most products have the same ones
    rows = {}
    async for product in client.products(page_size=1000):
        own = tuple(product.attributes)
        rows[product.id] = StoredRow(_product_digest(product), _attributes_digest(product), names.setdefault(own, own))
    return rows


async def compare(client: AsyncClient, compare_images: bool, product: ProductInput, stored: StoredRow) -> Comparison:
    """Compare a row with what the server has; set and remove the attributes where these alone differ.

    Args:
        client: The client.
        compare_images: Whether the first stored image must be that of the row; one that is not stored is not.
        product: The row, with its image.
        stored: What the server has of it.
    """
    if stored.product != _product_digest(product):
        return Comparison.TO_SEND
    try:
        if compare_images and (await client.image(product.id)).data != product.images[0]:
            return Comparison.TO_SEND
        if stored.attributes == _attributes_digest(product):
            return Comparison.UNCHANGED
        clear = [name for name in stored.names if name not in product.attributes]
        await client.update_attributes(product.id, product.attributes, clear=clear)
    except LookalikeError:
        return Comparison.TO_SEND  # which reports what is wrong, and is retried
    return Comparison.UPDATED


def _product_digest(product: Product | ProductInput) -> bytes:
    return _digest([product.category, product.title, product.image_uri])


def _attributes_digest(product: Product | ProductInput) -> bytes:
    return _digest(sorted(product.attributes.items()))


def _digest(value: Any) -> bytes:
    """Return 16 bytes that no two different values share."""
    return hashlib.blake2b(json.dumps(value).encode("ascii"), digest_size=16).digest()
