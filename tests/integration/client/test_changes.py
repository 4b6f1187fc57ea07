"""Changing attributes, reading images, and idempotency keys; with `Client` and with `AsyncClient`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from grpc import StatusCode

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike_client import Client, LookalikeError, Product, ProductInput, StoredImage
from support.arrays import DIM
from support.catalogs import image_file, put
from support.scripted_server import Rejection, ScriptedServer

Call = Callable[..., Any]


def test_attributes_are_changed_and_cleared(call: Call, real: Client) -> None:
    """`update_attributes` gives the product afterwards: new values in, cleared ones gone, the others as they were."""
    put(real, "a", title="Shoe", attributes={"color": "red", "price": "5", "season": "old"})
    product = call("update_attributes", "a", {"price": "7", "stock": "3"}, clear=["season"])
    assert product == Product("a", "Men", "Shoe", "", {"color": "red", "price": "7", "stock": "3"})
    assert call("get", "a").product == product


def test_attributes_are_set_and_cleared(call: Call, server: ScriptedServer, real: Client) -> None:
    """Names are sent unchanged, dots and capitals included."""
    put(real, "a")
    call("update_attributes", "a", {"inStock": "yes", "net.price": "7"}, clear=("season",), idempotency_key="r1")
    assert server.requests("UpdateAttributes") == [
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
        (["price"], ValueError, "'price' cannot be both set and cleared"),
    ],
)
def test_a_change_that_contradicts_itself_is_not_sent(
    call: Call, server: ScriptedServer, clear: Any, kind: type[Exception], message: str
) -> None:
    """One string for the names, or an attribute both set and cleared, is rejected here."""
    with pytest.raises(kind, match=message):
        call("update_attributes", "a", {"price": "7"}, clear=clear)
    assert not server.calls


@pytest.mark.parametrize(("method", "arguments"), [("update_attributes", ({"price": "7"},)), ("image", ())])
def test_an_unknown_product_is_not_found(call: Call, method: str, arguments: tuple[Any, ...]) -> None:
    """Attributes and images of an id that is not there raise with code NOT_FOUND."""
    with pytest.raises(LookalikeError, match="NOT_FOUND: no product 'x'") as caught:
        call(method, "x", *arguments)
    assert caught.value.code is StatusCode.NOT_FOUND


def test_an_image_comes_back_as_it_was_sent(call: Call) -> None:
    """`image` gives the first image by default, byte for byte, and prints briefly."""
    call("upsert", [ProductInput("a", "Men", images=[image_file("front"), image_file("back")])])
    digest = hashlib.sha256(image_file("front")).hexdigest()
    front = call("image", "a")
    assert front == StoredImage(image_file("front"), "image/png", digest)
    assert repr(front) == f"<StoredImage image/png, {len(front.data)} bytes, sha256 {digest[:12]}>"
    assert call("image", "a", 1).data == image_file("back")


def test_an_image_that_is_not_kept_is_not_found(call: Call) -> None:
    """A product that came with a vector has no image to give."""
    call("upsert", [ProductInput("a", "Men", vectors=[[1.0] * DIM])])
    with pytest.raises(LookalikeError, match="NOT_FOUND: no image 'a/0'"):
        call("image", "a")


def test_a_negative_index_is_a_value_error(call: Call, server: ScriptedServer) -> None:
    """Images are counted from 0; nothing is sent for one before the first."""
    with pytest.raises(ValueError, match="-1"):
        call("image", "a", -1)
    assert not server.calls


def test_idempotency_keys_are_sent_where_they_are_given(call: Call, server: ScriptedServer) -> None:
    """`idempotency_key` of an upsert and a delete is sent, and nothing without one."""
    for name in ("r1", ""):
        call("upsert", [ProductInput("a", "Men", images=[image_file("a")])], idempotency_key=name)
        call("delete", ["a"], idempotency_key=name)
    call("delete", ["a"])
    sent: list[Any] = [*server.requests("UpsertProducts"), *server.requests("DeleteProducts")]
    assert [each.idempotency_key for each in sent] == ["r1", "", "r1", "", ""]


def test_a_change_is_retried_under_its_key(call: Call, server: ScriptedServer, real: Client) -> None:
    """A change that an unavailable server rejects is retried with the same key."""
    put(real, "a")
    server.rejections = [Rejection(StatusCode.UNAVAILABLE, pushback_ms=1)]
    call("update_attributes", "a", {"price": "7"}, idempotency_key="r1")
    first, second = server.requests("UpdateAttributes")
    assert first == second
