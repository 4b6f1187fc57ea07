"""Garments for the upper body, seen from the front, laid flat."""

import math
from random import Random

from tools.sample_catalog.canvas import Canvas
from tools.sample_catalog.geometry import Point, Step, ellipse, mirror, path, symmetric
from tools.sample_catalog.palette import BLACK, WHITE, contrast, mix
from tools.sample_catalog.patterns import Fabric


def sleeves(canvas: Canvas, fabric: Fabric, length: float, degrees: float, cuff: float, rib: float = 0) -> None:
    """Draw two sleeves that hang from the shoulders.

    Args:
        canvas: The canvas to draw on.
        fabric: Their fabric; its pattern is rotated with them.
        length: From shoulder to cuff.
        degrees: Their angle from the vertical.
        cuff: The width of the opening.
        rib: The height of a plain knitted cuff; 0 for a hem.
    """
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    outer = (168 + length * sin, 68 + length * cos)
    inner = (outer[0] - cuff * cos, outer[1] + cuff * sin)
    right = path((144, 56), (160, 58, 168, 68), outer, inner, (166, 130), (150, 118))

    def inwards(point: Point, by: float) -> Point:
        return point[0] - by * sin, point[1] - by * cos

    band = [inwards(outer, rib or 5), inwards(inner, rib or 5)]
    crease = path((166, 122), ((166 + inner[0]) / 2 + 7, (122 + inner[1]) / 2, inner[0] + 9, inner[1] - 14))
    for sided, turn in ((list, -degrees), (mirror, degrees)):
        canvas.fill(sided(right), fabric, turn=turn)
        canvas.fold(sided(crease), 7, 0.22)
        if rib:
            canvas.fill(sided([*band, inner, outer]), mix(fabric.color, BLACK, 0.15), depth=0.3)
        else:
            canvas.stitch(sided(band), fabric.ink, 0.9)


def torso(canvas: Canvas, fabric: Fabric, hem: float, waist: float, neck: float, *, collar: bool = True) -> None:
    """Draw the front of a top with a round neck.

    Args:
        canvas: The canvas to draw on.
        fabric: Its fabric.
        hem: The y of its lower edge.
        waist: Half its width at the hem.
        neck: The depth of the neckline below the shoulders.
        collar: Whether the back of the neck is visible, with a ribbed edge in front.
    """
    if collar:
        canvas.fill(symmetric((120, 53), (134, 53, 145, 55), (134, 84, 120, 84)), mix(fabric.color, BLACK, 0.35))
    round_neck: Step = (141, 57 + neck * 0.95, 145, 55)
    side: list[Step] = [
        (158, 58, 169, 70),
        (162, 96, 166, 124),
        (166, 190, 120 + waist, hem),
        (140, hem + 5, 120, hem + 5),
    ]
    canvas.fill(symmetric((120, 57 + neck), round_neck, *side), fabric)
    canvas.stitch(path((120 - waist - 6, hem - 6), (120, hem, 120 + waist + 6, hem - 6)), fabric.ink)
    canvas.fold(path((160, 128), (146, 150, 128, 158)), 10, 0.16)
    canvas.fold(path((82, 134), (92, 160, 110, 170)), 9, 0.13)
    canvas.fold(path((152, 176), (140, 212, 148, hem)), 12, 0.14)
    canvas.fold(path((98, 180), (92, 220, 94, hem)), 14, 0.12, WHITE)
    if collar:
        edge = path((120, 57 + neck), round_neck)
        rim = [*mirror(reversed(edge)), *edge]
        canvas.stroke(rim, mix(fabric.color, BLACK, 0.1), 5.5)
        canvas.stroke([(x, y + 2.8 if 90 < x < 150 else y) for x, y in rim], fabric.ink, 0.9)


def t_shirt(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a T-shirt with short sleeves."""
    sleeves(canvas, fabric, rng.uniform(56, 68), rng.uniform(38, 44), rng.uniform(38, 42))
    torso(canvas, fabric, rng.uniform(226, 240), rng.uniform(46, 51), rng.uniform(17, 23))


def long_sleeve_top(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a T-shirt with long sleeves and knitted cuffs."""
    sleeves(canvas, fabric, rng.uniform(148, 160), rng.uniform(15, 19), rng.uniform(22, 25), rib=11)
    torso(canvas, fabric, rng.uniform(230, 240), rng.uniform(45, 49), rng.uniform(15, 20))


def shirt(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a buttoned shirt with a collar and a breast pocket."""
    hem = rng.uniform(240, 250)
    sleeves(canvas, fabric, rng.uniform(152, 162), rng.uniform(14, 18), 25, rib=14)
    torso(canvas, fabric, hem, rng.uniform(45, 49), 14, collar=False)
    canvas.fill(
        symmetric((120, 50), (134, 48, 144, 53), (132, 70), (120, 66)),
        mix(fabric.color, BLACK, 0.4),
        depth=0.2,
    )
    wing = path((144, 51), (138, 62, 120, 71), (131, 89), (148, 74, 151, 59))
    canvas.fill(wing, fabric, turn=-35, depth=0.35)
    canvas.fill(mirror(wing), fabric, turn=35, depth=0.35)
    for x in (114, 126):
        canvas.stroke([(x, 76), (x, hem + 3)], fabric.ink, 0.9, 0.8)
    trim = contrast(fabric.color)
    for i in range(6):
        canvas.fill(ellipse(120, 90 + i * (hem - 104) / 5, 2.7, 2.7), trim, depth=0)
    if rng.random() < 0.8:
        pocket = path((135, 112), (159, 112), (159, 134), (147, 142), (135, 134))
        canvas.fill(pocket, fabric, depth=0.2)


def hoodie(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a hooded sweatshirt with a pouch and drawstrings."""
    hem = rng.uniform(226, 236)
    dark = mix(fabric.color, BLACK, 0.15)
    canvas.fill(symmetric((120, 24), (158, 24, 160, 58), (158, 82, 120, 86)), fabric)
    canvas.fill(
        symmetric((120, 38), (144, 38, 146, 62), (140, 84, 120, 94)),
        mix(fabric.color, BLACK, 0.5),
        depth=0.6,
    )
    sleeves(canvas, fabric, rng.uniform(144, 154), rng.uniform(15, 19), 28, rib=15)
    torso(canvas, fabric, hem, 47, rng.uniform(34, 38), collar=False)
    rim = path((152, 50), (156, 78, 120, 97))
    canvas.stroke([*rim, *mirror(reversed(rim))], dark, 8)
    canvas.stroke([*rim, *mirror(reversed(rim))], fabric.ink, 0.9, 0.7)
    canvas.fill(symmetric((120, hem - 4), (120 + 45, hem - 5), (120 + 43, hem + 13), (120, hem + 14)), dark, depth=0.3)
    canvas.fill(
        symmetric((120, hem - 64), (146, hem - 64), (160, hem - 34), (160, hem - 4), (120, hem - 4)),
        fabric,
        depth=0.35,
    )
    trim = contrast(fabric.color)
    for x, sway in ((108, -3), (132, 3)):
        tip = 138 + rng.uniform(-6, 6)
        canvas.stroke(path((x, 92), (x + sway, 112, x + sway, tip)), trim, 2.4)
        canvas.stroke([(x + sway, tip), (x + sway, tip + 6)], fabric.ink, 3)
