"""What goes into a graph and what comes out of it, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The images a graph takes (sizes in pixels), and how the server makes them.

    Attributes:
        height: Rows.
        width: Columns.
        resize: `bilinear` or `nearest`.
        layout: Of a batch.
        dtype: Of a sample.
        color: The order of the channels.
        color_management: `srgb`: colors are converted to sRGB by an image's embedded profile; `none`: it is ignored.
    """

    height: int
    width: int
    resize: str
    layout: str = "NHWC"
    dtype: str = "uint8"
    color: str = "RGB"
    color_management: str = "none"


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The embeddings: dimensions, pooling (`avg`, `max`, `flatten` or `model`), metric, and whether of length 1."""

    dim: int
    pooling: str
    metric: str
    normalized: bool


def digest_properties(images: InputSpec, embeddings: OutputSpec, preprocess: str) -> dict[str, str]:
    """Return what changes an embedding or its use but may leave the graph as it is, for the graph's metadata.

    The digest of the graph's file identifies the model everywhere: with these inside, a model whose images are
    resized in another way is another model. That is why the keys keep the spelling of the first exports: another
    one would give every model a new digest, and catalogs would have to embed all their images again.
    """
    # Models from before there was color management ignore profiles, and keep their digests.
    managed = {} if images.color_management == "none" else {"lookalike.color_management": images.color_management}
    return managed | {
        "lookalike.height": str(images.height),
        "lookalike.width": str(images.width),
        "lookalike.layout": images.layout,
        "lookalike.colour": images.color,  # codespell:ignore
        "lookalike.resize": images.resize,
        "lookalike.preprocess": preprocess,
        "lookalike.pooling": embeddings.pooling,
        "lookalike.metric": embeddings.metric,
        "lookalike.normalised": str(embeddings.normalized).lower(),  # codespell:ignore
    }
