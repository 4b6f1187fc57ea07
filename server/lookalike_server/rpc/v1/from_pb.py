"""From messages to the domain: pure, and the one place where a request's values are checked.

Every function raises `LookalikeError`: INVALID_ARGUMENT naming the field. Nothing is accepted and ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from google.protobuf.message import Message

from lookalike import wire
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2, search_service_pb2
from lookalike_server.domain.catalog import (
    MAX_ATTRIBUTES,
    AttributeUpdate,
    IdempotencyKey,
    Product,
    ProductDelete,
    ProductUpsert,
)
from lookalike_server.domain.errors import invalid
from lookalike_server.domain.filters import Between, Condition, NoneOf, OneOf
from lookalike_server.domain.inference import EncodedImage, Floats, Image, RawImage, Region
from lookalike_server.domain.search import Query, ResultOptions

DEFAULT_K = 10
MAX_K = 1000
MAX_FILTERS = 64
MAX_ITEMS = 1000
MAX_IMAGES = 8
MAX_NAME_BYTES = 256
MAX_TEXT_BYTES = 4096
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def embed_image(
    request: embedding_service_pb2.EmbedRequest | embedding_service_pb2.EmbedStreamRequest,
) -> Image:
    """The image of an EmbedRequest, alone or of a stream."""
    if not request.HasField("image"):
        raise invalid("image", "is missing; send an image")
    return image(request.image, "image")


def query(request: search_service_pb2.SearchRequest, dim: int) -> Query:
    """The query of a SearchRequest, for a model with embeddings of `dim` numbers."""
    kind = request.WhichOneof("query")
    if kind is None:
        raise invalid("query", "is missing; send one of image, vector and product_id")
    if request.category and request.all_categories:
        raise invalid("all_categories", "cannot go together with category; leave one out")
    if not request.category and not request.all_categories and kind != "product_id":
        raise invalid("category", "is empty; name one, or set all_categories")
    return Query(
        image=image(request.image, "image") if kind == "image" else None,
        vector=vector(request.vector, "vector", dim) if kind == "vector" else None,
        product_id=name(request.product_id, "product_id") if kind == "product_id" else None,
        category=name(request.category, "category") if request.category else None,
        all_categories=request.all_categories,
        k=_k(request),
        exact=request.exact,
        conditions=_conditions(request.filters),
        options=_options(request),
    )


def upserts(
    request: catalog_service_pb2.UpsertProductsRequest, dim: int
) -> list[tuple[str, ProductUpsert | Exception]]:
    """For each product of the request its id, as sent, and what to store or why it cannot be."""
    request_id = _checked_key(request.idempotency_key)
    _check_count(len(request.products), "products")
    _check_once((item.id for item in request.products), "products", ".id")
    drafts: list[tuple[str, ProductUpsert | Exception]] = []
    for position, item in enumerate(request.products):
        try:
            drafts.append(
                (item.id, draft(item, f"products[{position}]", dim, _idempotency_key(request_id, item.id, item)))
            )
        except Exception as error:  # noqa: BLE001 - the item's own status carries it
            drafts.append((item.id, error))
    return drafts


def draft(item: product_pb2.ProductInput, field: str, dim: int, once: IdempotencyKey | None = None) -> ProductUpsert:
    """One product to store, at most once under a name."""
    if bool(item.images) == bool(item.vectors):
        raise invalid(f"{field}.images", "needs one to eight images, or `vectors` one to eight embeddings, not both")
    for kind, count in (("images", len(item.images)), ("vectors", len(item.vectors))):
        if count > MAX_IMAGES:
            raise invalid(f"{field}.{kind}", f"has {count} entries; at most {MAX_IMAGES} are taken")
    product = Product(
        id=name(item.id, f"{field}.id"),
        category=name(item.category, f"{field}.category"),
        title=_text(item.title, f"{field}.title"),
        image_uri=_text(item.image_uri, f"{field}.image_uri"),
        attributes=_attributes(item.attributes, f"{field}.attributes"),
    )
    return ProductUpsert(
        product,
        images=tuple(image(each, f"{field}.images[{i}]") for i, each in enumerate(item.images)),
        vectors=tuple(vector(v, f"{field}.vectors[{i}]", dim) for i, v in enumerate(item.vectors)),
        name=once,
    )


def deletes(request: catalog_service_pb2.DeleteProductsRequest) -> list[tuple[str, ProductDelete | Exception]]:
    """For each id of the request, as sent: what to remove, or why it is no id."""
    request_id = _checked_key(request.idempotency_key)
    _check_count(len(request.ids), "ids")
    _check_once(request.ids, "ids", "")
    checked: list[tuple[str, ProductDelete | Exception]] = []
    for position, product_id in enumerate(request.ids):
        try:
            known = name(product_id, f"ids[{position}]")
            checked.append((product_id, ProductDelete(known, _idempotency_key(request_id, known, None))))
        except Exception as error:  # noqa: BLE001 - the item's own status carries it
            checked.append((product_id, error))
    return checked


def attribute_update(request: catalog_service_pb2.UpdateAttributesRequest) -> AttributeUpdate:
    """The attributes of a product to set and to clear."""
    product_id = name(request.id, "id")
    values = _attributes(request.attributes, "attributes")
    if len(request.clear) > MAX_ATTRIBUTES:
        raise invalid("clear", f"has {len(request.clear)} entries; at most {MAX_ATTRIBUTES} are taken")
    cleared = tuple(name(key, f"clear[{position}]") for position, key in enumerate(request.clear))
    if not values and not cleared:
        raise invalid("attributes", "is empty, and so is clear; name an attribute to set or to clear")
    for position, key in enumerate(cleared):
        if key in values:
            raise invalid(f"clear[{position}]", f"names {key!r}, which `attributes` sets; leave it out of one of them")
    once = _idempotency_key(_checked_key(request.idempotency_key), product_id, request)
    return AttributeUpdate(product_id, values, cleared, once)


def page(request: catalog_service_pb2.ListProductsRequest) -> tuple[str | None, str, int]:
    """The category (None for all), the id to go on after, and the page's size; a larger one is coerced (AIP-158)."""
    category = name(request.category, "category") if request.category else None
    after = _read_token(request.page_token, request.category) if request.page_token else ""
    return category, after, min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def export(request: catalog_service_pb2.ExportProductsRequest) -> tuple[str | None, str]:
    """The category (None for all), and the id to go on after (empty: from the first)."""
    category = name(request.category, "category") if request.category else None
    return category, name(request.after_id, "after_id") if request.after_id else ""


