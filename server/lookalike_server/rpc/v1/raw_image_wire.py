"""An EmbedRequest of raw pixels, read from its wire format: the pixels stay where they were received.

The generated parser copies them into its message, and `RawImage.data` copies them once more: 300 KB for an image of
224 x 224. What is read here is the message as every serializer writes it, fields in the order of their numbers and no
others; all else is left to the generated parser, above all whatever is an error.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from lookalike.v1 import embedding_service_pb2
from lookalike.vector_codec import decode_varint
from lookalike_server.domain.inference import RawImage

_VARINT = rb"[\x80-\xff]{0,3}[\x00-\x7f]"
_HEADER = re.compile(
    # EmbedRequest.image, Image.rgb, RawImage.width, .height, .data: each tag, and the varint after it
    b"".join(re.escape(tag) + _VARINT for tag in (b"\x0a", b"\x12", b"\x08", b"\x10", b"\x1a")),
    re.DOTALL,
)


def embed_request(data: bytes) -> RawImage | embedding_service_pb2.EmbedRequest:
    """Read an EmbedRequest: an image of raw pixels without a region as such, everything else as the message.

    Raises:
        DecodeError: The bytes are no EmbedRequest.
    """
    header = _HEADER.match(data)
    size = _image_size(header.group(), len(data)) if header else None
    if header is None or size is None:
        return embedding_service_pb2.EmbedRequest.FromString(data)
    return RawImage(np.ndarray((*size, 3), np.uint8, data, header.end()), None, "image.rgb")


@lru_cache(256)  # callers send images of few sizes
def _image_size(header: bytes, total: int) -> tuple[int, int] | None:
    """Return height and width where this header is followed by just the pixels in a message of `total` bytes."""
    position, rest = 0, []
    values = []
    for _ in range(5):
        value, position = decode_varint(header, position + 1)
        values.append(value)
        rest.append(total - position)
    image, rgb, width, height, data = values
    if (image, rgb, data) != (rest[0], rest[1], rest[4]) or 0 in (width, height) or data != 3 * width * height:
        return None
    return height, width
