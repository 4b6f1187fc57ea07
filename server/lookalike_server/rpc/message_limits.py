"""What one request message of each method may have: bytes, and fields at all levels.

docs/errors.md has the same table. What the API promises fits: the limits of `rpc/v1/fields_from_pb.py` and
`rpc/v1/query_from_pb.py`, with room for what is too long by a little, so that the error says which field it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, MethodDescriptor

from lookalike.inference import inference_service_pb2
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, search_service_pb2

KIB, MIB = 1024, 1024 * 1024

SINGLE_IMAGE_BYTES = 36 * MIB
"""The pixels of one image of 12 megapixels (4096 x 3072), which is what cameras take."""
NAMES_BYTES = 64 * KIB
"""A few names of 256 bytes, or a page's token."""
LIST_BYTES = MIB
"""1,000 ids of 256 bytes take 260 KB; 64 attributes of 256 and 4,096 bytes take 280 KB."""

BULK_FIELDS = 128 * KIB
"""1,000 products of 64 attributes, and of 8 images of raw pixels with a region each, have 117,000 fields; a search with
64 filters of 1,000 values has 64,200."""
FEW_FIELDS = 16 * KIB
"""1,000 ids, or 1,000 image files; one product has 110 at most."""

_FILES = (catalog_service_pb2, embedding_service_pb2, search_service_pb2, inference_service_pb2)
_CATALOG, _EMBEDDING, _SEARCH, _INFERENCE = (
    "/lookalike.v1.CatalogService/",
    "/lookalike.v1.EmbeddingService/",
    "/lookalike.v1.SearchService/",
    "/inference.GRPCInferenceService/",
)


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """The limits of a request message of one method.

    Attributes:
        message: The message's type.
        max_bytes: The most bytes, after decompression; packed integers also count as they are in memory.
        max_fields: The most fields: values, entries of maps and sub-messages at all levels.
    """

    message: Descriptor
    max_bytes: int
    max_fields: int


def message_limits(max_message_bytes: int, max_image_bytes: int) -> Mapping[str, MessageLimits]:
    """Return the limits by full method name, as in `/lookalike.v1.SearchService/Search`; all of our methods have some.

    Args:
        max_message_bytes: The most bytes of any message; none has a higher limit.
        max_image_bytes: The most bytes of an image file.
    """
    single_image = max(SINGLE_IMAGE_BYTES, max_image_bytes) + LIST_BYTES
    table = {
        f"{_CATALOG}UpsertProducts": (max_message_bytes, BULK_FIELDS),
        f"{_CATALOG}ImportProducts": (max_message_bytes, FEW_FIELDS),  # eight images
        f"{_INFERENCE}ModelInfer": (max_message_bytes, FEW_FIELDS),
        f"{_EMBEDDING}Embed": (single_image, FEW_FIELDS),
        f"{_EMBEDDING}EmbedStream": (single_image, FEW_FIELDS),
        f"{_SEARCH}Search": (single_image, BULK_FIELDS),
        f"{_SEARCH}SearchStream": (single_image, BULK_FIELDS),
        f"{_CATALOG}UpdateAttributes": (LIST_BYTES, FEW_FIELDS),
        f"{_CATALOG}DeleteProducts": (LIST_BYTES, FEW_FIELDS),
        f"{_CATALOG}GetProduct": (NAMES_BYTES, FEW_FIELDS),
        f"{_CATALOG}GetImage": (NAMES_BYTES, FEW_FIELDS),
        f"{_CATALOG}ListProducts": (NAMES_BYTES, FEW_FIELDS),
        f"{_CATALOG}ExportProducts": (NAMES_BYTES, FEW_FIELDS),
        f"{_CATALOG}ListCategories": (NAMES_BYTES, FEW_FIELDS),
        f"{_EMBEDDING}GetModel": (NAMES_BYTES, FEW_FIELDS),
        f"{_INFERENCE}ServerLive": (NAMES_BYTES, FEW_FIELDS),
        f"{_INFERENCE}ServerReady": (NAMES_BYTES, FEW_FIELDS),
        f"{_INFERENCE}ModelReady": (NAMES_BYTES, FEW_FIELDS),
        f"{_INFERENCE}ServerMetadata": (NAMES_BYTES, FEW_FIELDS),
        f"{_INFERENCE}ModelMetadata": (NAMES_BYTES, FEW_FIELDS),
    }
    return {
        name: MessageLimits(method.input_type, min(table[name][0], max_message_bytes), table[name][1])
        for name, method in methods()
    }


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Yield our methods by full name."""
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method