def page_token(category: str, after: str) -> str:
    """The token of the page that begins after an id; bound to its category, opaque to callers."""
    return base64.urlsafe_b64encode(f"{category}\n{after}".encode()).decode()


def _read_token(token: str, category: str) -> str:
    try:
        bound, after = base64.b64decode(token, altchars=b"-_", validate=True).decode().split("\n")
    except (binascii.Error, ValueError):
        raise invalid("page_token", "is not one that this server gave; begin with an empty one") from None
    if bound != category:
        raise invalid("page_token", "belongs to another category; begin with an empty one")
    return after


def image(message: image_pb2.Image, field: str) -> Image:
    """An image; whether it can be decoded shows later, off the event loop."""
    kind = message.WhichOneof("source")
    region = _region(message.region, f"{field}.region") if message.HasField("region") else None
    if kind == "encoded":
        return EncodedImage(message.encoded, region, f"{field}.encoded")
    if kind == "rgb":
        return RawImage(_pixels(message.rgb, f"{field}.rgb"), region, f"{field}.rgb")
    raise invalid(field, "is empty; send `encoded` (the bytes of an image file) or `rgb` (its pixels)")


def vector(message: image_pb2.Vector, field: str, dim: int) -> Floats:
    """An embedding: float32 [dim], finite, not all zero."""
    count = len(message.values)
    if count != dim:
        raise invalid(f"{field}.values", f"has {count} numbers; this model's embeddings have {dim}")
    values = wire.from_vector(message)
    with np.errstate(over="ignore", invalid="ignore"):
        square = values @ values
    if 0.0 < square < math.inf:
        return values  # one look does for nearly every vector; the others are very short or long, or wrong
    if not np.isfinite(values).all():
        raise invalid(f"{field}.values", "has a number that is NaN or infinite")
    if not values.any():
        raise invalid(f"{field}.values", "is all zeros, which looks like nothing")
    return values


def name(value: str, field: str) -> str:
    """An id or a category: 1 to 256 bytes without control characters."""
    if not value:
        raise invalid(field, "is empty")
    if len(value.encode()) > MAX_NAME_BYTES:
        raise invalid(field, f"is longer than {MAX_NAME_BYTES} bytes")
    # A control character is not printable; nearly every name is.
    if not value.isprintable() and any(unicodedata.category(character) == "Cc" for character in value):
        raise invalid(field, "has a control character")
    return value


def _text(value: str, field: str) -> str:
    if len(value.encode()) > MAX_TEXT_BYTES:
        raise invalid(field, f"is longer than {MAX_TEXT_BYTES} bytes")
    return value


def _attributes(values: Mapping[str, str], field: str) -> dict[str, str]:
    if len(values) > MAX_ATTRIBUTES:
        raise invalid(field, f"has {len(values)} entries; at most {MAX_ATTRIBUTES} are taken")
    return {name(key, field): _text(value, f"{field}[{key!r}]") for key, value in values.items()}


