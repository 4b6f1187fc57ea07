"""The methods of both clients; every test runs with `Client` and with `AsyncClient`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from grpc import StatusCode

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, response_stats_pb2, search_service_pb2
from lookalike_client import (
    AsyncClient,
    BatchProfile,
    Client,
    Cropped,
    LookalikeError,
    Model,
    Parity,
    Product,
    ProductInput,
    Region,
    ResponseStats,
    Runtime,
    StoredProduct,
)
from support.arrays import DIM
from support.catalogs import image_file, put, stored, stored_vectors
from support.scripted_server import ScriptedServer

Call = Callable[..., Any]


def test_the_two_clients_have_the_same_methods() -> None:
    """AsyncClient has every public method of Client, with the same parameters and defaults."""

    def methods(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            name: [(each.name, each.kind, each.default) for each in inspect.signature(member).parameters.values()]
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert methods(Client) == methods(AsyncClient)


def test_an_embedding_is_read_only_float32(call: Call) -> None:
    """`embed` gives float32 of shape [dim], read-only, with its stats."""
    embedding = call("embed", image_file("shoe"))
    assert embedding.values.dtype == np.float32
    assert embedding.values.shape == (DIM,)
    assert not embedding.values.flags.writeable
    assert embedding.stats.total_us > 0
    assert embedding.stats.exact is None


def test_stats_are_those_of_the_response(call: Call, server: ScriptedServer) -> None:
    """Every field of the stats arrives."""
    stats = ResponseStats(
        decode_us=100,
        queue_us=200,
        inference_us=1000,
        search_us=50,
        total_us=1500,
        batch_size=3,
        padded_size=4,
        cache_hit=True,
        model_digest="d1",
        exact=False,
    )
    message = response_stats_pb2.ResponseStats(**dataclasses.asdict(stats))
    server.respond("Embed", embedding_service_pb2.EmbedResponse(embedding=[1.0], stats=message))
    server.respond("Search", search_service_pb2.SearchResponse(stats=message))
    assert call("embed", image_file("shoe")).stats == stats
    assert call("search", product_id="a").stats == stats


def test_an_image_is_bytes_or_a_path(call: Call, tmp_path: Path) -> None:
    """Bytes, a `str` path and a `Path` of the same file are the same image."""
    file = tmp_path / "shoe.jpg"
    file.write_bytes(image_file("shoe"))
    embeddings = [call("embed", source).values for source in (image_file("shoe"), str(file), file)]
    assert np.array_equal(embeddings[0], embeddings[1])
    assert np.array_equal(embeddings[0], embeddings[2])


def test_pixels_are_sent_row_after_row(call: Call, server: ScriptedServer) -> None:
    """A uint8 array [height, width, 3] arrives with its width, height and bytes in order, also when it is a view."""
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    call("embed", pixels[:, ::2])
    sent = cast("embedding_service_pb2.EmbedRequest", server.requests("Embed")[0]).image.rgb
    assert (sent.width, sent.height) == (2, 2)
    assert sent.data == bytes([0, 1, 2, 6, 7, 8, 12, 13, 14, 18, 19, 20])


def test_a_region_travels_with_its_image(call: Call, server: ScriptedServer) -> None:
    """`Cropped` sends the whole image and the region."""
    call("embed", Cropped(image_file("shoe"), Region(0.1, 0.2, 0.8, 0.9)))
    sent = cast("embedding_service_pb2.EmbedRequest", server.requests("Embed")[0]).image
    assert sent.encoded == image_file("shoe")
    assert (sent.region.left, sent.region.top, sent.region.right, sent.region.bottom) == (0.1, 0.2, 0.8, 0.9)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.float32)],
    ids=["gray", "four channels", "float"],
)
def test_pixels_of_another_shape_or_type_are_rejected_here(
    call: Call, server: ScriptedServer, pixels: np.ndarray
) -> None:
    """An array that is not uint8 [height, width, 3] is a ValueError, and nothing is sent."""
    with pytest.raises(ValueError, match="uint8"):
        call("embed", pixels)
    assert not server.calls


def test_what_cannot_be_an_image_is_a_type_error(call: Call) -> None:
    """A number is not an image."""
    with pytest.raises(TypeError, match="not int"):
        call("embed", 7)


def test_a_missing_file_is_an_os_error(call: Call, tmp_path: Path) -> None:
    """A path that does not exist raises FileNotFoundError with the path."""
    with pytest.raises(FileNotFoundError, match="nothing"):
        call("embed", tmp_path / "nothing.jpg")


def test_the_model_is_described(call: Call, server: ScriptedServer) -> None:
    """`model` gives every field, enums as plain words."""
    pb = embedding_service_pb2
    fields: dict[str, Any] = {
        "name": "tiny",
        "backbone": "resnet50",
        "weights": "imagenet",
        "dim": DIM,
        "input_width": 16,
        "input_height": 12,
        "pooling": "avg",
        "precision": "fp32",
        "digest": "d1",
        "provider": "CPUExecutionProvider",
    }
    profiles = [
        pb.BatchProfile(batch_size=1, concurrency=1, latency_ms=1.5),
        pb.BatchProfile(batch_size=2, concurrency=2, latency_ms=2.25),
    ]
    server.respond(
        "GetModel",
        pb.GetModelResponse(
            **fields,
            metric=pb.METRIC_COSINE,
            resize=pb.RESIZE_BILINEAR,
            batch_profiles=profiles,
            runtime=pb.Runtime(
                library="OpenVINO 1",
                precision="bf16",
                parity=pb.Parity(min_cosine=0.5, overlap=0.25, within_bounds=True),
                skipped=["cuda: none"],
            ),
        ),
    )
    assert call("model") == Model(
        name="tiny",
        backbone="resnet50",
        weights="imagenet",
        dim=DIM,
        metric="cosine",
        input_width=16,
        input_height=12,
        resize="bilinear",
        pooling="avg",
        precision="fp32",
        digest="d1",
        provider="CPUExecutionProvider",
        batch_profiles=(BatchProfile(1, 1, 1.5), BatchProfile(2, 2, 2.25)),
        runtime=Runtime("OpenVINO 1", "bf16", Parity(0.5, 0.25, within_bounds=True), ("cuda: none",)),
    )


def test_search_by_image_finds_the_same_image_first(call: Call, real: Client) -> None:
    """The product with the same image is nearest, at distance 0 and similarity 1, and the search is exact."""
    for name in ("a", "b", "c"):
        put(real, name)
    put(real, "other", category="Women")
    result = call("search", image=image_file("b"), category="Men")
    assert result.neighbors[0].product.id == "b"
    assert len(result.neighbors) == 3
    assert result.neighbors[0].distance == pytest.approx(0, abs=1e-6)
    assert result.neighbors[0].similarity == pytest.approx(1)
    assert result.stats.exact is True


def test_search_by_vector_and_by_product(call: Call, real: Client) -> None:
    """A vector may be an array or a list; a product is never among its own results."""
    for name in ("a", "b", "c"):
        put(real, name)
    (values,) = stored_vectors(real)["b"]
    for vector in (values, values.tolist(), values.astype(np.float64)):
        assert call("search", vector=vector, all_categories=True, k=1).neighbors[0].product.id == "b"
    assert {each.product.id for each in call("search", product_id="b").neighbors} == {"a", "c"}


def test_search_sends_the_set_options_only(call: Call, server: ScriptedServer, real: Client) -> None:
    """Unset options stay unset on the wire, so that the server's defaults hold; set ones arrive."""
    put(real, "a")
    call("search", product_id="a")
    call("search", product_id="a", category="Men", k=7, max_distance=0.0, exact=True)
    bare, full = (cast("search_service_pb2.SearchRequest", each) for each in server.requests("Search"))
    assert bare == search_service_pb2.SearchRequest(product_id="a")
    assert full == search_service_pb2.SearchRequest(product_id="a", category="Men", k=7, max_distance=0.0, exact=True)


