"""Builds the requests; pure, except that it reads the image files given by path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from lookalike import vector_codec
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2, search_service_pb2
from lookalike_client import arguments
from lookalike_client.filters import AnyOf, Equals, Filter, NoneOf
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
        edges = {edge: arguments.number(getattr(box, edge), edge) for edge in ("left", "top", "right", "bottom")}
        message.region.CopyFrom(image_pb2.Region(**edges))
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
        TypeError: It has values that are not numbers.
        ValueError: It is not of shape [dim].
    """
    try:
        values = np.asarray(source, dtype=np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"a vector must be numbers of shape [dim], not {type(source).__name__}") from None
    if values.ndim != 1:
        raise ValueError(f"a vector must be of shape [dim], not {list(values.shape)}")
    return vector_codec.to_vector(values)


def embed(source: ImageSource) -> embedding_service_pb2.EmbedRequest:
    """Build the request that embeds an image; raises as `to_image`."""
    return embedding_service_pb2.EmbedRequest(image=to_image(source))


def embed_item(item: tuple[str, ImageSource]) -> embedding_service_pb2.EmbedStreamRequest:
    """Build the message of one of many images to embed, with its id; raises as `to_image`.

    Raises:
        TypeError: It is not a pair of an id, which is a string, and an image.
    """
    item_id, source = arguments.pair(item, "each of `images`", "(id, image)")
    return embedding_service_pb2.EmbedStreamRequest(
        id=arguments.text(item_id, "the id of an image"), image=to_image(source)
    )


def search(
    *,
    image: ImageSource | None,
    query_vector: VectorSource | None,
    product_id: str | None,
    category: str,
    all_categories: bool,
    k: int | None,
    filters: Filter | Iterable[Filter],
    max_distance: float | None,
    group_by: str,
    group_limit: int | None,
    collapse_duplicates: bool,
    exact: bool,
) -> search_service_pb2.SearchRequest:
    """Build a search request; raises as `to_image` and `vector`.

    Raises:
        TypeError: An argument, or a filter's value, is of the wrong type; the error names it.
        ValueError: Not exactly one of image, vector and product id is given.
    """
    if sum(each is not None for each in (image, query_vector, product_id)) != 1:
        raise ValueError("give exactly one of image, vector and product_id")
    request = search_service_pb2.SearchRequest(
        category=arguments.text(category, "category"),
        all_categories=arguments.flag(all_categories, "all_categories"),
        k=arguments.optional(arguments.integer, k, "k"),
        filters=_filters(filters),
        max_distance=arguments.optional(arguments.number, max_distance, "max_distance"),
        group_by=arguments.text(group_by, "group_by"),
        group_limit=arguments.optional(arguments.integer, group_limit, "group_limit"),
        collapse_duplicates=arguments.flag(collapse_duplicates, "collapse_duplicates"),
        exact=arguments.flag(exact, "exact"),
    )
    if image is not None:
        request.image.CopyFrom(to_image(image))
    elif query_vector is not None:
        request.vector.CopyFrom(vector(query_vector))
    elif product_id is not None:
        request.product_id = arguments.text(product_id, "product_id")
    return request


def _filters(filters: Filter | Iterable[Filter]) -> Iterator[search_service_pb2.Filter]:
    if isinstance(filters, Filter):
        filters = (filters,)
    return map(_filter, arguments.sequence(filters, "filters", "Equals, AnyOf, NoneOf or Between"))


def _filter(condition: Filter) -> search_service_pb2.Filter:
    if not isinstance(condition, Filter):
        raise TypeError(f"a filter must be Equals, AnyOf, NoneOf or Between, not {type(condition).__name__}")
    attribute = arguments.required(condition.attribute, f"the attribute of {type(condition).__name__}")
    message = search_service_pb2.Filter(attribute=attribute)
    of = f"of {attribute!r}"
    if isinstance(condition, Equals):
        message.equals = arguments.required(condition.value, f"the value {of} in Equals")
    elif isinstance(condition, AnyOf):
        message.any_of.values.extend(arguments.texts(condition.values, "values", "values", f" {of}"))
        message.any_of.SetInParent()
    elif isinstance(condition, NoneOf):
        message.none_of.values.extend(arguments.texts(condition.values, "values", "values", f" {of}"))
        message.none_of.SetInParent()
    else:
        bounds = search_service_pb2.Range(
            minimum=arguments.optional(arguments.number, condition.minimum, f"the minimum {of}"),
            maximum=arguments.optional(arguments.number, condition.maximum, f"the maximum {of}"),
        )
        message.range.CopyFrom(bounds)
    return message


