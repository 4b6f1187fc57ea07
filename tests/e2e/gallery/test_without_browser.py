"""What the gallery decides without a server or a browser."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from lookalike_client import AttributeFacet, Category, ResponseStats, ValueCount
from lookalike_gallery.edit_page import read_attributes
from lookalike_gallery.facets import offers
from lookalike_gallery.response_stats import KEPT, ResponseStatsLog, stages
from lookalike_gallery.thumbnails import SIDE, thumbnail
from lookalike_gallery.view_state import MAX_K, MAX_PAGE, View, from_params, to_params

FULL = View(
    start="image",
    product="a&b=c/../é",
    browse="Men",
    page=7,
    category="Women",
    everywhere=True,
    k=33,
    chosen=(("color", ("red", "a=b&c")), ("brand.name", ("x",))),
    ranges=(("price", 1.5, 20.25), ("stock", None, 3.0)),
    group_by="brand",
    collapse=False,
)


@pytest.mark.parametrize("view", [View(), View(start="id", product="1"), FULL])
def test_view_survives_its_address(view: View) -> None:
    """A view's address gives the same view, and nothing of it is left out."""
    assert from_params(to_params(view)) == (view, [])


def test_usual_view_has_no_parameters() -> None:
    """What is as usual is not written into the address."""
    assert to_params(View()) == {}
    assert to_params(View(start="id", product="7")) == {"from": ["id"], "id": ["7"]}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("k", ["0"]),
        ("k", [str(MAX_K + 1)]),
        ("k", ["9" * 5000]),
        ("k", ["1", "2"]),
        ("k", ["٣"]),
        ("page", [str(MAX_PAGE + 1)]),
        ("page", ["-1"]),
        ("from", ["disk"]),
        ("id", [""]),
        ("id", ["x" * 257]),
        ("id", ["a\nb"]),
        ("category", ["\x00"]),
        ("collapse", ["yes"]),
        ("is.", ["red"]),
        ("is.color", []),
        ("is.color", ["x"] * 101),
        ("is.color", ["x" * 4097]),
        ("min.price", ["nan"]),
        ("max.price", ["inf"]),
        ("max.price", ["1", "2"]),
        ("path", ["/etc/passwd"]),
    ],
)
def test_bad_parameters_are_named(name: str, values: list[str]) -> None:
    """A parameter that is not valid is named and left out; the others hold."""
    view, ignored = from_params({name: values, "browse": ["Men"]})
    assert ignored == [name]
    assert view.browse == "Men"
    assert {key: value for key, value in to_params(view).items() if key != "from"} == {"browse": ["Men"]}


def test_too_many_filters_are_left_out() -> None:
    """No address makes more filters than the server takes."""
    view, ignored = from_params({f"is.a{n}": ["x"] for n in range(40)} | {f"min.b{n}": ["1"] for n in range(40)})
    assert len(view.filters) == 64
    assert len(ignored) == 16


def seen(name: str, *counts: tuple[str, int], distinct: int | None = None) -> AttributeFacet:
    """An attribute with these values."""
    return AttributeFacet(name, distinct or len(counts), tuple(ValueCount(*each) for each in counts))


def test_only_attributes_that_divide_are_offered() -> None:
    """One value for all divides nothing, and unique values are names; numbers are kept with their bounds."""
    men = Category(
        "Men",
        3,
        "flat",
        (
            seen("color", ("red", 2), ("blue", 1)),
            seen("shop", ("here", 3)),
            seen("sku", ("a", 1), ("b", 1), ("c", 1)),
            seen("price", ("10", 1), ("9.5", 1), ("100", 1)),
        ),
    )
    women = Category("Women", 2, "flat", (seen("color", ("blue", 2), distinct=9), seen("shop", ("here", 2))))
    found = {each.name: each for each in offers([men, women])}
    assert set(found) == {"color", "price"}
    assert found["color"].values == (("blue", 3), ("red", 2))
    assert (found["color"].more, found["color"].bounds) == (True, None)
    assert found["price"].bounds == (9.5, 100.0)


def stats(number: int) -> ResponseStats:
    """A stats whose stages are 10 ms of a total of `number` microseconds."""
    return ResponseStats(1000, 2000, 3000, 4000, number, 1, 1, cache_hit=False, model_digest="", exact=True)


def test_stages_make_up_the_total() -> None:
    """The bar's parts are the total, what no stage claims included."""
    assert stages(stats(12_500)) == [("decode", 1), ("queue", 2), ("inference", 3), ("search", 4), ("rest", 2.5)]


def test_receipts_are_bounded() -> None:
    """Only the latest are kept, oldest first, and their numbers go on."""
    kept = ResponseStatsLog()
    for number in range(KEPT + 10):
        kept.add(stats(number), 1.0)
    assert [each.number for each in kept.latest()] == list(range(11, KEPT + 11))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16"])
def test_thumbnails_of_every_kind(mode: str) -> None:
    """An image of any mode becomes a small RGB JPEG of the same shape."""
    out = io.BytesIO()
    Image.new(mode, (1200, 600)).save(out, "JPEG" if mode in {"RGB", "L", "CMYK"} else "PNG")
    small = thumbnail(out.getvalue())
    assert small is not None
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIDE, SIDE // 2))


def test_transparency_is_white() -> None:
    """What is clear in an image is white in its thumbnail, as the server sees it."""
    out = io.BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(out, "PNG")
    with Image.open(io.BytesIO(thumbnail(out.getvalue()) or b"")) as image:
        assert image.getpixel((25, 25)) == (255, 255, 255)


def test_images_stand_upright() -> None:
    """An image that was taken sideways is turned as its EXIF says."""
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 400)).save(out, "JPEG", exif=exif)
    with Image.open(io.BytesIO(thumbnail(out.getvalue()) or b"")) as image:
        assert image.size == (SIDE // 2, SIDE)


@pytest.mark.parametrize("data", [b"", b"<svg onload='x'/>", b"/etc/passwd", b"\xff\xd8\xff" + bytes(100)])
def test_what_is_no_image_is_not_shown(data: bytes) -> None:
    """Bytes that are no image of a known format are None, never an error and never a path."""
    assert thumbnail(data) is None


def test_attributes_are_lines() -> None:
    """A line is name=value, where the value may hold an equals sign; one without, or a second of its name, is wrong."""
    assert read_attributes("a=1\n\n b = x=y \nno\n=v\na=2") == ({"a": "1", "b": "x=y"}, ["no", "=v", "a=2"])