@pytest.mark.parametrize("query", [{}, {"image": b"x", "product_id": "a"}], ids=["none", "two"])
def test_exactly_one_query(call: Call, query: dict[str, Any]) -> None:
    """No query, or two at once, is a ValueError that names the three."""
    with pytest.raises(ValueError, match="exactly one of image, vector and product_id"):
        call("search", **query)


def test_a_vector_is_one_row(call: Call) -> None:
    """A matrix is a ValueError, not a longer vector."""
    with pytest.raises(ValueError, match="shape"):
        call("search", vector=np.zeros((1, DIM)), category="Men")


def test_one_bad_product_fails_alone(call: Call, real: Client) -> None:
    """`upsert` gives a status for each product in order; the invalid one has the error of a call."""
    statuses = call(
        "upsert",
        [
            ProductInput("a", "Men", "Shoe", "a.jpg", {"color": "red"}, images=[image_file("a")]),
            ProductInput("b", "Men", images=[b"no image"]),
            ProductInput("c", "Men", vectors=[np.ones(DIM)]),
        ],
    )
    assert [(each.id, each.ok) for each in statuses] == [("a", True), ("b", False), ("c", True)]
    assert statuses[0].error is None
    error = statuses[1].error
    assert error.code is StatusCode.INVALID_ARGUMENT
    assert (
        str(error)
        == "INVALID_ARGUMENT: products[1].images[0].encoded: is not a JPEG, PNG, WebP, AVIF, GIF or BMP image"
    )
    assert sorted(stored(real)) == ["a", "c"]


