"""What the command says where a name of a search exists nowhere in the catalog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from grpc import StatusCode

from lookalike_client import Client
from support.catalogs import image_file, put
from support.scripted_server import Rejection, ScriptedServer

Lookalike = Callable[..., Result]


@pytest.fixture
def stocked(real: Client) -> Client:
    """A catalog of two categories whose products have color, price and size."""
    put(real, "a", "Girls", attributes={"color": "Blue", "price": "1,299", "size": "M"})
    put(real, "b", "Girls", attributes={"color": "Red", "price": "12.50 EUR", "size": "L"})
    put(real, "c", "Boys", attributes={"color": "Green", "weight": "5"})
    return real


def hints(result: Result) -> list[str]:
    """Return the hints of a search, which succeeds all the same."""
    assert result.exit_code == 0, result.output
    return [line.removeprefix("hint: ") for line in result.stderr.splitlines()]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--where", "colors=Blue"), ["no product has the attribute 'colors'; did you mean 'color'?"]),
        (("--where", "COLOR=Blue"), ["no product has the attribute 'COLOR'; did you mean 'color'?"]),
        (("--where", "colors!=Blue"), ["no product has the attribute 'colors'; did you mean 'color'?"]),
        (("--where", "color=blue"), ["no product has color=blue; did you mean 'Blue'?"]),
        (
            ("--where", "color=Purple"),
            ["no product has color=Purple; the values of 'color' are: 'Blue', 'Green', 'Red'"],
        ),
        (("--where", "price<=20"), ["a range compares numbers, and the values of 'price' are not, as '1,299'"]),
        (
            ("--group-by", "brand"),
            ["no product has the attribute 'brand'; the attributes are: 'color', 'price', 'size', 'weight'"],
        ),
        (
            ("--category", "Boys", "--where", "size=M"),
            ["no product of category 'Boys' has the attribute 'size'; the attributes are: 'color', 'weight'"],
        ),
        (
            ("--where", "colors=Blue", "--group-by", "sizes"),
            [
                "no product has the attribute 'colors'; did you mean 'color'?",
                "no product has the attribute 'sizes'; did you mean 'size'?",
            ],
        ),
        (("--where", "color=Blue", "--where", "size=L"), []),
        (("--where", "color=Red", "--group-by", "size"), []),
    ],
)  # fmt: skip
def test_a_name_that_nothing_has_is_a_hint(
    lookalike: Lookalike, stocked: Client, flags: tuple[str, ...], expected: list[str]
) -> None:
    """An attribute or a value that no product has is named, with the nearest one or a list; what exists is not."""
    where = () if "--category" in flags else ("--all-categories",)
    assert hints(lookalike("search", "--id", "a", *where, *flags)) == expected


@pytest.mark.parametrize(
    ("category", "hint"),
    [
        ("girls", "did you mean 'Girls'?"),
        ("Grils", "did you mean 'Girls'?"),
        ("Furniture", "the categories are: 'Boys', 'Girls'"),
    ],
)
def test_a_category_that_does_not_exist_is_a_hint(
    lookalike: Lookalike, stocked: Client, tmp_path: Path, category: str, hint: str
) -> None:
    """A category in the wrong case or misspelled is answered with the right one, by `search` and `export` alike."""
    (tmp_path / "x.jpg").write_bytes(image_file("x"))
    for command in (("search", "--image", tmp_path / "x.jpg"), ("export", "--out", tmp_path / "out")):
        result = lookalike(*command, "--category", category)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == f"lookalike: NOT_FOUND: no category {category!r}; {hint}"


def test_an_unknown_product_is_no_matter_of_its_category(lookalike: Lookalike, stocked: Client) -> None:
    """NOT_FOUND of a product has no hint about the category, which exists."""
    result = lookalike("search", "--id", "nothing", "--category", "Girls")
    assert result.stderr == "lookalike: NOT_FOUND: no product 'nothing'\n"


def test_hints_are_extra(lookalike: Lookalike, stocked: Client, server: ScriptedServer) -> None:
    """JSON output asks for no attributes, and a server that does not tell them fails nothing."""
    assert lookalike("--json", "search", "--id", "a", "--where", "colors=Blue").stderr == ""
    assert not server.requests("ListCategories")
    server.handlers["ListCategories"] = lambda _, context: Rejection(StatusCode.PERMISSION_DENIED).send(context)
    result = lookalike("search", "--id", "a", "--where", "colors=Blue")
    assert (result.exit_code, result.stdout.startswith("no products found\n")) == (0, True)


def test_all_wrong_usage_is_named_at_once(lookalike: Lookalike, server: ScriptedServer) -> None:
    """Three mistakes are three lines, before any call."""
    result = lookalike("search", "--region", "0,0,1,1", "--group-limit", "2")
    assert result.exit_code == 2
    for line in (
        "Give exactly one of --image, --id and --vector.",
        "Give --category NAME or --all-categories",
        "--region needs --image.",
        "--group-limit needs --group-by.",
    ):
        assert line in result.stderr
    assert not server.calls


def test_a_rejection_names_flags(lookalike: Lookalike, server: ScriptedServer) -> None:
    """The fields of a rejected request are the flags of the command; what has no flag keeps its name."""
    fields = [("category", "is empty"), ("filters[2].range", "is odd"), ("image.region.left", "is 2"), ("trace", "no")]
    server.rejections = [Rejection(StatusCode.INVALID_ARGUMENT, "four", violations=fields)]
    result = lookalike("search", "--id", "a")
    assert (
        result.stderr
        == "lookalike: INVALID_ARGUMENT: --category: is empty; --where: is odd; --region: is 2; trace: no\n"
    )
