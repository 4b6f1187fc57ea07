"""What both clients ask and answer; every test runs with `Client` and with `AsyncClient`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from grpc import StatusCode

from lookalike.v1 import embedding_service_pb2, search_service_pb2
from lookalike_client import (
    AsyncClient,
    BatchProfile,
    Client,
    Cropped,
    LookalikeError,
    Model,
    Product,
    ProductInput,
    Region,
    StoredProduct,
)
from support.fake_server import FakeServer
from support.fake_state import DIM, image_file

Ask = Callable[..., Any]


def test_the_two_clients_have_the_same_methods() -> None:
    """AsyncClient has every public method of Client, with the same parameters and defaults."""

    def methods(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            name: [(each.name, each.kind, each.default) for each in inspect.signature(member).parameters.values()]
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert methods(Client) == methods(AsyncClient)


def test_an_embedding_is_read_only_float32(ask: Ask) -> None:
    """`embed` gives float32 of shape [dim] that nobody changes by mistake, with its stats."""
    embedding = ask("embed", image_file("shoe"))
    assert embedding.values.dtype == np.float32
    assert embedding.values.shape == (DIM,)
    assert not embedding.values.flags.writeable
    assert embedding.stats.total_us == 1500
    assert embedding.stats.exact is None


def test_a_image_is_bytes_or_a_path(ask: Ask, tmp_path: Path) -> None:
    """Bytes, a `str` path and a `Path` of the same file are the same image."""
    file = tmp_path / "shoe.jpg"
    file.write_bytes(image_file("shoe"))
    embeddings = [ask("embed", source).values for source in (image_file("shoe"), str(file), file)]
    assert np.array_equal(embeddings[0], embeddings[1])
    assert np.array_equal(embeddings[0], embeddings[2])


def test_pixels_are_sent_row_after_row(ask: Ask, fake: FakeServer) -> None:
    """A uint8 array [height, width, 3] arrives with its width, height and bytes in order, also when it is a view."""
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    ask("embed", pixels[:, ::2])
    sent = cast("embedding_service_pb2.EmbedRequest", fake.requests("Embed")[0]).image.rgb
    assert (sent.width, sent.height) == (2, 2)
    assert sent.data == bytes([0, 1, 2, 6, 7, 8, 12, 13, 14, 18, 19, 20])


def test_a_region_travels_with_its_image(ask: Ask, fake: FakeServer) -> None:
    """`Cropped` sends the whole image and the part to look at."""
    ask("embed", Cropped(image_file("shoe"), Region(0.1, 0.2, 0.8, 0.9)))
    sent = cast("embedding_service_pb2.EmbedRequest", fake.requests("Embed")[0]).image
    assert sent.encoded == image_file("shoe")
    assert (sent.region.left, sent.region.top, sent.region.right, sent.region.bottom) == (0.1, 0.2, 0.8, 0.9)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.float32)],
    ids=["gray", "four channels", "float"],
)
def test_pixels_of_another_shape_or_type_are_rejected_here(ask: Ask, fake: FakeServer, pixels: np.ndarray) -> None:
    """An array that is not uint8 [height, width, 3] is a ValueError, and nothing is sent."""
    with pytest.raises(ValueError, match="uint8"):
        ask("embed", pixels)
    assert not fake.calls


def test_what_cannot_be_a_image_is_a_type_error(ask: Ask) -> None:
    """A number is no image."""
    with pytest.raises(TypeError, match="not int"):
        ask("embed", 7)


def test_a_missing_file_is_an_os_error(ask: Ask, tmp_path: Path) -> None:
    """A path that does not exist raises FileNotFoundError with the path."""
    with pytest.raises(FileNotFoundError, match="nothing"):
        ask("embed", tmp_path / "nothing.jpg")


def test_the_model_is_described(ask: Ask) -> None:
    """`model` gives every field, enums as plain words."""
    assert ask("model") == Model(
        name="tiny",
        backbone="fake8",
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
    )


def test_search_by_image_finds_the_same_image_first(ask: Ask, fake: FakeServer) -> None:
    """The product with the asked image is nearest, at distance 0 and similarity 1, and the answer says exact."""
    for name in ("a", "b", "c"):
        fake.put(name)
    fake.put("other", category="Women")
    answer = ask("search", image=image_file("b"), category="Men")
    assert answer.neighbors[0].product.id == "b"
    assert len(answer.neighbors) == 3
    assert answer.neighbors[0].distance == pytest.approx(0, abs=1e-6)
    assert answer.neighbors[0].similarity == pytest.approx(1)
    assert answer.stats.exact is True


def test_search_by_vector_and_by_product(ask: Ask, fake: FakeServer) -> None:
    """A vector may be an array or a list; a product is never among its own answers."""
    for name in ("a", "b", "c"):
        fake.put(name)
    _, values = fake.products["b"]
    for vector in (values, values.tolist(), values.astype(np.float64)):
        assert ask("search", vector=vector, all_categories=True, k=1).neighbors[0].product.id == "b"
    assert {each.product.id for each in ask("search", product_id="b").neighbors} == {"a", "c"}


def test_search_sends_what_was_asked_and_nothing_else(ask: Ask, fake: FakeServer) -> None:
    """Unset options stay unset on the wire, so that the server's defaults hold; set ones arrive."""
    fake.put("a")
    ask("search", product_id="a")
    ask("search", product_id="a", category="Men", k=7, max_distance=0.0, exact=True)
    bare, full = (cast("search_service_pb2.SearchRequest", each) for each in fake.requests("Search"))
    assert bare == search_service_pb2.SearchRequest(product_id="a")
    assert full == search_service_pb2.SearchRequest(product_id="a", category="Men", k=7, max_distance=0.0, exact=True)