def _pixels(raw: image_pb2.RawImage, field: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    for side, pixels in (("width", raw.width), ("height", raw.height)):
        if pixels == 0:
            raise invalid(f"{field}.{side}", "is 0; an image has at least one pixel")
    data = raw.data  # once: every access copies the bytes
    expected = raw.width * raw.height * 3
    if len(data) != expected:
        raise invalid(f"{field}.data", f"has {len(data)} bytes; {raw.width} x {raw.height} x 3 channels are {expected}")
    return np.frombuffer(data, dtype=np.uint8).reshape(raw.height, raw.width, 3)


def _region(region: image_pb2.Region, field: str) -> Region:
    for low, high, sides in (
        (region.left, region.right, "left < right"),
        (region.top, region.bottom, "top < bottom"),
    ):
        if not 0.0 <= low < high <= 1.0:
            raise invalid(field, f"must hold 0 <= {sides} <= 1, in fractions of the image; got {low} and {high}")
    return Region(region.left, region.top, region.right, region.bottom)


def _k(request: search_service_pb2.SearchRequest) -> int:
    k = request.k if request.HasField("k") else DEFAULT_K
    if not 1 <= k <= MAX_K:
        raise invalid("k", f"is {k}; 1 to {MAX_K} products can be asked for")
    return k


def _options(request: search_service_pb2.SearchRequest) -> ResultOptions:
    if request.HasField("group_limit"):
        if not request.group_by:
            raise invalid("group_limit", "needs group_by, the attribute whose values make the groups")
        if request.group_limit == 0:
            raise invalid("group_limit", "is 0; a group shows at least 1 product")
    return ResultOptions(
        max_distance=_max_distance(request),
        group_by=name(request.group_by, "group_by") if request.group_by else "",
        group_limit=request.group_limit if request.HasField("group_limit") else 1,
        collapse=request.collapse_duplicates,
    )


def _max_distance(request: search_service_pb2.SearchRequest) -> float:
    if not request.HasField("max_distance"):
        return math.inf
    if math.isnan(request.max_distance) or request.max_distance < 0:
        raise invalid("max_distance", f"is {request.max_distance}; a distance is 0 or more")
    return request.max_distance


def _conditions(filters: Sequence[search_service_pb2.Filter]) -> tuple[Condition, ...]:
    if len(filters) > MAX_FILTERS:
        raise invalid("filters", f"has {len(filters)} entries; at most {MAX_FILTERS} are taken")
    return tuple(_condition(each, f"filters[{position}]") for position, each in enumerate(filters))


def _condition(message: search_service_pb2.Filter, field: str) -> Condition:
    attribute = name(message.attribute, f"{field}.attribute")
    kind = message.WhichOneof("condition")
    if kind == "equals":
        return OneOf(attribute, frozenset((message.equals,)))
    if kind == "any_of":
        return OneOf(attribute, _values(message.any_of, f"{field}.any_of"))
    if kind == "none_of":
        return NoneOf(attribute, _values(message.none_of, f"{field}.none_of"))
    if kind == "range":
        return _between(attribute, message.range, f"{field}.range")
    raise invalid(field, "has no condition; set one of equals, any_of, none_of and range")


def _values(message: search_service_pb2.Values, field: str) -> frozenset[str]:
    _check_count(len(message.values), f"{field}.values")
    return frozenset(message.values)


def _between(attribute: str, message: search_service_pb2.Range, field: str) -> Between:
    if not (message.HasField("minimum") or message.HasField("maximum")):
        raise invalid(field, "has no bound; set minimum, maximum or both")
    low = message.minimum if message.HasField("minimum") else -math.inf
    high = message.maximum if message.HasField("maximum") else math.inf
    if not low <= high:  # also where either is NaN
        raise invalid(field, f"must hold minimum <= maximum; got {low} and {high}")
    return Between(attribute, low, high)


def _check_count(count: int, field: str) -> None:
    if not 1 <= count <= MAX_ITEMS:
        raise invalid(field, f"has {count} entries; send 1 to {MAX_ITEMS}")


def _check_once(ids: Iterable[str], field: str, suffix: str) -> None:
    seen: dict[str, int] = {}
    for position, product_id in enumerate(ids):
        first = seen.setdefault(product_id, position)
        if first != position and product_id:
            raise invalid(f"{field}[{position}]{suffix}", f"{product_id!r} stands at {field}[{first}] already")


def _checked_key(value: str) -> str:
    return name(value, "idempotency_key") if value else ""


def _idempotency_key(request_id: str, item: str, message: Message | None) -> IdempotencyKey | None:
    """The name under which an item is done at most once; the digest tells another request of the same name apart."""
    if not request_id:
        return None
    said = message.SerializeToString(deterministic=True) if message is not None else b""
    return IdempotencyKey(request_id, item, hashlib.sha256(said).hexdigest())
