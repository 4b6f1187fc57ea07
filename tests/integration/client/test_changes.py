"""Changing attributes, reading images back, and naming requests; with `Client` and with `AsyncClient`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from grpc import StatusCode

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike_client import LookalikeError, Product, ProductInput, StoredImage
from support.fake_rejections import Rejection
from support.fake_server import FakeServer
from support.fake_state import DIM, image_file

Ask = Callable[..., Any]


def test_attributes_are_changed_and_cleared(ask: Ask, fake: FakeServer) -> None:
    """`update_attributes` gives the product afterwards: new values in, cleared ones gone, the others as they were."""
    fake.put("a", title="Shoe", attributes={"color": "red", "price": "5", "season": "old"})
    product = ask("update_attributes", "a", {"price": "7", "stock": "3"}, clear=["season"])
    assert product == Product("a", "Men", "Shoe", "", {"color": "red", "price": "7", "stock": "3"})
    assert ask("get", "a").product == product


def test_attributes_are_set_and_cleared(ask: Ask, fake: FakeServer) -> None:
    """Names are sent unchanged, dots and capitals included."""
    fake.put("a")
    ask("update_attributes", "a", {"inStock": "yes", "net.price": "7"}, clear=("season",), idempotency_key="r1")
    assert fake.requests("UpdateAttributes") == [
        pb.UpdateAttributesRequest(
            id="a",
            attributes={"inStock": "yes", "net.price": "7"},
            clear=["season"],
            idempotency_key="r1",
        )
    ]


@pytest.mark.parametrize(
    ("clear", "kind", "message"),
    [
        ("color", TypeError, "clear must be a sequence of names, not one string"),
        (["price"], ValueError, "'price' cannot both be given a value and be cleared"),
    ],
)
def test_a_change_that_contradicts_itself_is_not_sent(
    ask: Ask, fake: FakeServer, clear: Any, kind: type[Exception], message: str
) -> None:
    """One string for the names, or an attribute both set and cleared, is rejected here."""
    with pytest.raises(kind, match=message):
        ask("update_attributes", "a", {"price": "7"}, clear=clear)
    assert not fake.calls


@pytest.mark.parametrize(("method", "arguments"), [("update_attributes", ({"price": "7"},)), ("image", ())])
def test_an_unknown_product_is_not_found(ask: Ask, method: str, arguments: tuple[Any, ...]) -> None:
    """Attributes and images of an id that is not there raise with code NOT_FOUND."""
    with pytest.raises(LookalikeError, match="NOT_FOUND: no product 'x'") as caught:
        ask(method, "x", *arguments)
    assert caught.value.code is StatusCode.NOT_FOUND


def test_a_image_comes_back_as_it_was_sent(ask: Ask) -> None:
    """`image` gives the first image unless told otherwise, byte for byte, and prints briefly."""
    ask("upsert", [ProductInput("a", "Men", images=[image_file("front"), image_file("back")])])
    digest = hashlib.sha256(image_file("front")).hexdigest()
    front = ask("image", "a")
    assert front == StoredImage(image_file("front"), "image/jpeg", digest)
    assert repr(front) == f"<StoredImage image/jpeg, 7 bytes, sha256 {digest[:12]}>"
    assert ask("image", "a", 1).data == image_file("back")


def test_a_image_that_is_not_kept_is_not_found(ask: Ask) -> None:
    """A product that came with a vector has no image to give."""
    ask("upsert", [ProductInput("a", "Men", vectors=[[1.0] * DIM])])
    with pytest.raises(LookalikeError, match="NOT_FOUND: no image 'a/0'"):
        ask("image", "a")


def test_a_negative_index_is_a_value_error(ask: Ask, fake: FakeServer) -> None:
    """Images are counted from 0; nothing is sent for one before the first."""
    with pytest.raises(ValueError, match="-1"):
        ask("image", "a", -1)
    assert not fake.calls


def test_requests_have_names_where_they_are_given(ask: Ask, fake: FakeServer) -> None:
    """`request_id` of an upsert and a delete is sent, and nothing without one."""
    for name in ("r1", ""):
        ask("upsert", [ProductInput("a", "Men", images=[image_file("a")])], request_id=name)
        ask("delete", ["a"], request_id=name)
    ask("delete", ["a"])
    sent: list[Any] = [*fake.requests("UpsertProducts"), *fake.requests("DeleteProducts")]
    assert [each.idempotency_key for each in sent] == ["r1", "", "r1", "", ""]


def test_a_change_is_retried_under_its_name(ask: Ask, fake: FakeServer) -> None:
    """A server that is away is asked again for the same change, with the same name."""
    fake.put("a")
    fake.rejections = [Rejection(StatusCode.UNAVAILABLE, pushback_ms=1)]
    ask("update_attributes", "a", {"price": "7"}, idempotency_key="r1")
    first, second = fake.requests("UpdateAttributes")
    assert first == second
