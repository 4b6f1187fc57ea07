"""The named colours of the sample catalogue and the few ways they are mixed."""

from random import Random
from typing import TypeAlias

RGB: TypeAlias = tuple[int, int, int]

WHITE: RGB = (250, 250, 248)
BLACK: RGB = (0, 0, 0)

COLOURS: dict[str, RGB] = {
    "white": (244, 243, 239),
    "black": (38, 38, 42),
    "grey": (146, 150, 156),
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
    """The colour that lies `share` (0 to 1) of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def luminance(colour: RGB) -> float:
    """How bright a colour looks, 0 to 255 (Rec. 601 weights)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def ink(colour: RGB) -> RGB:
    """A colour for seams and outlines that still shows on `colour`."""
    if luminance(colour) < 60:
        return mix(colour, WHITE, 0.30)
    return mix(colour, BLACK, 0.38)


def contrast(colour: RGB) -> RGB:
    """The second colour of a pattern: white, or navy where the first is nearly white."""
    return COLOURS["navy"] if luminance(colour) > 225 else WHITE


def dyed(name: str, rng: Random) -> RGB:
    """A named colour as one dye batch gives it: slightly lighter or darker, slightly off hue."""
    lift = rng.uniform(-9, 9)
    red, green, blue = (min(255, max(0, round(c + lift + rng.uniform(-5, 5)))) for c in COLOURS[name])
    return red, green, blue