def upsert(products: Iterable[ProductInput], idempotency_key: str) -> catalog_service_pb2.UpsertProductsRequest:
    """Build the request that stores products; raises as `to_image` and `vector`.

    Raises:
        TypeError: An argument, or a product's field, is of the wrong type; the error names it.
    """
    return catalog_service_pb2.UpsertProductsRequest(
        products=map(_product, arguments.sequence(products, "products", "ProductInput")),
        idempotency_key=arguments.text(idempotency_key, "idempotency_key"),
    )


def import_product(product: ProductInput) -> catalog_service_pb2.ImportProductsRequest:
    """Build the message of one of many products to store; raises as `upsert`."""
    return catalog_service_pb2.ImportProductsRequest(product=_product(product))


def _product(product: ProductInput) -> product_pb2.ProductInput:
    if not isinstance(product, ProductInput):
        raise TypeError(f"each product must be a ProductInput, not {type(product).__name__}")
    product_id = arguments.required(product.id, "the id of a product")
    of = f"of product {product_id!r}"
    images = arguments.sequence(product.images, f"images {of}", "images", one=(np.ndarray, os.PathLike, Cropped))
    return product_pb2.ProductInput(
        id=product_id,
        category=arguments.text(product.category, f"category {of}"),
        title=arguments.text(product.title, f"title {of}"),
        image_uri=arguments.text(product.image_uri, f"image_uri {of}"),
        attributes=arguments.attributes(product.attributes, f" {of}"),
        images=map(to_image, images),
        vectors=map(vector, arguments.sequence(product.vectors, f"vectors {of}", "vectors")),
    )


def update_attributes(
    product_id: str, attributes: Mapping[str, str], clear: Iterable[str], idempotency_key: str
) -> catalog_service_pb2.UpdateAttributesRequest:
    """Build the request that sets and removes attributes of a product.

    Raises:
        TypeError: An argument is of the wrong type, for instance `clear` one string; the error names it.
        ValueError: An attribute is in both `attributes` and `clear`.
    """
    names = arguments.texts(clear, "clear", "names")
    overlap = sorted(set(names) & set(attributes))
    if overlap:
        raise ValueError(f"{', '.join(map(repr, overlap))} cannot be both set and cleared")
    return catalog_service_pb2.UpdateAttributesRequest(
        id=arguments.text(product_id, "product_id"),
        attributes=arguments.attributes(attributes),
        clear=names,
        idempotency_key=arguments.text(idempotency_key, "idempotency_key"),
    )


def delete(ids: Iterable[str], idempotency_key: str) -> catalog_service_pb2.DeleteProductsRequest:
    """Build the request that deletes products.

    Raises:
        TypeError: `ids` is one string, or one of them is none.
    """
    return catalog_service_pb2.DeleteProductsRequest(
        ids=arguments.texts(ids, "ids", "ids"), idempotency_key=arguments.text(idempotency_key, "idempotency_key")
    )


def get(product_id: str) -> catalog_service_pb2.GetProductRequest:
    """Build the request that reads a product."""
    return catalog_service_pb2.GetProductRequest(id=arguments.text(product_id, "product_id"))


def stored_image(product_id: str, image_index: int) -> catalog_service_pb2.GetImageRequest:
    """Build the request that reads an image of a product."""
    return catalog_service_pb2.GetImageRequest(
        id=arguments.text(product_id, "product_id"), image_index=arguments.integer(image_index, "image_index")
    )


def export(category: str | None, after_id: str) -> catalog_service_pb2.ExportProductsRequest:
    """Build the request that exports products with embeddings, those after an id."""
    return catalog_service_pb2.ExportProductsRequest(category=arguments.text(category, "category"), after_id=after_id)


def page(category: str | None, page_size: int, token: str) -> catalog_service_pb2.ListProductsRequest:
    """Build the request for a page of products."""
    return catalog_service_pb2.ListProductsRequest(
        category=arguments.text(category, "category"),
        page_size=arguments.integer(page_size, "page_size"),
        page_token=token,
    )
