"""Fabrics: two colors and a pattern, printed on the bounding box of a part of a garment."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from PIL import Image, ImageDraw
from tools.sample_catalog.geometry import HEIGHT, WIDTH, Box, Placement, Point, ellipse
from tools.sample_catalog.palette import BLACK, COLORS, RGB, contrast, dyed, ink, mix

Pattern: TypeAlias = Literal["plain", "horizontal stripes", "vertical stripes", "dots", "checks", "color-block"]

PITCH: dict[Pattern, float] = {"horizontal stripes": 23, "vertical stripes": 17, "dots": 21, "checks": 24}
REACH = 260.0
"""Half the side of the printed square: enough to cover the canvas at any rotation."""


@dataclass(frozen=True)
class Fabric:
    """The material of a garment.

    Attributes:
        color: The main color.
        accent: The second color of the pattern.
        pattern: The pattern.
        pitch: The distance between repeats, in drawing units.
        phase: The offset of the first repeat, in drawing units.
    """

    color: RGB
    accent: RGB
    pattern: Pattern
    pitch: float
    phase: float

    @property
    def ink(self) -> RGB:
        """The color of the seams and outlines."""
        return ink(self.color)


def woven(color: str, pattern: Pattern, rng: Random) -> Fabric:
    """Make a fabric with a random variation of color and pitch."""
    dye = dyed(color, rng)
    pitch = PITCH.get(pattern, 24) * rng.uniform(0.88, 1.14)
    return Fabric(dye, contrast(dye), pattern, pitch, rng.uniform(-0.5, 0.5) * pitch)


class Press:
    """Prints the part of a pattern that lies in one box; the pattern's origin is the center of the drawing.

    Attributes:
        sheet: The printed box, `scale` pixels per unit.
    """

    def __init__(self, ground: RGB, placement: Placement, turn: float, box: Box, scale: int) -> None:
        left, top, right, bottom = box
        self.sheet = Image.new("RGB", ((right - left) * scale, (bottom - top) * scale), ground)
        self._draw = ImageDraw.Draw(self.sheet)
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        middle = (WIDTH / 2, HEIGHT / 2)
        x0, y0 = placement.at(middle)
        along = placement.at((middle[0] + cos, middle[1] + sin))
        down = placement.at((middle[0] - sin, middle[1] + cos))
        self._origin = ((x0 - left) * scale, (y0 - top) * scale)
        self._along = ((along[0] - x0) * scale, (along[1] - y0) * scale)
        self._down = ((down[0] - x0) * scale, (down[1] - y0) * scale)

    def fill(self, outline: list[Point], color: RGB) -> None:
        """Print a closed shape."""
        self._draw.polygon([self._at(point) for point in outline], fill=color)

    def reaches(self, point: Point, around: float) -> bool:
        """Return whether a shape within `around` units of a point can overlap the printed box."""
        x, y = self._at(point)
        margin = around * max(math.hypot(*self._along), math.hypot(*self._down))
        return -margin < x < self.sheet.width + margin and -margin < y < self.sheet.height + margin

    def _at(self, point: Point) -> Point:
        x, y = point
        return (
            self._origin[0] + x * self._along[0] + y * self._down[0],
            self._origin[1] + x * self._along[1] + y * self._down[1],
        )


def printed(fabric: Fabric, placement: Placement, turn: float, box: Box, scale: int) -> Image.Image:
    """Return a box of the image covered in the fabric.

    Args:
        fabric: The fabric to print.
        placement: The garment's, so that the pattern is transformed with it.
        turn: Extra clockwise rotation in degrees, for parts such as sleeves.
        box: The part of the image, in its pixels.
        scale: The factor of the larger drawing.
    """
    press = Press(fabric.color, placement, turn, box, scale)
    PRINTS[fabric.pattern](fabric, press)
    return press.sheet


def _repeats(fabric: Fabric) -> Iterator[float]:
    count = math.ceil(REACH / fabric.pitch)
    return (i * fabric.pitch + fabric.phase for i in range(-count, count + 1))


def _row(top: float, bottom: float) -> list[Point]:
    return [(-REACH, top), (REACH, top), (REACH, bottom), (-REACH, bottom)]


def _column(left: float, right: float) -> list[Point]:
    return [(left, -REACH), (right, -REACH), (right, REACH), (left, REACH)]


def _plain(_fabric: Fabric, _press: Press) -> None:
    return


def _horizontal(fabric: Fabric, press: Press) -> None:
    for y in _repeats(fabric):
        press.fill(_row(y, y + fabric.pitch * 0.45), fabric.accent)


def _vertical(fabric: Fabric, press: Press) -> None:
    for x in _repeats(fabric):
        press.fill(_column(x, x + fabric.pitch * 0.42), fabric.accent)


def _dots(fabric: Fabric, press: Press) -> None:
    radius = fabric.pitch / 4.4
    for row, y in enumerate(_repeats(fabric)):
        # every second row is offset by half a pitch, as on printed cloth
        sideways = (row % 2) * fabric.pitch / 2
        for x in _repeats(fabric):
            if press.reaches((x + sideways, y), radius):
                press.fill(ellipse(x + sideways, y, radius, radius), fabric.accent)


def _checks(fabric: Fabric, press: Press) -> None:
    half = fabric.pitch / 2
    single = mix(fabric.accent, fabric.color, 0.55)
    press.fill(_row(-REACH, REACH), fabric.accent)
    for start in _repeats(fabric):
        press.fill(_row(start, start + half), single)
        press.fill(_column(start, start + half), single)
    for x in _repeats(fabric):
        for y in _repeats(fabric):
            if press.reaches((x, y), fabric.pitch):
                press.fill([(x, y), (x + half, y), (x + half, y + half), (x, y + half)], fabric.color)


def _color_block(fabric: Fabric, press: Press) -> None:
    top = -12 + fabric.phase / 3
    warm = fabric.color[0] > fabric.color[2] + 60
    # darkened yellow and orange look muddy, so warm colors are paired with navy
    foot = COLORS["navy"] if warm else mix(fabric.color, BLACK, 0.45)
    press.fill(_row(top, top + 34), fabric.accent)
    press.fill(_row(top + 34, REACH), foot)


PRINTS: dict[Pattern, Callable[[Fabric, Press], None]] = {
    "plain": _plain,
    "horizontal stripes": _horizontal,
    "vertical stripes": _vertical,
    "dots": _dots,
    "checks": _checks,
    "color-block": _color_block,
}