@pytest.mark.parametrize("question", [{}, {"image": b"x", "product_id": "a"}], ids=["none", "two"])
def test_exactly_one_question(ask: Ask, question: dict[str, Any]) -> None:
    """No query, or two at once, is a ValueError that names the three."""
    with pytest.raises(ValueError, match="exactly one of image, vector and product_id"):
        ask("search", **question)


def test_a_vector_is_one_row(ask: Ask) -> None:
    """A matrix is a ValueError, not a longer vector."""
    with pytest.raises(ValueError, match="shape"):
        ask("search", vector=np.zeros((1, DIM)), category="Men")


def test_one_bad_product_fails_alone(ask: Ask, fake: FakeServer) -> None:
    """`upsert` gives a status a product in their order; the bad one carries the error a call would have raised."""
    statuses = ask(
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
    assert str(error) == "INVALID_ARGUMENT: products[1].images[0].encoded: not an image"
    assert sorted(fake.products) == ["a", "c"]


def test_a_product_comes_back_as_it_was_stored(ask: Ask) -> None:
    """`get` gives what was upserted, and how many images it is found by."""
    ask("upsert", [ProductInput("a", "Men", "Schuh für Älteste", "a.jpg", {"color": "red"}, [image_file("a")])])
    assert ask("get", "a") == StoredProduct(
        Product("a", "Men", "Schuh für Älteste", "a.jpg", {"color": "red"}), image_count=1
    )


def test_an_unknown_product_is_not_found(ask: Ask) -> None:
    """`get` of an id that is not there raises with code NOT_FOUND."""
    with pytest.raises(LookalikeError, match="NOT_FOUND: no product 'x'") as caught:
        ask("get", "x")
    assert caught.value.code is StatusCode.NOT_FOUND


def test_products_come_page_by_page(ask: Ask, fake: FakeServer) -> None:
    """`products` gives every product once, by id, over as many pages as it takes; or those of one category."""
    for number in range(7):
        fake.put(f"p{number}", category="Men" if number % 2 else "Women")
    assert [each.id for each in ask("products", page_size=3)] == [f"p{number}" for number in range(7)]
    assert len(fake.requests("ListProducts")) == 3
    assert [each.id for each in ask("products", "Men", page_size=3)] == ["p1", "p3", "p5"]


def test_an_empty_catalog_has_no_products(ask: Ask) -> None:
    """`products` and `categories` of an empty server are empty, not errors."""
    assert ask("products") == []
    assert ask("categories") == []


def test_deleting_an_unknown_product_fails_alone(ask: Ask, fake: FakeServer) -> None:
    """`delete` gives a status an id; NOT_FOUND for one does not keep the others."""
    fake.put("a")
    statuses = ask("delete", ["a", "x"])
    assert [(each.id, each.code) for each in statuses] == [("a", StatusCode.OK), ("x", StatusCode.NOT_FOUND)]
    assert not fake.products


def test_delete_takes_no_single_string(ask: Ask, fake: FakeServer) -> None:
    """One string would be read as its letters, and delete products of these names."""
    fake.put("a")
    with pytest.raises(TypeError, match="sequence of ids"):
        ask("delete", "abc")
    assert "a" in fake.products


def test_categories_tell_the_recall_of_their_graphs(ask: Ask, fake: FakeServer) -> None:
    """A category's recall is the server's, and None where it has none to tell."""
    fake.put("a", "Men")
    fake.put("b", "Women")
    fake.recalls = {"Men": 0.75}
    assert [(each.name, each.recall) for each in ask("categories")] == [("Men", 0.75), ("Women", None)]


def test_categories_with_attributes(ask: Ask) -> None:
    """`categories` counts products, and attribute values only when asked."""
    for name, color in (("a", "red"), ("b", "red"), ("c", "blue")):
        ask("upsert", [ProductInput(name, "Men", attributes={"color": color}, images=[image_file(name)])])
    (plain,) = ask("categories")
    assert (plain.name, plain.count, plain.index_kind, plain.attributes) == ("Men", 3, "flat", ())
    (counted,) = ask("categories", include_attributes=True)
    (color_seen,) = counted.attributes
    assert (color_seen.name, color_seen.distinct_values) == ("color", 2)
    assert [(each.value, each.count) for each in color_seen.top_values] == [("red", 2), ("blue", 1)]


def test_values_print_briefly(ask: Ask, fake: FakeServer) -> None:
    """The `repr` of an embedding, a product to store and a neighbor tells what it is, never all its bytes."""
    fake.put("a", title="Shoe")
    assert repr(ask("embed", image_file("x"))).endswith("of 8 in 1.5 ms>")
    (neighbor,) = ask("search", image=image_file("a"), category="Men").neighbors
    assert repr(neighbor) == "<Neighbor 'a' 'Shoe' in 'Men', similarity 1.0000, distance 0.0000>"
    assert repr(ProductInput("a", "Men", "Shoe", images=[b"x" * 10_000])) == (
        "<ProductInput 'a' in 'Men': 'Shoe', 1 images>"
    )
