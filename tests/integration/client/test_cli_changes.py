"""`lookalike update` and `lookalike image`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from lookalike_client import Client
from support.catalogs import image_file, put, stored
from support.scripted_server import ScriptedServer

Lookalike = Callable[..., Result]


@pytest.fixture
def stocked(server: ScriptedServer, real: Client) -> ScriptedServer:
    """A server with one product."""
    put(real, "a", title="Shoe", attributes={"color": "red", "season": "old"})
    return server


def test_update_prints_the_product(lookalike: Lookalike, stocked: ScriptedServer, real: Client) -> None:
    """New values, also empty ones and ones with a = in them, are in; cleared ones are gone; the others stay."""
    result = lookalike("update", "a", "price=7", "formula=a=b", "note=", "--clear", "season")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["title", "Shoe"] in lines
    assert ["price", "7"] in lines
    assert not any("season" in line for line in lines)
    attributes = stored(real)["a"].attributes
    assert dict(attributes) == {"color": "red", "price": "7", "formula": "a=b", "note": ""}


def test_update_as_json_is_the_product(lookalike: Lookalike, stocked: ScriptedServer) -> None:
    """`--json` prints Product; clearing alone is a change too."""
    result = lookalike("--json", "update", "a", "--clear", "season", "--clear", "nothing")
    assert json.loads(result.stdout) == {
        "id": "a",
        "category": "Men",
        "title": "Shoe",
        "image_uri": "",
        "attributes": {"color": "red"},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give KEY=VALUE or --clear KEY."),
        (("price",), "'price' must be KEY=VALUE"),
        (("=7",), "'=7' must be KEY=VALUE"),
        (("price=7", "price=8"), "Given more than once: price."),
        (("price=7", "--clear", "price"), "Given more than once: price."),
    ],
)
def test_a_change_that_cannot_be_meant_is_wrong_usage(
    lookalike: Lookalike, stocked: ScriptedServer, arguments: tuple[str, ...], message: str
) -> None:
    """Nothing to change, no value, or two for one attribute is rejected before any call."""
    result = lookalike("update", "a", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not stocked.calls


@pytest.mark.parametrize("arguments", [("update", "x", "price=7"), ("image", "x", "--out", "-")])
def test_an_unknown_product_is_one_line(lookalike: Lookalike, arguments: tuple[str, ...]) -> None:
    """Both say NOT_FOUND on standard error, and nothing on standard output."""
    result = lookalike(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "lookalike: NOT_FOUND: no product 'x'\n"


def test_image_writes_the_file(lookalike: Lookalike, stocked: ScriptedServer, tmp_path: Path) -> None:
    """The image is written as it is; its media type and size are printed on standard error."""
    out = tmp_path / "a.jpg"
    result = lookalike("image", "a", "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == image_file("a")
    assert (result.stdout, result.stderr) == ("", f"image/png, {len(image_file('a'))} bytes\n")


def test_image_goes_to_standard_output(lookalike: Lookalike, stocked: ScriptedServer) -> None:
    """With - the bytes, and nothing else, are on standard output."""
    result = lookalike("image", "a", "--out", "-")
    assert result.stdout_bytes == image_file("a")
    assert result.stderr == f"image/png, {len(image_file('a'))} bytes\n"


def test_image_as_json_describes_the_file(lookalike: Lookalike, stocked: ScriptedServer, tmp_path: Path) -> None:
    """`--json` prints what was written where; together with standard output for the image it is wrong usage."""
    out = tmp_path / "a.jpg"
    assert json.loads(lookalike("--json", "image", "a", "--out", out).stdout) == {
        "file": str(out),
        "media_type": "image/png",
        "bytes": len(image_file("a")),
        "sha256": hashlib.sha256(image_file("a")).hexdigest(),
    }
    assert lookalike("--json", "image", "a", "--out", "-").exit_code == 2


def test_image_does_not_overwrite(lookalike: Lookalike, stocked: ScriptedServer, tmp_path: Path) -> None:
    """A file that exists stays as it is, with a line that names --force, which overwrites it."""
    out = tmp_path / "mine.jpg"
    out.write_bytes(b"mine")
    result = lookalike("image", "a", "--out", out)
    assert result.exit_code == 1
    assert result.stderr == f"lookalike: {out} exists; --force overwrites it\n"
    assert out.read_bytes() == b"mine"
    assert lookalike("image", "a", "--out", out, "--force").exit_code == 0
    assert out.read_bytes() == image_file("a")


def test_image_that_cannot_be_written_is_one_line(
    lookalike: Lookalike, stocked: ScriptedServer, tmp_path: Path
) -> None:
    """The path of a folder that does not exist is in the message."""
    out = tmp_path / "nowhere" / "a.jpg"
    result = lookalike("image", "a", "--out", out)
    assert (result.exit_code, result.stderr) == (1, f"lookalike: {out}: No such file or directory\n")


def test_an_image_that_does_not_exist_leaves_no_file(
    lookalike: Lookalike, stocked: ScriptedServer, tmp_path: Path
) -> None:
    """The server's message is printed, and nothing is written."""
    out = tmp_path / "a.jpg"
    result = lookalike("image", "a", "--index", "1", "--out", out)
    assert result.exit_code == 1
    assert "INVALID_ARGUMENT: --index: is 1; the product has 1 images" in result.stderr
    assert not out.exists()
