"""Numbers as shops write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_client.transfer.plain_numbers import is_plain, plain_number
from lookalike_server.domain.filters import number


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("19.90", "19.90"),
        ("-3", "-3"),
        ("1e3", "1e3"),
        ("1,299", "1299"),
        ("1,299,000.50", "1299000.50"),
        ("1,29,900", "129900"),
        ("12.50 EUR", "12.50"),
        ("EUR 12,50", "12.50"),
        ("$12", "12"),
        ("US$1,299.00", "1299.00"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("\N{MINUS SIGN}5", "-5"),
        ("12,5", "12.5"),
        ("1.299,00 €", "1299.00"),
        ("1.299.000", "1299000"),
        ("1 299,50 kr", "1299.50"),
        ("1\u202f299\xa0€", "1299"),
        ("1'299.50", "1299.50"),
        ("Rs. 899", "899"),
        ("₹899", "899"),
        ("£.50", ".50"),
    ],
)
def test_a_number_in_other_clothes(text: str, plain: str) -> None:
    """Currency and grouping go, and a comma before a fraction becomes a point; the server reads the result."""
    assert plain_number(text) == plain
    assert number(plain) == float(plain)


@pytest.mark.parametrize(
    "text",
    [
        *("", "free", "M", "12 cm", "from 12", "10-12", "1,2,3", "1.2.3", "12..5", "--5", "$", "EUR", "1 2", "12:30"),
        *("2026-11-27", "nan", "inf", "1_000", "\N{ARABIC-INDIC DIGIT THREE}"),
    ],
)
def test_no_number(text: str) -> None:
    """Words, ranges, units, dates and digits that are grouped like no number are none."""
    assert plain_number(text) is None


@given(st.text(st.sampled_from("0123456789.,-+ '$€EURe\xa0"), max_size=12))
@settings(max_examples=300)
def test_what_it_returns_is_read_by_the_servers_filters(text: str) -> None:
    """Any result is a number to the server, and a text is plain exactly where the server reads it as it is."""
    plain = plain_number(text)
    assert plain is None or number(plain) == float(plain)
    assert is_plain(text) == (number(text) == number(text))
