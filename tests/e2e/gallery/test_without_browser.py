"""The gallery's functions that need neither a server nor a browser."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from lookalike_client import AttributeFacet, Category, ResponseStats, ValueCount
from lookalike_gallery.edit_page import parse_attributes
from lookalike_gallery.facets import merge_facets
from lookalike_gallery.response_stats import MAX_RECORDS, StatsHistory, stage_times
from lookalike_gallery.thumbnails import SIDE, ThumbnailWorker, thumbnail
from lookalike_gallery.view_state import MAX_K, MAX_PAGE, View, from_params, to_params

FULL = View(
    start="image",
    product="a&b=c/../é",
    browse="Men",
    title="striped *T*",
    page=7,
    category="Women",
    all_categories=True,
    k=33,
    values=(("color", ("red", "a=b&c")), ("brand.name", ("x",))),
    ranges=(("price", 1.5, 20.25), ("stock", None, 3.0)),
    group_by="brand",
    collapse=False,
)


@pytest.mark.parametrize("view", [View(), View(start="id", product="1"), FULL])
def test_view_round_trip(view: View) -> None:
    """The URL parameters of a view give the same view."""
    assert from_params(to_params(view)) == (view, [])


def test_defaults_have_no_parameters() -> None:
    """A field with its default has no URL parameter."""
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
def test_invalid_parameters_are_reported(name: str, values: list[str]) -> None:
    """An invalid parameter is reported and left out; the others apply."""
    view, ignored = from_params({name: values, "browse": ["Men"]})
    assert ignored == [name]
    assert view.browse == "Men"
    assert {key: value for key, value in to_params(view).items() if key != "from"} == {"browse": ["Men"]}


def test_too_many_filters_are_left_out() -> None:
    """A URL gives at most as many filters as the server accepts."""
    view, ignored = from_params({f"is.a{n}": ["x"] for n in range(40)} | {f"min.b{n}": ["1"] for n in range(40)})
    assert len(view.filters) == 64
    assert len(ignored) == 16


def facet(name: str, *counts: tuple[str, int], distinct: int | None = None) -> AttributeFacet:
    """Build the facet of an attribute from (value, count) pairs."""
    return AttributeFacet(name, distinct or len(counts), tuple(ValueCount(*each) for each in counts))


def test_facets_divide_the_products() -> None:
    """Attributes with a single value or only unique values are left out; numbers are kept with their bounds."""
    men = Category(
        "Men",
        3,
        "flat",
        (
            facet("color", ("red", 2), ("blue", 1)),
            facet("shop", ("here", 3)),
            facet("sku", ("a", 1), ("b", 1), ("c", 1)),
            facet("price", ("10", 1), ("9.5", 1), ("100", 1)),
        ),
    )
    women = Category("Women", 2, "flat", (facet("color", ("blue", 2), distinct=9), facet("shop", ("here", 2))))
    facets = {each.name: each for each in merge_facets([men, women])}
    assert set(facets) == {"color", "price"}
    assert facets["color"].values == (("blue", 3), ("red", 2))
    assert (facets["color"].truncated, facets["color"].bounds) == (True, None)
    assert facets["price"].bounds == (9.5, 100.0)


def stats(total_us: int) -> ResponseStats:
    """Build stats whose stages take 10 ms of a total of `total_us`."""
    return ResponseStats(1000, 2000, 3000, 4000, total_us, 1, 1, cache_hit=False, model_digest="", exact=True)


def test_stages_add_up_to_the_total() -> None:
    """The stages add up to the total, with the time of no stage as the rest."""
    assert stage_times(stats(12_500)) == [("decode", 1), ("queue", 2), ("inference", 3), ("search", 4), ("rest", 2.5)]


def test_stats_history_is_bounded() -> None:
    """Only the latest records are kept, oldest first, and their numbers continue."""
    history = StatsHistory()
    for number in range(MAX_RECORDS + 10):
        history.add(stats(number), 1.0)
    assert [each.number for each in history.latest()] == list(range(11, MAX_RECORDS + 11))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16"])
def test_thumbnails_of_every_mode(mode: str) -> None:
    """An image of any mode becomes a small RGB JPEG of the same aspect ratio."""
    out = io.BytesIO()
    Image.new(mode, (1200, 600)).save(out, "JPEG" if mode in {"RGB", "L", "CMYK"} else "PNG")
    small = thumbnail(out.getvalue())
    assert small is not None
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIDE, SIDE // 2))


def test_transparency_becomes_white() -> None:
    """Transparent pixels are white in the thumbnail, as in the server's decoding."""
    out = io.BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(out, "PNG")
    with Image.open(io.BytesIO(thumbnail(out.getvalue()) or b"")) as image:
        assert image.getpixel((25, 25)) == (255, 255, 255)


