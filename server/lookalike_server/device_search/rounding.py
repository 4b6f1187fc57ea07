"""How far the device's scores can be from the distances that `measure` returns.

The device rounds a row x and a query q to half precision, x' and q', and computes fl(x'.q' - 1), the cosine distance's
negative. With u = 2^-11, half precision's unit roundoff, the parts of the error are:

1. Rounding the vectors: |x.q - x'.q'| <= |x - x'| |q| + |x'| |q - q'| by Cauchy and Schwarz. Both lengths are measured
   when vectors are rounded: at most u each for unit vectors, and about 2e-4 in practice.
2. The sum in float32. A product of two halves is exact in float32. NVIDIA's tensor cores align b products and the sum
   so far to the largest exponent and truncate them (Fasi et al., "Numerical behavior of NVIDIA tensor cores", PeerJ
   Computer Science 7:e330, 2021): b + 2 errors of at most 2^-23 of the largest magnitude for each b terms, where b >= 4
   since Turing, so 1.5 dim of them. No partial sum is longer than 1 + |x'| |q'|, the 1 for what is added. Rounded sums
   in any order, as on a CPU, have smaller errors.
3. Rounding the result to half precision: u of its magnitude, or 2^-25 where it is subnormal.
4. `measure` divides by the lengths, which are 1 but for the rounding of float32: measured here as well. A row of zeros
   has the score -1 and the distance 1.
5. `measure` rounds to float32: 2^-24 of at most 2.

Parts 1, 2, 4 and 5 do not depend on the score: they are `errors`. Part 3 is `ROUNDING` of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats

Doubles = npt.NDArray[np.float64]
Halves = npt.NDArray[np.float16]

ROUNDING = 2.0**-11 / (1.0 - 2.0**-11)
"""By how much of a score, float16, it may differ from what was rounded."""

_TRUNCATION = 2.0**-23  # of a term in float32
_TERMS = 1.5  # truncated ones for each dimension
_CONSTANT = 2.0**-22  # the distance's rounding to float32, a subnormal score's to half precision, float64's here


@dataclass(frozen=True, slots=True)
class RowErrors:
    """The largest errors of some rows.

    Attributes:
        residual: The length of a row's difference to the row that the device has.
        stretch: The difference of a row's length to 1; rows of zeros are left out.
    """

    residual: float = 0.0
    stretch: float = 0.0

    @classmethod
    def of(cls, vectors: Floats, halves: Halves) -> RowErrors:
        """Measure rows, float32 [n, dim] with n >= 1, against what the device has of them, float16 [n, dim]."""
        residuals, stretches = _lengths(vectors, halves)
        return cls(float(residuals.max()), float(stretches.max()))

    def with_rows(self, other: RowErrors) -> RowErrors:
        """Return the errors of both."""
        return RowErrors(max(self.residual, other.residual), max(self.stretch, other.stretch))

    def of_queries(self, queries: Floats, halves: Halves) -> Doubles:
        """Return by how much a score may differ from the distance, but for the score's own rounding: float64 [q].

        Args:
            queries: float32 [q, dim].
            halves: float16 [q, dim], what the device has of them.
        """
        residuals, stretches = _lengths(queries, halves)
        row, query = 1.0 + self.stretch, 1.0 + stretches
        row_half, query_half = row + self.residual, query + residuals
        rounding = self.residual * query + row_half * residuals
        terms = queries.shape[1] + 16  # a last block of products may be filled up with zeros
        sums = _TERMS * terms * _TRUNCATION * (1.0 + row_half * query_half)
        errors: Doubles = rounding + sums + row * query - 1.0 + _CONSTANT
        return errors


def _lengths(vectors: Floats, halves: Halves) -> tuple[Doubles, Doubles]:
    """Return how long each row's residual is, and by how much its own length differs from 1: float64 [n] each."""
    # Sums in float32, whose own rounding is added: widening the rows would take three times as long.
    slack = 1.0 + 2.0 * vectors.shape[1] * 2.0**-24
    residuals = vectors - halves  # exact: both are multiples of the smaller one's last place
    of_residuals = np.sqrt(np.einsum("ij,ij->i", residuals, residuals).astype(np.float64))
    lengths = np.sqrt(np.vecdot(vectors, vectors, dtype=np.float64))
    stretches = np.where(lengths > 0, np.abs(lengths - 1.0), 0.0)
    return slack * of_residuals, stretches
