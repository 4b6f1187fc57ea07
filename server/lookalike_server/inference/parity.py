"""Whether a runtime computes the same embeddings as the reference: compared on sixteen real images.

Two runtimes, or two precisions of one, never agree in the last bit. What counts is that a catalog embedded by one can
be searched by the other. The images are real, because on noise all embeddings are alike, as they are by random weights.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from lookalike_server.domain.inference import EncodedImage, Floats, Parity, ParityBounds, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.image_decoding import ImageDecoder

_NEAREST = 10


def parity_images(decoder: ImageDecoder) -> Pixels:
    """Decode the images that are compared, as a caller's would be: uint8 [16, height, width, 3]."""
    folder = files("lookalike_server.inference") / "parity_images"
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(".jpg"))
    return np.stack([decoder.decode(EncodedImage((folder / name).read_bytes(), None, name)) for name in names])


def embed_in_batches(session: Session, images: Pixels, size: int) -> Floats:
    """Embed uint8 [n, height, width, 3], `size` at a time: float32 [n, dim]."""
    return np.concatenate([session.run(images[at : at + size]) for at in range(0, len(images), size)])


def measure_parity(expected: Floats, found: Floats, bounds: ParityBounds) -> Parity:
    """Compare embeddings of the same images, float32 [n, dim] each; values that are not finite are never equal."""
    if not np.isfinite(found).all():
        return Parity(-1.0, 0.0, within_bounds=False)
    a, b = expected.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # For vectors of equal length this is their cosine; euclidean distances also need the length to be right.
    cosines = 1.0 - ((a - b) ** 2).sum(axis=1) / (2.0 * np.maximum(lengths, np.finfo(np.float64).tiny))
    min_cosine = float(cosines.min())
    overlap = float(np.mean([len(x & y) / len(x) for x, y in zip(_nearest(a), _nearest(b), strict=True)]))
    within = min_cosine >= bounds.min_cosine and overlap >= bounds.min_overlap
    return Parity(min_cosine, overlap, within_bounds=within)


def _nearest(vectors: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[set[int]]:
    """Return the positions of the nearest others of each vector, by L2 distance (for length 1 as by cosine)."""
    distances = ((vectors[:, np.newaxis] - vectors[np.newaxis]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :_NEAREST]
    return [set(row.tolist()) for row in nearest]
