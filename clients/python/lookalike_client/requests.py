"""Builds the requests; pure, except that it reads the image files given by path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lookalike import vector_codec
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2, search_service_pb2
from lookalike_client.filters import AnyOf, Between, Equals, Filter, NoneOf
from lookalike_client.inputs import Cropped, ImageSource, ProductInput, VectorSource


def to_image(source: ImageSource) -> image_pb2.Image:
    """Convert an image to its message.

    Raises:
        OSError: The file cannot be read.
        TypeError: It is of a type that cannot be an image.
        ValueError: An array that is not uint8 of shape [height, width, 3].
    """
    if isinstance(source, Cropped):
        message = to_image(source.image)
        box = source.region
        message.region.CopyFrom(image_pb2.Region(left=box.left, top=box.top, right=box.right, bottom=box.bottom))
        return message
    if isinstance(source, bytes):
        return image_pb2.Image(encoded=source)
    if isinstance(source, str | os.PathLike):
        return image_pb2.Image(encoded=Path(source).read_bytes())
    if isinstance(source, np.ndarray):
        return image_pb2.Image(rgb=_pixels(source))
    raise TypeError(
        "an image must be the bytes of an image file, its path, or a uint8 array [height, width, 3], "
        f"not {type(source).__name__}"
    )


def _pixels(array: np.ndarray) -> image_pb2.RawImage:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 of shape [height, width, 3], not {array.dtype} of {list(array.shape)}")
    return image_pb2.RawImage(width=array.shape[1], height=array.shape[0], data=array.tobytes())


def vector(source: VectorSource) -> image_pb2.Vector:
    """Convert an embedding to its message.

    Raises:
        ValueError: It is not of shape [dim].
    """
    values = np.asarray(source, dtype=np.float32)
    if values.ndim != 1:
        raise ValueError(f"a vector must be of shape [dim], not {list(values.shape)}")
    return vector_codec.to_vector(values)


def embed(source: ImageSource) -> embedding_service_pb2.EmbedRequest:
    """Build the request that embeds an image; raises as `to_image`."""
    return embedding_service_pb2.EmbedRequest(image=to_image(source))


def embed_item(item: tuple[str, ImageSource]) -> embedding_service_pb2.EmbedStreamRequest:
    """Build the message of one of many images to embed, with its id; raises as `to_image`."""
    item_id, source = item
    return embedding_service_pb2.EmbedStreamRequest(id=item_id, image=to_image(source))


def search(
    *,
    image: ImageSource | None,
    query_vector: VectorSource | None,
    product_id: str | None,
    category: str,
    all_categories: bool,
    k: int | None,
    filters: Sequence[Filter],
    max_distance: float | None,
    group_by: str,
    group_limit: int | None,
    collapse_duplicates: bool,
    exact: bool,
) -> search_service_pb2.SearchRequest:
    """Build a search request; raises as `to_image` and `vector`.

    Raises:
        TypeError: A filter is not a `Filter`, or has one string as its values.
        ValueError: Not exactly one of image, vector and product id is given.
    """
    if sum(each is not None for each in (image, query_vector, product_id)) != 1:
        raise ValueError("give exactly one of image, vector and product_id")
    request = search_service_pb2.SearchRequest(
        category=category,
        all_categories=all_categories,
        k=k,
        filters=map(_filter, filters),
        max_distance=max_distance,
        group_by=group_by,
        group_limit=group_limit,
        collapse_duplicates=collapse_duplicates,
        exact=exact,
    )
    if image is not None:
        request.image.CopyFrom(to_image(image))
    elif query_vector is not None:
        request.vector.CopyFrom(vector(query_vector))
    elif product_id is not None:
        request.product_id = product_id
    return request


def _filter(condition: Filter) -> search_service_pb2.Filter:
    if isinstance(condition, Equals):
        return search_service_pb2.Filter(attribute=condition.attribute, equals=condition.value)
    if isinstance(condition, AnyOf):
        return search_service_pb2.Filter(attribute=condition.attribute, any_of=_values(condition))
    if isinstance(condition, NoneOf):
        return search_service_pb2.Filter(attribute=condition.attribute, none_of=_values(condition))
    if isinstance(condition, Between):
        bounds = search_service_pb2.Range(minimum=condition.minimum, maximum=condition.maximum)
        return search_service_pb2.Filter(attribute=condition.attribute, range=bounds)
    raise TypeError(f"a filter must be Equals, AnyOf, NoneOf or Between, not {type(condition).__name__}")


def _values(condition: AnyOf | NoneOf) -> search_service_pb2.Values:
    _reject_string(condition.values, f"the values of {condition.attribute!r}", "values")
    return search_service_pb2.Values(values=condition.values)


def upsert(products: Iterable[ProductInput], idempotency_key: str) -> catalog_service_pb2.UpsertProductsRequest:
    """Build the request that stores products; raises as `to_image` and `vector`."""
    return catalog_service_pb2.UpsertProductsRequest(products=map(_product, products), idempotency_key=idempotency_key)


def import_product(product: ProductInput) -> catalog_service_pb2.ImportProductsRequest:
    """Build the message of one of many products to store; raises as `to_image` and `vector`."""
    return catalog_service_pb2.ImportProductsRequest(product=_product(product))


def _product(product: ProductInput) -> product_pb2.ProductInput:
    return product_pb2.ProductInput(
        id=product.id,
        category=product.category,
        title=product.title,
        image_uri=product.image_uri,
        attributes=product.attributes,
        images=map(to_image, product.images),
        vectors=map(vector, product.vectors),
    )


def update_attributes(
    product_id: str, attributes: Mapping[str, str], clear: Iterable[str], idempotency_key: str
) -> catalog_service_pb2.UpdateAttributesRequest:
    """Build the request that sets and removes attributes of a product.

    Raises:
        TypeError: `clear` is one string.
        ValueError: An attribute is in both `attributes` and `clear`.
    """
    _reject_string(clear, "clear", "names")
    names = list(clear)
    overlap = sorted(set(names) & set(attributes))
    if overlap:
        raise ValueError(f"{', '.join(map(repr, overlap))} cannot be both set and cleared")
    return catalog_service_pb2.UpdateAttributesRequest(
        id=product_id,
        attributes=attributes,
        clear=names,
        idempotency_key=idempotency_key,
    )


def delete(ids: Iterable[str], idempotency_key: str) -> catalog_service_pb2.DeleteProductsRequest:
    """Build the request that deletes products.

    Raises:
        TypeError: `ids` is one string.
    """
    _reject_string(ids, "ids", "ids")
    return catalog_service_pb2.DeleteProductsRequest(ids=ids, idempotency_key=idempotency_key)


def _reject_string(given: Iterable[str], name: str, what: str) -> None:
    # a string is a sequence of strings too: its letters would be taken as ids, names or values
    if isinstance(given, str):
        raise TypeError(f"{name} must be a sequence of {what}, not one string")


def export(category: str | None, after_id: str) -> catalog_service_pb2.ExportProductsRequest:
    """Build the request that exports products with embeddings, those after an id."""
    return catalog_service_pb2.ExportProductsRequest(category=category or "", after_id=after_id)


def page(category: str | None, page_size: int, token: str) -> catalog_service_pb2.ListProductsRequest:
    """Build the request for a page of products."""
    return catalog_service_pb2.ListProductsRequest(category=category or "", page_size=page_size, page_token=token)
