"""Shoes, seen from the side, the toe to the left."""

from random import Random

from tools.sample_catalog.canvas import Canvas
from tools.sample_catalog.geometry import Point, ellipse, path
from tools.sample_catalog.palette import BLACK, COLORS, RGB, WHITE, contrast, mix
from tools.sample_catalog.patterns import Fabric

RUBBER: RGB = (240, 238, 230)


def _laces(canvas: Canvas, eyelets: list[tuple[Point, Point]], color: RGB) -> None:
    for (x0, y0), (x1, y1) in eyelets:
        canvas.stroke([(x0, y0 + 0.8), (x1, y1 + 0.8)], mix(color, BLACK, 0.45), 4.2)
        canvas.stroke([(x0, y0), (x1, y1)], color, 3.2)


def _sneaker(canvas: Canvas, fabric: Fabric, sole: float, tall: float) -> None:
    canvas.shadow(ellipse(118, 197 + sole, 100, 5), 4, 0.35)
    trim = contrast(fabric.color)
    tongue = path((104, 140), (112, 118 - tall, 122, 106 - tall), (134, 102 - tall, 144, 112 - tall), (150, 140))
    canvas.fill(tongue, mix(fabric.color, BLACK, 0.2))
    collar = path((140, 124 - tall), (168, 112, 200, 118 - tall), (196, 150), (150, 150))
    canvas.fill(collar, mix(fabric.color, BLACK, 0.55), depth=0.2)
    upper = path(
        (22, 196),
        (16, 164, 52, 158),
        (86, 150, 128, 116 - tall),
        (142, 112 - tall),
        (158, 146, 190, 124 - tall),
        (200, 114 - tall, 208, 122 - tall),
        (202, 150, 214, 172),
        (218, 186, 214, 196),
    )
    canvas.fill(upper, fabric, depth=0.6)
    canvas.fold(path((46, 168), (90, 158, 128, 134)), 9, 0.25, WHITE)
    canvas.fold(path((64, 190), (120, 182, 200, 188)), 8, 0.2)
    for x in (120, 138):
        canvas.stitch(path((x + 24, 140), (x + 12, 170, x - 14, 198)), trim, 6)
    canvas.stitch(path((90, 150), (102, 168, 96, 196)), fabric.ink, 1)
    canvas.stitch(path((180, 132 - tall), (184, 160, 176, 196)), fabric.ink, 1)
    cap = path((22, 196), (16, 164, 52, 158), (70, 170, 68, 196))
    canvas.fill(cap, RUBBER if fabric.pattern != "plain" else mix(fabric.color, WHITE, 0.16), depth=0.4)
    _laces(
        canvas,
        [((86 + i * 11, 149 - i * (8 + tall / 4)), (98 + i * 11, 157 - i * (8 + tall / 4))) for i in range(5)],
        trim,
    )
    base = path(
        (18, 188),
        (12, 192, 13, 190 + sole),
        (16, 197 + sole, 30, 197 + sole),
        (206, 197 + sole),
        (222, 197 + sole, 221, 186 + sole),
        (220, 184),
        (120, 194, 18, 188),
    )
    canvas.fill(base, RUBBER, depth=0.4)
    canvas.stitch(path((12, 190 + sole * 0.55), (120, 194 + sole * 0.5, 222, 187 + sole * 0.5)), fabric.color, 1.8)


