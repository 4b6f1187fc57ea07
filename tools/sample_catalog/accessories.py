"""Bags and caps."""

from random import Random

from tools.sample_catalog.canvas import Canvas
from tools.sample_catalog.geometry import ellipse, mirror, path, symmetric
from tools.sample_catalog.palette import BLACK, RGB, WHITE, mix
from tools.sample_catalog.patterns import Fabric

BRASS: RGB = (206, 168, 84)
STEEL: RGB = (176, 180, 186)


def handbag(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a handbag with one bowed handle, a flap and a clasp."""
    dark = mix(fabric.color, BLACK, 0.25)
    wide, low, drop = rng.uniform(80, 88), rng.uniform(252, 266), rng.uniform(196, 212)
    rise = rng.uniform(34, 50)
    canvas.shadow(ellipse(120, low + 3, wide, 5), 5, 0.35)
    bow = path((78, 142), (76, rise, 120, rise), (164, rise, 162, 142))
    canvas.stroke(bow, mix(dark, BLACK, 0.35), 10.5)
    canvas.stroke(bow, dark, 8.5)
    canvas.stroke([(x - 1.5, y - 1.5) for x, y in bow], mix(dark, WHITE, 0.3), 1.6, 0.7)
    body = symmetric(
        (120, 132),
        (172, 132),
        (184, 132, 188, 150),
        (120 + wide, low - 16),
        (122 + wide, low, 102 + wide, low),
        (120, low + 2),
    )
    canvas.fill(body, fabric, depth=0.7)
    flap = symmetric(
        (120, 130), (174, 130), (188, 134, 188, 152), (184, drop - 24, 160, drop - 8), (142, drop, 120, drop)
    )
    canvas.shadow([(x, y + 5) for x, y in flap], 4, 0.3)
    canvas.fill(flap, fabric, depth=0.45)
    canvas.stitch([(120 + (x - 120) * 0.94, 166 + (y - 166) * 0.89) for x, y in flap], dark, 0.9)
    for sided in (list, mirror):
        canvas.fill(sided([(72, 128), (85, 128), (85, 148), (72, 148)]), dark, depth=0.2)
        canvas.fill(sided(ellipse(78.5, 142, 3, 3)), BRASS, depth=0)
    canvas.fill(symmetric((120, drop - 13), (131, drop - 13), (131, drop + 9), (120, drop + 9)), BRASS, depth=0.4)
    canvas.fill(
        symmetric((120, drop - 4), (124, drop - 4), (124, drop + 2), (120, drop + 2)),
        mix(BRASS, BLACK, 0.5),
        depth=0,
    )


def backpack(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a backpack with a front pocket, zips, side pockets and shoulder straps."""
    dark = mix(fabric.color, BLACK, 0.35)
    wide, top, low = rng.uniform(66, 72), rng.uniform(52, 60), rng.uniform(268, 280)
    pocket = rng.uniform(172, 182)
    canvas.shadow(ellipse(120, low + 2, wide, 5), 5, 0.35)
    strap = path((150, 76), (222, 100, 210, 190), (206, 236, 180, 246))
    for sided in (list, mirror):
        canvas.stroke(sided(strap), mix(dark, BLACK, 0.3), 13)
        canvas.stroke(sided(strap), dark, 11)
        canvas.fill(sided(path((176, 190), (202, 192, 202, 214), (200, low - 8), (176, low - 4))), dark)
    grip = path((106, top + 4), (104, top - 22, 120, top - 22), (136, top - 22, 134, top + 4))
    canvas.stroke(grip, dark, 6.5)
    body = symmetric(
        (120, top),
        (112 + wide, top, 116 + wide, 128),
        (122 + wide, 200, 120 + wide, low - 18),
        (118 + wide, low, 98 + wide, low),
        (120, low + 2),
    )
    canvas.fill(body, fabric, depth=0.65)
    zipper = path((120 + wide - 8, 168), (120 + wide - 8, top + 16, 120, top + 16))
    canvas.stroke([*zipper, *mirror(reversed(zipper))], dark, 3.4)
    canvas.stroke([*zipper, *mirror(reversed(zipper))], STEEL, 1)
    canvas.stroke([(120 + wide - 10, 158), (120 + wide - 10, 176)], STEEL, 3)
    canvas.fold(path((90, top + 26), (78, 120, 80, 165)), 12, 0.2, WHITE)
    front = symmetric(
        (120, pocket),
        (160, pocket),
        (168, pocket, 168, pocket + 12),
        (168, low - 22),
        (168, low - 12, 158, low - 12),
        (120, low - 12),
    )
    canvas.shadow([(x, y + 3) for x, y in front], 3, 0.25)
    canvas.fill(front, fabric, depth=0.5)
    canvas.stroke([(78, pocket + 14), (162, pocket + 14)], dark, 3.4)
    canvas.stroke([(78, pocket + 14), (162, pocket + 14)], STEEL, 1)
    canvas.stroke([(92, pocket + 14), (92, pocket + 27)], STEEL, 3)
    canvas.fill(symmetric((120, 112), (134, 112), (134, 132), (120, 132)), dark, depth=0.2)


def cap(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a baseball cap seen from the side, its peak to the left."""
    crown, peak = rng.uniform(78, 92), rng.uniform(20, 30)
    dark = mix(fabric.color, BLACK, 0.2)
    canvas.shadow(ellipse(130, 222, 96, 5), 6, 0.25)
    inside = path((92, 198), (150, 226, 214, 200), (214, 206), (150, 228), (92, 204))
    canvas.fill(inside, mix(fabric.color, BLACK, 0.5))
    dome = path((84, 196), (80, crown, 150, crown), (222, crown, 218, 204), (150, 224, 84, 196))
    canvas.fill(dome, fabric, depth=0.75)
    canvas.fold(path((108, 180), (104, crown + 34, 136, crown + 16)), 12, 0.25, WHITE)
    canvas.stitch(path((150, crown), (118, crown + 40, 116, 204)), fabric.ink, 1.1)
    canvas.stitch(path((150, crown), (182, crown + 36, 186, 212)), fabric.ink, 1.1)
    canvas.stitch(path((84, 186), (150, 212, 218, 194)), fabric.ink, 0.9)
    for x, y in ((106, crown + 44), (152, crown + 36), (196, crown + 50)):
        canvas.fill(ellipse(x, y, 2.2, 2.2), dark, depth=0, line=0.8)
    canvas.fill(ellipse(150, crown - 1, 7, 4), dark, depth=0.3)
    brim = path(
        (84, 190),
        (40, 182, peak, 208),
        (peak - 6, 216, peak + 6, 220),
        (60, 206, 132, 214),
        (104, 206, 84, 190),
    )
    canvas.fill(brim, dark if fabric.pattern != "plain" else mix(fabric.color, BLACK, 0.1), depth=0.55)
    canvas.stitch(path((peak + 4, 212), (50, 194, 104, 202)), fabric.ink, 0.9)
    canvas.stitch(path((peak + 4, 207), (46, 188, 96, 196)), fabric.ink, 0.9)
