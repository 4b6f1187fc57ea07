"""Dresses, skirts, trousers and shorts, seen from the front, laid flat."""

from random import Random

from tools.sample_catalog.canvas import Canvas
from tools.sample_catalog.geometry import ellipse, mirror, path, symmetric
from tools.sample_catalog.palette import BLACK, WHITE, contrast, mix
from tools.sample_catalog.patterns import Fabric


def dress(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a sleeveless dress with a belted waist and a flared skirt."""
    hem, flare = rng.uniform(272, 290), rng.uniform(70, 82)
    neck = rng.uniform(56, 66)
    canvas.fill(
        symmetric((120, 34), (132, 34, 141, 28), (138, 76, 120, 76)),
        mix(fabric.color, BLACK, 0.4),
        depth=0.2,
    )
    bodice = symmetric(
        (120, neck), (138, neck, 140, 26), (154, 28), (148, 66, 162, 80), (158, 110, 149, 138), (120, 140)
    )
    canvas.fill(bodice, fabric)
    canvas.fold(path((158, 84), (142, 96, 136, 104)), 8, 0.18)
    canvas.fold(mirror(path((158, 84), (142, 96, 136, 104))), 8, 0.14)
    skirt_part = symmetric((120, 138), (149, 137), (158, 190, 120 + flare, hem), (160, hem + 12, 120, hem + 12))
    canvas.fill(skirt_part, fabric)
    _pleats(canvas, 140, hem + 8, 26, flare)
    canvas.fill(symmetric((120, 133), (150, 131), (150, 143), (120, 145)), mix(fabric.color, BLACK, 0.3), depth=0.2)
    canvas.stitch(path((120 - flare, hem - 7), (120, hem + 14, 120 + flare, hem - 7)), fabric.ink, 0.9)


def skirt(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw a flared skirt with a waistband."""
    hem, flare = rng.uniform(226, 246), rng.uniform(80, 92)
    canvas.fill(symmetric((120, 92), (162, 90), (178, 150, 120 + flare, hem), (170, hem + 14, 120, hem + 15)), fabric)
    _pleats(canvas, 96, hem + 10, 38, flare)
    canvas.stitch(path((120 - flare, hem - 8), (120, hem + 16, 120 + flare, hem - 8)), fabric.ink, 0.9)
    canvas.fill(symmetric((120, 80), (161, 78), (163, 94), (120, 96)), mix(fabric.color, BLACK, 0.18), depth=0.3)
    canvas.fill(ellipse(120, 88, 3.2, 3.2), contrast(fabric.color), depth=0)


def _pleats(canvas: Canvas, top: float, hem: float, waist: float, flare: float) -> None:
    for i, share in enumerate((-0.78, -0.45, -0.12, 0.22, 0.55, 0.84)):
        start, end = (120 + share * waist, top + 6), (120 + share * flare, hem)
        canvas.fold(path(start, (120 + share * waist * 1.2, (top + hem) / 2, *end)), 9, 0.17)
        if i % 2:
            canvas.fold(path((start[0] - 6, top + 30), (end[0] - 12, hem)), 9, 0.16, WHITE)


def _legs(canvas: Canvas, fabric: Fabric, hem: float, spread: float, width: float, crotch: float) -> None:
    """Draw two legs from the waist at y = 50 to `hem`, the hems `width` wide and `spread` off the center."""
    right = path((120, 50), (156, 50), (166, 90, 120 + spread + width, hem), (120 + spread, hem + 3), (120, crotch))
    for sided in (mirror, list):
        canvas.fill(sided(right), fabric)
        canvas.fold(sided(path((122, crotch), (136, crotch - 2, 148, crotch - 14))), 7, 0.22)
        canvas.fold(sided(path((140, 74), (120 + spread + width * 0.55, hem))), 5, 0.12, WHITE)
        canvas.fold(sided(path((134, crotch + 20), (128 + spread, hem))), 9, 0.12)
        canvas.stitch(sided([(110 + spread, hem - 5), (130 + spread + width, hem - 8)]), fabric.ink, 0.9)
        canvas.stroke(sided(path((146, 55), (148, 74, 159, 80))), fabric.ink, 1)


def _waistband(canvas: Canvas, fabric: Fabric, crotch: float) -> None:
    canvas.stroke(path((120, 52), (120, crotch - 24), (120, crotch - 12, 112, crotch - 12)), fabric.ink, 0.9, 0.8)
    canvas.stroke(path((128, 54), (128, crotch - 30), (127, crotch - 14, 120, crotch - 8)), fabric.ink, 0.8, 0.6)
    canvas.fill(symmetric((120, 40), (155, 38), (157, 53), (120, 55)), mix(fabric.color, BLACK, 0.14), depth=0.3)
    for x in (94, 146):
        canvas.stroke([(x, 38), (x, 55)], fabric.ink, 3)
    canvas.fill(ellipse(120, 47.5, 3.2, 3.2), contrast(fabric.color), depth=0)


def trousers(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw long trousers."""
    crotch = rng.uniform(112, 120)
    _legs(canvas, fabric, rng.uniform(284, 296), rng.uniform(14, 20), rng.uniform(29, 34), crotch)
    _waistband(canvas, fabric, crotch)


def shorts(canvas: Canvas, fabric: Fabric, rng: Random) -> None:
    """Draw short trousers."""
    # drawn where the upper half of trousers is, then centered and enlarged
    x, y = canvas.placement.stretch
    canvas.placement = type(canvas.placement)(
        (x * 1.3, y * 1.3), canvas.placement.degrees, canvas.placement.shift
    ).moved(0, 62)
    crotch = rng.uniform(110, 118)
    _legs(canvas, fabric, rng.uniform(166, 184), rng.uniform(10, 14), rng.uniform(44, 48), crotch)
    _waistband(canvas, fabric, crotch)
