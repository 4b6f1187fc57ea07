"""Vectors of many products in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lookalike_server.domain.inference import Floats


def joined(vectors: Floats | Sequence[Floats]) -> Floats:
    """Copy vectors, float32 [dim] each and at least one, into one array: float32 [n, dim], read-only.

    As bytes: numpy would let go of the GIL for each vector, and wait to get it back.
    """
    parts: Any = vectors
    return np.frombuffer(b"".join(parts), dtype=np.float32).reshape(len(vectors), -1)
