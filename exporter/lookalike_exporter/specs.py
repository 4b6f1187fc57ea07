"""What goes into a graph and what comes out of it, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The images a graph takes (sizes in pixels), and how the server resizes to them: `bilinear` or `nearest`."""

    height: int
    width: int
    resize: str
    layout: str = "NHWC"
    dtype: str = "uint8"
    color: str = "RGB"


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
    return {
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