def test_thumbnails_are_upright() -> None:
    """An image is rotated by its EXIF orientation."""
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 400)).save(out, "JPEG", exif=exif)
    with Image.open(io.BytesIO(thumbnail(out.getvalue()) or b"")) as image:
        assert image.size == (SIDE // 2, SIDE)


@pytest.mark.parametrize("data", [b"", b"<svg onload='x'/>", b"/etc/passwd", b"\xff\xd8\xff" + bytes(100)])
def test_invalid_images_have_no_thumbnail(data: bytes) -> None:
    """Bytes other than an image of a known format give None: no error, and never the file of a path."""
    assert thumbnail(data) is None


def written(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Write an image file in memory."""
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


GOOD = written(Image.new("RGB", (80, 60)), "PNG")
BITS = (16_383 - 1 | (3_000 - 1) << 14).to_bytes(4, "little")
TOO_LARGE = {
    "png": written(Image.new("L", (4001, 3200)), "PNG"),
    "webp": written(Image.new("RGB", (3000, 2100)), "WEBP"),
    "claimed webp": b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0\x2f" + BITS + bytes(15),
    "wide": written(Image.new("1", (60_000, 60_000)), "PNG"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large_images_have_no_thumbnail(name: str) -> None:
    """What is larger than the server accepts is not decoded, and the next image has its thumbnail."""
    assert thumbnail(TOO_LARGE[name]) is None
    assert thumbnail(GOOD) is not None


def resident() -> int:
    """Return the bytes that this process has in memory."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def test_large_images_are_decoded_elsewhere() -> None:
    """Eight threads that want thumbnails of 48 MB images each take no such memory in this process."""
    data = written(Image.new("RGBA", (4000, 3000)), "PNG", compress_level=1)
    assert thumbnail(data) is not None
    before = resident()
    peaks = []
    with ThreadPoolExecutor(8) as pool:
        for small in pool.map(thumbnail, [data] * 8):
            assert small is not None
            peaks.append(resident())
    assert max(peaks) - before < 40_000_000


def test_what_takes_too_long_has_no_thumbnail() -> None:
    """An image that is not done in time ends the process, and a later one starts another."""
    hurried, patient = ThumbnailWorker(seconds=0.0), ThumbnailWorker()
    try:
        assert hurried.make(GOOD) is None
        assert hurried.make(GOOD) is None
        assert patient.make(GOOD) is not None
    finally:
        hurried.close()
        patient.close()


def test_worker_has_a_memory_limit() -> None:
    """An image that needs more memory than the process may have has no thumbnail, and the next one has."""
    large = written(Image.new("RGBA", (4000, 3000)), "PNG", compress_level=1)
    worker = ThumbnailWorker(memory_bytes=150 << 20)
    try:
        assert worker.make(large) is None
        assert worker.make(GOOD) is not None
    finally:
        worker.close()


def test_parse_attributes() -> None:
    """A line is name=value, and the value may contain "="; a line without "=", a name or a new name is invalid."""
    assert parse_attributes("a=1\n\n b = x=y \nno\n=v\na=2") == ({"a": "1", "b": "x=y"}, ["no", "=v", "a=2"])