def sneaker(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a pair of sneakers with laces, side stripes and a rubber sole."""
    sole, tall = rng.uniform(9, 15), rng.uniform(0, 8)
    gap = rng.uniform(50, 58)
    home = canvas.placement
    canvas.placement = home.moved(6, -gap)
    _sneaker(canvas, fabric, sole, tall)
    canvas.placement = home.moved(-4, gap - 8)
    _sneaker(canvas, fabric, sole, tall)
    canvas.placement = home


def boot(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a laced ankle boot with a heel."""
    top, heel = rng.uniform(62, 80), rng.uniform(12, 20)
    dark = mix(COLORS["brown"], BLACK, 0.6)
    canvas.shadow(ellipse(118, 256 + heel, 98, 5), 4, 0.35)
    canvas.fill(
        path((112, top + 4), (158, top - 10, 204, top), (200, top + 26), (116, top + 26)),
        mix(fabric.color, BLACK, 0.6),
        depth=0.1,
    )
    tongue = path((100, 150), (98, top + 10, 108, top - 8), (124, top - 12, 130, top + 2), (134, 150))
    canvas.fill(tongue, mix(fabric.color, BLACK, 0.25))
    upper = path(
        (22, 246),
        (14, 208, 54, 200),
        (92, 192, 106, 158),
        (114, 130, 114, top + 6),
        (160, top + 14, 206, top),
        (196, 140, 206, 186),
        (216, 220, 212, 246),
    )
    canvas.fill(upper, fabric, depth=0.7)
    canvas.fold(path((48, 214), (92, 208, 124, 176)), 10, 0.28, WHITE)
    canvas.fold(path((140, top + 20), (138, 130, 146, 176)), 12, 0.2, WHITE)
    canvas.fold(path((118, 176), (150, 188, 200, 178)), 7, 0.22)
    canvas.fold(path((112, 190), (150, 206, 204, 198)), 7, 0.2)
    canvas.stitch(path((104, 164), (132, 200, 124, 246)), fabric.ink, 1.2)
    canvas.stitch(path((138, top + 8), (136, 140, 126, 186)), fabric.ink, 1.2)
    canvas.stitch(path((178, top), (172, 150, 184, 246)), fabric.ink, 1.2)
    canvas.stitch(path((22, 214), (56, 206, 60, 246)), fabric.ink, 1.2)
    canvas.stroke(path((114, top + 6), (160, top + 14, 206, top)), mix(fabric.color, BLACK, 0.25), 5)
    count = 6
    step = (162 - top - 22) / (count - 1)
    _laces(
        canvas,
        [
            ((108 - max(0, i - 3) * 4, top + 20 + i * step), (130 - max(0, i - 3) * 3, top + 24 + i * step))
            for i in range(count)
        ],
        COLORS["beige"],
    )
    base = path(
        (20, 240),
        (14, 246, 17, 256),
        (20, 256 + heel * 0.6, 40, 256 + heel * 0.5),
        (146, 254 + heel * 0.4),
        (154, 256 + heel),
        (216, 256 + heel),
        (218, 240),
        (120, 250, 20, 240),
    )
    canvas.fill(base, dark, depth=0.5)
    canvas.stitch(path((18, 248), (120, 256, 218, 248)), COLORS["beige"], 1.2)


def pump(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a high-heeled pump."""
    heel = rng.uniform(60, 76)
    floor = 226.0
    back = floor - heel
    canvas.shadow(ellipse(112, floor + 2, 98, 4), 4, 0.35)
    stiletto = path((196, back - 6), (208, back + 20, 202, floor), (195, floor), (194, back + 32, 168, back + 14))
    canvas.fill(stiletto, mix(fabric.color, BLACK, 0.3))
    canvas.fill(path((92, 186), (140, 150, 200, back - 34), (196, back + 4), (130, 200)), COLORS["beige"], depth=0.3)
    upper = path(
        (12, floor - 8),
        (16, floor - 26, 58, floor - 40),
        (76, floor - 46, 84, floor - 46),
        (104, floor - 26, 130, floor - 42),
        (170, back, 196, back - 44),
        (212, back - 40, 210, back - 4),
        (206, back + 8, 192, back + 12),
        (150, back + 22, 112, floor - 6),
        (100, floor + 2, 60, floor + 1),
        (14, floor + 1, 12, floor - 8),
    )
    canvas.fill(upper, fabric, depth=0.8)
    canvas.fold(path((34, floor - 20), (64, floor - 32, 96, floor - 30)), 8, 0.4, WHITE)
    canvas.fold(path((136, floor - 34), (176, back + 4, 202, back - 24)), 7, 0.25, WHITE)
    canvas.stroke(
        path((14, floor), (60, floor + 5, 104, floor), (150, back + 26, 194, back + 12)),
        mix(fabric.color, BLACK, 0.6),
        2.6,
    )
