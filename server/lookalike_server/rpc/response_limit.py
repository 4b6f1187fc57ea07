"""Responses and the message limit: lists end before it, and what cannot be cut is an error that says what to ask for.

gRPC's own error says neither which response was too large nor what to do. Measuring a message costs as much as
serializing it (3 us for ten products, 0.5 ms for a thousand), so it is done only where a bound that costs less leaves
room for doubt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf.message import Message

from lookalike_server.domain.catalog import MAX_ATTRIBUTES, Product
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.v1.fields_from_pb import MAX_NAME_BYTES, MAX_TEXT_BYTES

ENVELOPE_BYTES = 1024
"""Bytes of a response besides its items, at most: stats, a page token, lengths."""

_ATTRIBUTE_BYTES = MAX_NAME_BYTES + MAX_TEXT_BYTES + 16  # with tags and lengths, at most
_OTHER_BYTES = 2 * (MAX_NAME_BYTES + MAX_TEXT_BYTES) + 128  # of a product, or of a neighbor with it, at most

MAX_PRODUCT_BYTES = _OTHER_BYTES + MAX_ATTRIBUTES * _ATTRIBUTE_BYTES
"""Bytes of a product in a message, at most: about 280 KB."""

_ITEM_BYTES = 6  # an item's tag and length in its list

M = TypeVar("M", bound=Message)


def most_bytes(products: Iterable[Product]) -> int:
    """Bound the bytes of products in a message by their numbers of attributes, which is cheap."""
    return sum(_OTHER_BYTES + len(product.attributes) * _ATTRIBUTE_BYTES for product in products)


def extend_within(
    items: Any, messages: Iterable[Message], max_bytes: int, *, at_most: int, at_least_one: bool = False
) -> bool:
    """Append messages to a repeated field, in order, as long as they fit; return whether all did.

    Those after the first that does not fit are not even made, where `messages` makes them one by one.

    Args:
        items: The repeated field of a response that has nothing else of size.
        messages: What to append.
        max_bytes: The largest response.
        at_most: The bytes that all messages have at most; if so many fit, none is measured.
        at_least_one: Whether the first is appended in any case.
    """
    room = max_bytes - ENVELOPE_BYTES
    if at_most <= room:
        items.extend(messages)
        return True
    for message in messages:
        room -= message.ByteSize() + _ITEM_BYTES
        if room < 0 and (items or not at_least_one):
            return False
        items.append(message)
    return True


def check_size(response: M, max_bytes: int, what: str, *, at_most: int) -> M:
    """Return the response if it fits.

    Args:
        response: The response.
        max_bytes: The largest response.
        what: What it holds, as in "the image", for the error.
        at_most: The bytes that it has at most; if so many fit, it is not measured.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it does not: only a setting of the server can change that.
    """
    if at_most > max_bytes and (size := response.ByteSize()) > max_bytes:
        raise over_limit(f"the response with {what}", size, max_bytes)
    return response


def over_limit(response: str, size: int, max_bytes: int) -> LookalikeError:
    """FAILED_PRECONDITION: a response is too large, which only a setting of the server can change."""
    return LookalikeError(
        Code.FAILED_PRECONDITION,
        f"{response} would have {size} bytes, over this server's limit of {max_bytes}; raise its setting"
        " max_message_bytes",
    )
