"""What the client says to arguments of the wrong type: which argument, what it is, and what it must be."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.v1 import search_service_pb2
from lookalike_client import AnyOf, Between, Cropped, Equals, NoneOf, ProductInput, Region, requests

IMAGE = b"an image file"


def search(**given: Any) -> search_service_pb2.SearchRequest:
    """Build a search for a product."""
    nothing: dict[str, Any] = dict.fromkeys(("image", "query_vector", "k", "max_distance", "group_limit"))
    unset = dict.fromkeys(("all_categories", "collapse_duplicates", "exact"), False)
    return requests.search(
        **{**nothing, **unset, "category": "", "group_by": "", "filters": (), "product_id": "a", **given}
    )


def store(**fields: Any) -> object:
    """Build the request that stores a product."""
    product: dict[str, Any] = {"id": "a", "category": "Men", "images": [IMAGE], **fields}
    return requests.upsert([ProductInput(**product)], "")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: store(attributes={"price": 9.9}),
            """'price'] of product 'a' must be a string, not float 9.9; write "9.9\"""",
        ),
        (lambda: store(attributes={"price": None}), "'price'] of product 'a' must be a string, not None; leave it out"),
        (lambda: store(attributes={"new": True}), "'new'] of product 'a' must be a string, not bool True"),
        (lambda: store(attributes={7: "seven"}), "a name in attributes of product 'a' must be a string, not int 7"),
        (lambda: store(attributes=[("price", "9")]), "must be a mapping of names to values, not list"),
        (lambda: store(id=7), """the id of a product must be a string, not int 7; write "7\""""),
        (lambda: store(title=b"Shoe"), "title of product 'a' must be a string, not bytes b'Shoe'"),
        (lambda: store(images="shoe.jpg"), "images of product 'a' must be a sequence of images, not one string"),
        (lambda: store(images=IMAGE), "images of product 'a' must be a sequence of images, not bytes"),
        (lambda: store(images=Path("shoe.jpg")), "images of product 'a' must be a sequence of images"),
        (lambda: store(images=np.zeros((2, 2, 3), np.uint8)), "must be a sequence of images, not ndarray"),
        (lambda: store(images=[7]), "an image must be the bytes of an image file"),
        (lambda: store(images=(), vectors=[["a", "b"]]), "a vector must be numbers of shape [dim], not list"),
        (lambda: requests.upsert(ProductInput("a", "Men"), ""), "products must be a sequence of ProductInput"),  # type: ignore[arg-type]
        (lambda: requests.upsert([{"id": "a"}], ""), "each product must be a ProductInput, not dict"),  # type: ignore[list-item]
        (
            lambda: search(filters=[Equals("price", 9)]),  # type: ignore[arg-type]
            """the value of 'price' in Equals must be a string, not int 9; write "9\"""",
        ),
        (lambda: search(filters=[Equals("price", None)]), "the value of 'price' in Equals must be a string, not None"),  # type: ignore[arg-type]
        (lambda: search(filters=[Equals(9, "price")]), "the attribute of Equals must be a string, not int 9"),  # type: ignore[arg-type]
        (lambda: search(filters=[AnyOf("size", [38, 39])]), "values[0] of 'size' must be a string, not int 38"),  # type: ignore[list-item]
        (lambda: search(filters=[NoneOf("size", 38)]), "values of 'size' must be a sequence of values, not int 38"),  # type: ignore[arg-type]
        (lambda: search(filters=[Between("price", "5")]), "the minimum of 'price' must be a number, not str '5'"),  # type: ignore[arg-type]
        (lambda: search(filters="color=red"), "filters must be a sequence of Equals, AnyOf, NoneOf or Between"),
        (lambda: search(filters={"color": "red"}), "a filter must be Equals, AnyOf, NoneOf or Between, not str"),
        (lambda: search(k="7"), "k must be a whole number, not str '7'"),
        (lambda: search(k=7.5), "k must be a whole number, not float 7.5"),
        (lambda: search(max_distance="near"), "max_distance must be a number, not str 'near'"),
        (lambda: search(exact="false"), "exact must be True or False, not str 'false'"),
        (lambda: search(category=7), "category must be a string, not int 7"),
        (lambda: search(product_id=7), "product_id must be a string, not int 7"),
        (lambda: requests.delete([7], ""), "ids[0] must be a string, not int 7"),  # type: ignore[list-item]
        (lambda: requests.delete(7, ""), "ids must be a sequence of ids, not int 7"),  # type: ignore[arg-type]
        (lambda: requests.get(7), "product_id must be a string, not int 7"),  # type: ignore[arg-type]
        (lambda: requests.page("Men", "all", ""), "page_size must be a whole number, not str 'all'"),  # type: ignore[arg-type]
        (lambda: requests.update_attributes("a", {"price": 9.9}, (), ""), "attributes['price'] must be a string"),  # type: ignore[dict-item]
        (lambda: requests.embed_item("ab"), "each of `images` must be a pair (id, image), not str 'ab'"),  # type: ignore[arg-type]
        (lambda: requests.embed_item((7, IMAGE)), "the id of an image must be a string, not int 7"),  # type: ignore[arg-type]
        (lambda: requests.embed(Cropped(IMAGE, Region("0", 0, 1, 1))), "left must be a number, not str '0'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_an_argument_of_the_wrong_type_is_named(call: Callable[[], object], words: str) -> None:
    """It is a TypeError with the argument, the value and the remedy, not protobuf's about a built-in operation."""
    with pytest.raises(TypeError) as caught:
        call()
    assert words in str(caught.value)
    assert "built-in" not in str(caught.value)


def test_one_filter_needs_no_list() -> None:
    """A filter alone is the same request as a list of that filter."""
    alone = search(filters=Equals("color", "red"))
    assert alone == search(filters=[Equals("color", "red")])
    assert alone.filters[0].equals == "red"


def test_text_that_is_not_unicode_is_named() -> None:
    """A name made of a file name that is not UTF-8 is a ValueError with the field and its escaped text."""
    with pytest.raises(ValueError, match=r"title of product 'a' is not valid Unicode: 'sho\\udce9'"):
        store(title="sho\udce9")


def test_numbers_of_other_libraries_are_numbers() -> None:
    """NumPy's scalars and Decimal are accepted where numbers are."""
    found = search(k=np.int64(7), max_distance=np.float32(0.5), filters=Between("price", Decimal("9.5")))  # type: ignore[arg-type]
    assert (found.k, found.max_distance, found.filters[0].range.minimum) == (7, 0.5, 9.5)
    assert not found.filters[0].range.HasField("maximum")
