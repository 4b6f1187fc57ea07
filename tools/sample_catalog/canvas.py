"""The canvas a product is drawn on: filled shapes with soft light, seams, folds and shadows.

Shapes are drawn three times larger and averaged down, which smooths every edge; light and shadow are added at the
final size, where blurring is cheap.
"""

import math
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter
from tools.sample_catalog.geometry import HEIGHT, WIDTH, Box, Placement, Point
from tools.sample_catalog.palette import BLACK, RGB, WHITE, ink, luminance
from tools.sample_catalog.patterns import Fabric, printed

SCALE = 3
"""The factor of the larger drawing, along each side."""

PAPER: RGB = (255, 255, 255)
SHADOW: RGB = (40, 40, 50)


class Part(NamedTuple):
    """The last filled shape: its bounding box in the image, and its alpha mask there."""

    box: Box
    alpha: Image.Image


class Canvas:
    """A white 240 x 320 image that is painted part by part, from back to front.

    Attributes:
        image: The image so far.
        placement: The transform of the next parts; may change between parts.
    """

    def __init__(self, placement: Placement) -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        self.placement = placement
        self._part = Part((0, 0, 1, 1), Image.new("L", (1, 1)))

    def fill(
        self,
        outline: list[Point],
        paint: Fabric | RGB,
        *,
        turn: float = 0,
        depth: float = 0.5,
        line: float = 1.1,
    ) -> None:
        """Paint a closed outline with light from the upper left, and draw its edge.

        Args:
            outline: The closed shape, in drawing units.
            paint: A fabric, or one color.
            turn: The clockwise rotation of the fabric's pattern in degrees.
            depth: The strength of the shade at the edges; 0 is flat.
            line: The width of the edge line; 0 draws none.
        """
        box = self._around(outline, 8)
        alpha = self._area(outline, box)
        color = paint.color if isinstance(paint, Fabric) else paint
        if isinstance(paint, Fabric) and paint.pattern != "plain":
            layer = printed(paint, self.placement, turn, box, SCALE).reduce(SCALE)
        else:
            layer = Image.new("RGB", alpha.size, color)
        if depth:
            _light(layer, alpha, depth * (0.6 if luminance(color) > 200 else 1.0))
        self.image.paste(layer, box, alpha)
        self._part = Part(box, alpha)
        if line:
            self.stroke([*outline, outline[0]], ink(color), line)

    def stroke(self, points: list[Point], color: RGB, width: float = 1.0, strength: float = 1.0) -> None:
        """Draw a line `width` units thick, at `strength` (0 to 1) of its color."""
        box = self._around(points, width)
        self.image.paste(color, box, self._line(points, box, width, strength))

    def stitch(self, points: list[Point], color: RGB, width: float = 1.0) -> None:
        """Draw a seam on the part filled last, clipped to it."""
        line = self._line(points, self._part.box, width, 0.75)
        self.image.paste(color, self._part.box, ImageChops.multiply(line, self._part.alpha))

    def fold(self, points: list[Point], width: float = 9, strength: float = 0.2, color: RGB = BLACK) -> None:
        """Draw a soft crease (or, in white, a highlight) on the part filled last."""
        line = self._line(points, self._part.box, width, strength)
        soft = line.filter(ImageFilter.GaussianBlur(width / 3))
        self.image.paste(color, self._part.box, ImageChops.multiply(soft, self._part.alpha))

    def shadow(self, outline: list[Point], blur: float = 6, strength: float = 0.28) -> None:
        """Draw the soft shadow of an outline on the image so far."""
        box = self._around(outline, blur * 3)
        soft = self._area(outline, box).filter(ImageFilter.GaussianBlur(blur))
        self.image.paste(SHADOW, box, soft.point([round(v * strength) for v in range(256)]))

    def centered(self, lower: float) -> Image.Image:
        """Return the image with the drawing centered vertically, then moved `lower` units down."""
        drawn = ImageChops.invert(self.image).getbbox()
        if drawn is None:
            return self.image
        moved = Image.new("RGB", self.image.size, PAPER)
        moved.paste(self.image, (0, round((HEIGHT - drawn[1] - drawn[3]) / 2 + lower)))
        return moved

    def _around(self, points: list[Point], margin: float) -> Box:
        placed = [self.placement.at(point) for point in points]
        xs, ys = [x for x, _ in placed], [y for _, y in placed]
        return (
            math.floor(min(xs) - margin),
            math.floor(min(ys) - margin),
            math.ceil(max(xs) + margin),
            math.ceil(max(ys) + margin),
        )

    def _area(self, outline: list[Point], box: Box) -> Image.Image:
        mask = _blank(box)
        ImageDraw.Draw(mask).polygon(self._pixels(outline, box), fill=255)
        return mask.reduce(SCALE)

    def _line(self, points: list[Point], box: Box, width: float, strength: float) -> Image.Image:
        mask = _blank(box)
        thick = max(1, round(width * SCALE))
        ImageDraw.Draw(mask).line(self._pixels(points, box), fill=round(255 * strength), width=thick, joint="curve")
        return mask.reduce(SCALE)

    def _pixels(self, points: list[Point], box: Box) -> list[Point]:
        placed = (self.placement.at(point) for point in points)
        return [((x - box[0]) * SCALE, (y - box[1]) * SCALE) for x, y in placed]


def _blank(box: Box) -> Image.Image:
    return Image.new("L", ((box[2] - box[0]) * SCALE, (box[3] - box[1]) * SCALE))


def _light(layer: Image.Image, alpha: Image.Image, depth: float) -> None:
    inner = alpha.filter(ImageFilter.GaussianBlur(9))
    shade = ImageChops.subtract(alpha, ImageChops.offset(inner, -5, -4))
    layer.paste(BLACK, mask=shade.point([round(v * depth) for v in range(256)]))
    glow = ImageChops.subtract(alpha, ImageChops.offset(inner, 6, 5))
    layer.paste(WHITE, mask=glow.point([round(v * depth * 0.28) for v in range(256)]))
