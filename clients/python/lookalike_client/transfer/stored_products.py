"""What a server has already: the ids, the rows and the images of its products, to find what an import may skip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from lookalike_client.async_client import AsyncClient
from lookalike_client.errors import LookalikeError
from lookalike_client.inputs import ProductInput


async def existing_ids(client: AsyncClient) -> set[str]:
    """Return the ids of all products that the server has.

    Raises:
        LookalikeError: The server rejects the call or does not respond.
    """
    return {product.id async for product in client.products(page_size=1000)}


async def stored_digests(client: AsyncClient) -> dict[str, bytes]:
    """Return the digests of all products that the server has, by id; see `row_digest`.

    Raises:
        LookalikeError: The server rejects the call or does not respond.
    """
    return {
        product.id: row_digest(product.category, product.title, product.image_uri, product.attributes)
        async for product in client.products(page_size=1000)
    }


async def has_image(client: AsyncClient, product: ProductInput) -> bool:
    """Return whether the first stored image of a product is that of this one; False where the server keeps none."""
    try:
        stored = await client.image(product.id)
    except LookalikeError:
        return False  # sending the product reports what is wrong, or stores the image
    return stored.data == product.images[0]


def row_digest(category: str, title: str, image_uri: str, attributes: Mapping[str, str]) -> bytes:
    """Return 16 bytes that two products share only where all of these are the same."""
    text = json.dumps([category, title, image_uri, sorted(attributes.items())])
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()