def test_a_product_comes_back_as_it_was_stored(call: Call) -> None:
    """`get` gives what was upserted, and the count of its images."""
    call("upsert", [ProductInput("a", "Men", "Schuh für Älteste", "a.jpg", {"color": "red"}, [image_file("a")])])
    assert call("get", "a") == StoredProduct(
        Product("a", "Men", "Schuh für Älteste", "a.jpg", {"color": "red"}), image_count=1
    )


def test_an_unknown_product_is_not_found(call: Call) -> None:
    """`get` of an id that is not there raises with code NOT_FOUND."""
    with pytest.raises(LookalikeError, match="NOT_FOUND: no product 'x'") as caught:
        call("get", "x")
    assert caught.value.code is StatusCode.NOT_FOUND


def test_products_come_page_by_page(call: Call, server: ScriptedServer, real: Client) -> None:
    """`products` gives every product once, by id, over as many pages as it takes; or those of one category."""
    for number in range(7):
        put(real, f"p{number}", category="Men" if number % 2 else "Women")
    assert [each.id for each in call("products", page_size=3)] == [f"p{number}" for number in range(7)]
    assert len(server.requests("ListProducts")) == 3
    assert [each.id for each in call("products", "Men", page_size=3)] == ["p1", "p3", "p5"]


def test_an_empty_catalog_has_no_products(call: Call) -> None:
    """`products` and `categories` of an empty server are empty, not errors."""
    assert call("products") == []
    assert call("categories") == []


def test_deleting_an_unknown_product_fails_alone(call: Call, real: Client) -> None:
    """`delete` gives a status for each id; NOT_FOUND for one does not fail the others."""
    put(real, "a")
    statuses = call("delete", ["a", "x"])
    assert [(each.id, each.code) for each in statuses] == [("a", StatusCode.OK), ("x", StatusCode.NOT_FOUND)]
    assert not stored(real)


def test_delete_takes_no_single_string(call: Call, real: Client) -> None:
    """One string would be read as its letters, and delete products of these names."""
    put(real, "a")
    with pytest.raises(TypeError, match="sequence of ids"):
        call("delete", "abc")
    assert "a" in stored(real)


def test_categories_have_the_recall_of_their_graphs(call: Call, server: ScriptedServer) -> None:
    """A category's recall is the server's, and None where it has none."""
    pb = catalog_service_pb2
    server.respond(
        "ListCategories",
        pb.ListCategoriesResponse(categories=[pb.Category(name="Men", recall=0.75), pb.Category(name="Women")]),
    )
    assert [(each.name, each.recall) for each in call("categories")] == [("Men", 0.75), ("Women", None)]


def test_categories_with_attributes(call: Call) -> None:
    """`categories` counts products, and attribute values only on request."""
    for name, color in (("a", "red"), ("b", "red"), ("c", "blue")):
        call("upsert", [ProductInput(name, "Men", attributes={"color": color}, images=[image_file(name)])])
    (plain,) = call("categories")
    assert (plain.name, plain.count, plain.index_kind, plain.attributes) == ("Men", 3, "flat", ())
    (counted,) = call("categories", include_attributes=True)
    (color,) = counted.attributes
    assert (color.name, color.distinct_values) == ("color", 2)
    assert [(each.value, each.count) for each in color.top_values] == [("red", 2), ("blue", 1)]


def test_values_print_briefly(call: Call, real: Client) -> None:
    """The `repr` of an embedding, a product to store and a neighbor is short."""
    put(real, "a", title="Shoe")
    assert re.search(r"of 48 in \d+\.\d ms>$", repr(call("embed", image_file("x"))))
    (neighbor,) = call("search", image=image_file("a"), category="Men").neighbors
    assert repr(neighbor) == "<Neighbor 'a' 'Shoe' in 'Men', similarity 1.0000, distance 0.0000>"
    assert repr(ProductInput("a", "Men", "Shoe", images=[b"x" * 10_000])) == (
        "<ProductInput 'a' in 'Men': 'Shoe', 1 images>"
    )
