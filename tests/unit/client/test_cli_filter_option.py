"""The syntax of `lookalike search --where`."""

from __future__ import annotations

import pytest

from lookalike_client import AnyOf, Between, Equals, Filter, NoneOf
from lookalike_client.cli.filter_option import parse


@pytest.mark.parametrize(
    ("expression", "condition"),
    [
        ("color=red", Equals("color", "red")),
        ("color=red|blue", AnyOf("color", ("red", "blue"))),
        ("color!=red", NoneOf("color", ("red",))),
        ("color!=red|blue", NoneOf("color", ("red", "blue"))),
        ("price<=20", Between("price", maximum=20.0)),
        ("price>=5", Between("price", minimum=5.0)),
        ("price=5..20", Between("price", 5.0, 20.0)),
        ("price=-1.5..+.5e1", Between("price", -1.5, 5.0)),
        ("net price = 5 .. 20", Between("net price", 5.0, 20.0)),
        (" color =  dark red | blue ", AnyOf("color", ("dark red", "blue"))),
        ("size=5", Equals("size", "5")),
        ("ratio=16:9", Equals("ratio", "16:9")),
        ("formula=a=b", Equals("formula", "a=b")),
        ("path=a..b", Equals("path", "a..b")),
        ("note=two\nlines", Equals("note", "two\nlines")),
    ],
)
def test_an_expression_is_a_condition(expression: str, condition: Filter) -> None:
    """Each form means one kind of filter, and spaces around names, values and numbers are ignored."""
    assert parse(expression) == condition
