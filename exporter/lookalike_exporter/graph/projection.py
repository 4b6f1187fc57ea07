"""A linear projection of embeddings to fewer dimensions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Embeddings = np.ndarray[Any, np.dtype[np.float32]]
"""[N, dim] float32."""


@dataclass(frozen=True, slots=True)
class Projection:
    """(x - mean) @ basis, each direction divided by its standard deviation where it is whitened.

    Attributes:
        basis: [input dim, dim] float32, the directions, scaled where whitened.
        offset: [dim] float32, -mean @ basis; zero where not centered.
        centered: Whether the mean was subtracted.
        whitened: Whether directions have equal variance.
        images: How many images it was fitted to.
        energy: The share of the squared length (of the variance, where centered) that is kept, 0 to 1.
    """

    basis: Embeddings
    offset: Embeddings
    centered: bool
    whitened: bool
    images: int
    energy: float
