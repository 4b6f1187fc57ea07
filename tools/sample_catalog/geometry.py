"""Outlines in drawing units (a 240 x 320 canvas, y downwards), and their placement on the canvas."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

WIDTH, HEIGHT = 240, 320

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[int, int, int, int]
Step: TypeAlias = Point | tuple[float, float, float, float]


@dataclass(frozen=True)
class Placement:
    """The transform of a drawing: scaled, rotated about the center, then moved.

    Attributes:
        stretch: The horizontal and vertical scale.
        degrees: The clockwise rotation.
        shift: The movement in drawing units.
    """

    stretch: Point = (1.0, 1.0)
    degrees: float = 0.0
    shift: Point = (0.0, 0.0)

    @cached_property
    def _matrix(self) -> tuple[float, float, float, float, float, float]:
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        (wide, tall), (x0, y0) = self.stretch, (WIDTH / 2, HEIGHT / 2)
        a, b, c, d = wide * cos, -tall * sin, wide * sin, tall * cos
        return a, b, x0 + self.shift[0] - a * x0 - b * y0, c, d, y0 + self.shift[1] - c * x0 - d * y0

    def at(self, point: Point) -> Point:
        """Transform a point of the drawing to the canvas."""
        a, b, left, c, d, top = self._matrix
        x, y = point
        return a * x + b * y + left, c * x + d * y + top

    def moved(self, x: float, y: float) -> "Placement":
        """Return the placement moved by `x` and `y` units."""
        return replace(self, shift=(self.shift[0] + x, self.shift[1] + y))


def path(*steps: Step) -> list[Point]:
    """Build a polyline through the steps.

    Args:
        steps: (x, y) is a line to that point; (cx, cy, x, y) is a quadratic curve with control point (cx, cy).
    """
    points: list[Point] = []
    for step in steps:
        if len(step) == 2:
            points.append(step)
            continue
        cx, cy, x, y = step
        x0, y0 = points[-1]
        for i in range(1, 13):
            t = i / 12
            u = 1 - t
            points.append((u * u * x0 + 2 * u * t * cx + t * t * x, u * u * y0 + 2 * u * t * cy + t * t * y))
    return points


def mirror(points: Iterable[Point]) -> list[Point]:
    """Mirror the points at the vertical center line."""
    return [(WIDTH - x, y) for x, y in points]


def symmetric(*steps: Step) -> list[Point]:
    """Build a closed outline from its right half, given from the top center to the bottom center."""
    half = path(*steps)
    return half + mirror(reversed(half))


def ellipse(x: float, y: float, rx: float, ry: float) -> list[Point]:
    """Build a closed outline of an ellipse around (x, y)."""
    turns = (math.tau * i / 28 for i in range(28))
    return [(x + rx * math.cos(t), y + ry * math.sin(t)) for t in turns]
