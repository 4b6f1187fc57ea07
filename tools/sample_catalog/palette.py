"""The named colors of the sample catalog, and how they are mixed."""

from random import Random
from typing import TypeAlias

RGB: TypeAlias = tuple[int, int, int]

WHITE: RGB = (250, 250, 248)
BLACK: RGB = (0, 0, 0)

COLORS: dict[str, RGB] = {
    "white": (244, 243, 239),
    "black": (38, 38, 42),
    "gray": (146, 150, 156),
    "red": (204, 36, 44),
    "pink": (240, 142, 172),
    "orange": (238, 124, 38),
    "yellow": (246, 204, 62),
    "green": (48, 132, 76),
    "teal": (28, 146, 150),
    "blue": (64, 128, 208),
    "navy": (34, 48, 98),
    "purple": (122, 74, 158),
    "brown": (124, 78, 46),
    "beige": (216, 192, 156),
}


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Blend two colors: `share` 0 is `first`, 1 is `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def luminance(color: RGB) -> float:
    """Return the luma of a color, 0 to 255 (Rec. 601 weights)."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def ink(color: RGB) -> RGB:
    """Return a color for seams and outlines that is visible on `color`."""
    if luminance(color) < 60:
        return mix(color, WHITE, 0.30)
    return mix(color, BLACK, 0.38)


def contrast(color: RGB) -> RGB:
    """Return the second color of a pattern: white, or navy if the first is nearly white."""
    return COLORS["navy"] if luminance(color) > 225 else WHITE


def dyed(name: str, rng: Random) -> RGB:
    """Return a random variation of a named color: slightly lighter or darker, slightly off hue."""
    lift = rng.uniform(-9, 9)
    red, green, blue = (min(255, max(0, round(c + lift + rng.uniform(-5, 5)))) for c in COLORS[name])
    return red, green, blue
