"""Requests of raw pixels, valid, nearly valid and not, and what two parsers make of them."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from lookalike.v1 import embedding_service_pb2 as pb
from lookalike.v1 import image_pb2
from lookalike.vector_codec import encode_varint
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import EncodedImage, RawImage
from lookalike_server.rpc.v1 import from_pb
from lookalike_server.rpc.v1.raw_image_wire import embed_request


def request(width: int, height: int, data: bytes) -> bytes:
    """Serialize a request with raw pixels."""
    raw = image_pb2.RawImage(width=width, height=height, data=data)
    return pb.EmbedRequest(image=image_pb2.Image(rgb=raw)).SerializeToString()


def outcome(data: bytes, *, generated: bool) -> object:
    """Read a request, by the generated parser alone or as the server does; return what is to be the same."""
    try:
        read = pb.EmbedRequest.FromString(data) if generated else embed_request(data)
        image = read if isinstance(read, RawImage) else from_pb.embed_image(read)
    except DecodeError:
        return "malformed"
    except LookalikeError as error:
        return str(error), error.field
    if isinstance(image, EncodedImage):
        return image
    return image.pixels.shape, image.pixels.dtype, image.pixels.tobytes(), image.region, image.field


SIZES = st.integers(0, 3) | st.integers(0, 2**33)
RAW = st.builds(
    lambda width, height, data: image_pb2.RawImage(width=width % 2**32, height=height % 2**32, data=data),
    SIZES,
    SIZES,
    st.integers(0, 27).map(bytes) | st.binary(max_size=30),
)
REGION = st.builds(image_pb2.Region, left=st.floats(0, 1), right=st.floats(0, 1), bottom=st.just(1.0))
IMAGE = st.one_of(
    st.builds(image_pb2.Image, rgb=RAW),
    st.builds(image_pb2.Image, rgb=RAW, region=REGION),
    st.builds(image_pb2.Image, encoded=st.binary(max_size=20)),
)
MESSAGE = st.builds(pb.EmbedRequest, image=IMAGE).map(pb.EmbedRequest.SerializeToString)
VALID = st.builds(
    lambda width, height: request(width, height, bytes(range(3 * width * height))), st.integers(1, 4), st.integers(1, 4)
)


@st.composite
def spliced(draw: st.DrawFn) -> bytes:
    """Draw a request with a few bytes cut out, and a few others put in."""
    data = draw(VALID | MESSAGE)
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 3)))
    return data[:start] + draw(st.binary(max_size=3)) + data[end:]


VARINT = st.integers(0, 40).map(encode_varint) | st.sampled_from([b"\x81\x00", b"\x83\x80\x00", b"\x80" * 4 + b"\x10"])


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Draw tags as they stand in a valid request, each with any varint after it, and any number of pixels."""
    return b"".join(bytes([tag]) + draw(VARINT) for tag in b"\x0a\x12\x08\x10\x1a") + draw(st.binary(max_size=30))


REQUESTS = MESSAGE | VALID | spliced() | headers() | st.binary(max_size=40)
