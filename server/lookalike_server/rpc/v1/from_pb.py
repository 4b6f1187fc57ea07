"""From messages to the domain: pure, and the one place where the values of requests are checked.

Every function raises `LookalikeError`: INVALID_ARGUMENT with the field. No field is accepted and ignored. Searches are
in `query_from_pb`, images and vectors in `images_from_pb`, plain values in `fields_from_pb`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence

from google.protobuf.message import Message

from lookalike import vector_codec
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2
from lookalike_server.domain.catalog import (
    MAX_ATTRIBUTES,
    AttributeUpdate,
    IdempotencyKey,
    Product,
    ProductDelete,
    ProductUpsert,
)
from lookalike_server.domain.errors import invalid
from lookalike_server.domain.inference import Floats, Image
from lookalike_server.rpc.v1.fields_from_pb import MAX_IMAGES, attributes, check_count, name, text
from lookalike_server.rpc.v1.images_from_pb import checked_vectors, image
from lookalike_server.rpc.v1.product_wire import ReceivedProducts

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def embed_image(
    request: embedding_service_pb2.EmbedRequest | embedding_service_pb2.EmbedStreamRequest,
) -> Image:
    """Read the image of an EmbedRequest or of an EmbedStreamRequest."""
    if not request.HasField("image"):
        raise invalid("image", "is missing; send one")
    return image(request.image, "image")


def product_upserts(
    request: ReceivedProducts[catalog_service_pb2.UpsertProductsRequest], dim: int
) -> list[tuple[str, ProductUpsert | Exception]]:
    """Return for each product of the request its id, as sent, and the upsert or why it is invalid."""
    message = request.message
    key = _checked_key(message.idempotency_key)
    check_count(len(message.products), "products")
    ids = [item.id for item in message.products]
    _check_unique(ids, "products", ".id")
    checked = checked_vectors(request.vectors, dim)
    upserts: list[tuple[str, ProductUpsert | Exception]] = []
    for position, (product_id, item, vectors) in enumerate(zip(ids, message.products, checked, strict=True)):
        try:
            idempotency_key = _idempotency_key(key, product_id, item, request.vectors[position])
            upsert = _product_upsert(item, vectors, f"products[{position}]", idempotency_key)
            upserts.append((product_id, upsert))
        except Exception as error:  # noqa: BLE001 - the item's own status carries it
            upserts.append((product_id, error))
    return upserts


def imported_product(request: ReceivedProducts[catalog_service_pb2.ImportProductsRequest], dim: int) -> ProductUpsert:
    """Read the product of an ImportProductsRequest."""
    (vectors,) = checked_vectors(request.vectors, dim)
    return _product_upsert(request.message.product, vectors, "product", None)


def _product_upsert(
    item: product_pb2.ProductInput,
    vectors: Sequence[Floats | str],
    field: str,
    idempotency_key: IdempotencyKey | None,
) -> ProductUpsert:
    """Read one product to store, with these vectors, or what is wrong with each."""
    images = item.images
    if bool(images) == bool(vectors):
        raise invalid(
            f"{field}.images",
            f"must have 1 to {MAX_IMAGES} images, or `vectors` 1 to {MAX_IMAGES} embeddings; send one of them",
        )
    for kind, count in (("images", len(images)), ("vectors", len(vectors))):
        if count > MAX_IMAGES:
            raise invalid(f"{field}.{kind}", f"has {count} entries; send at most {MAX_IMAGES}")
    product = Product(
        id=name(item.id, f"{field}.id"),
        category=name(item.category, f"{field}.category"),
        title=text(item.title, f"{field}.title"),
        image_uri=text(item.image_uri, f"{field}.image_uri"),
        attributes=attributes(item.attributes, f"{field}.attributes"),
    )
    valid: list[Floats] = []
    for position, vector in enumerate(vectors):
        if isinstance(vector, str):
            raise invalid(f"{field}.vectors[{position}].values", vector)
        valid.append(vector)
    return ProductUpsert(
        product,
        images=tuple(image(each, f"{field}.images[{i}]") for i, each in enumerate(images)),
        vectors=tuple(valid),
        idempotency_key=idempotency_key,
    )


def product_deletes(
    request: catalog_service_pb2.DeleteProductsRequest,
) -> list[tuple[str, ProductDelete | Exception]]:
    """Return for each id of the request, as sent, the delete or why the id is invalid."""
    key = _checked_key(request.idempotency_key)
    check_count(len(request.ids), "ids")
    _check_unique(request.ids, "ids", "")
    deletes: list[tuple[str, ProductDelete | Exception]] = []
    for position, product_id in enumerate(request.ids):
        try:
            checked = name(product_id, f"ids[{position}]")
            deletes.append((product_id, ProductDelete(checked, _idempotency_key(key, checked, None))))
        except Exception as error:  # noqa: BLE001 - the item's own status carries it
            deletes.append((product_id, error))
    return deletes


def attribute_update(request: catalog_service_pb2.UpdateAttributesRequest) -> AttributeUpdate:
    """Read the attributes of a product to set and to clear."""
    product_id = name(request.id, "id")
    to_set = attributes(request.attributes, "attributes")
    if len(request.clear) > MAX_ATTRIBUTES:
        raise invalid("clear", f"has {len(request.clear)} entries; send at most {MAX_ATTRIBUTES}")
    to_clear = tuple(name(key, f"clear[{position}]") for position, key in enumerate(request.clear))
    if not to_set and not to_clear:
        raise invalid("attributes", "is empty, and so is clear; name an attribute to set or to clear")
    for position, key in enumerate(to_clear):
        if key in to_set:
            raise invalid(f"clear[{position}]", f"names {key!r}, which `attributes` sets; leave it out of one of them")
    idempotency_key = _idempotency_key(_checked_key(request.idempotency_key), product_id, request)
    return AttributeUpdate(product_id, to_set, to_clear, idempotency_key)


def page_range(request: catalog_service_pb2.ListProductsRequest) -> tuple[str | None, str, int]:
    """Return the category (None: all), the id to start after, and the page size, at most MAX_PAGE_SIZE (AIP-158)."""
    category = name(request.category, "category") if request.category else None
    after = _read_token(request.page_token, request.category) if request.page_token else ""
    return category, after, min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def export_range(request: catalog_service_pb2.ExportProductsRequest) -> tuple[str | None, str]:
    """Return the category (None: all) and the id to start after (empty: from the first)."""
    category = name(request.category, "category") if request.category else None
    return category, name(request.after_id, "after_id") if request.after_id else ""


def page_token(category: str, after: str) -> str:
    """Make the token of the page that starts after an id; bound to its category, opaque to callers."""
    return base64.urlsafe_b64encode(f"{category}\n{after}".encode()).decode()


def _read_token(token: str, category: str) -> str:
    try:
        bound, after = base64.b64decode(token, altchars=b"-_", validate=True).decode().split("\n")
    except (binascii.Error, ValueError):
        raise invalid("page_token", "is not a token of this server; start with an empty one") from None
    if bound != category:
        raise invalid("page_token", "belongs to another category; start with an empty one")
    return after


def _check_unique(ids: Iterable[str], field: str, suffix: str) -> None:
    positions: dict[str, int] = {}
    for position, product_id in enumerate(ids):
        first = positions.setdefault(product_id, position)
        if first != position and product_id:
            raise invalid(f"{field}[{position}]{suffix}", f"{product_id!r} appears twice, first at {field}[{first}]")


def _checked_key(value: str) -> str:
    return name(value, "idempotency_key") if value else ""


def _idempotency_key(
    key: str, item: str, message: Message | None, vectors: Sequence[Floats] = ()
) -> IdempotencyKey | None:
    """Make the key of an item, None without one; the digest tells another request with the same key apart.

    It is that of the whole item as it is serialized: vectors come last in a product.
    """
    if not key:
        return None
    digest = hashlib.sha256(message.SerializeToString(deterministic=True) if message is not None else b"")
    for each in vectors:
        encoded = vector_codec.encode_floats(image_pb2.Vector.VALUES_FIELD_NUMBER, each) if len(each) else b""
        digest.update(vector_codec.field_header(product_pb2.ProductInput.VECTORS_FIELD_NUMBER, len(encoded)))
        digest.update(encoded)
    return IdempotencyKey(key, item, digest.hexdigest())
