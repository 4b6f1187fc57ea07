"""Numbers as shops write them, `1,299` or `12.50 EUR`, which the server's range filters do not read."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""What the server's filters read: its `domain/filters.py`."""

_SYMBOLS = "$¢£¥₩₪₫€₱₴₸₹₺₽฿"
_CURRENCY = rf"(?:[A-Z]{{0,3}}[{_SYMBOLS}]|[A-Z]{{3}}|Rs\.?|kr\.?|zł)"
_DRESSED = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:{_CURRENCY})?\s*(?P<second>[+-]?)(?P<digits>[\d.,'’\s]*\d)\s*(?:{_CURRENCY})?", re.ASCII
)
_BLANKS = re.compile("[\u00a0\u2007\u2009\u202f]")
_LAYOUTS = (
    (re.compile(r"\d+(\.\d+)?|\.\d+"), "", "."),
    (re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?"), ",", "."),
    (re.compile(r"\d{1,2}(,\d{2})+,\d{3}(\.\d+)?"), ",", "."),  # India's lakhs
    (re.compile(r"\d+,\d+"), "", ","),
    (re.compile(r"\d{1,3}(\.\d{3})+,\d+|\d{1,3}(\.\d{3}){2,}"), ".", ","),
    (re.compile(r"\d{1,3}([ '’]\d{3})+(\.\d+)?"), " '’", "."),
    (re.compile(r"\d{1,3}([ '’]\d{3})+,\d+"), " '’", ","),
)
"""How digits are grouped and where the fraction begins; the first that fits: `1,299` is 1299, `12,50` is 12.50."""


def is_plain(text: str) -> bool:
    """Return whether the server's filters read it as a number."""
    return _PLAIN.fullmatch(text) is not None


def plain_number(text: str) -> str | None:
    """Return a number as the server's filters read it, without currency and grouping; None where it is none."""
    if is_plain(text):
        return text
    match = _DRESSED.fullmatch(_BLANKS.sub(" ", text.replace("\N{MINUS SIGN}", "-")))
    if match is None or (match["sign"] and match["second"]):
        return None
    for layout, groups, point in _LAYOUTS:
        if layout.fullmatch(match["digits"]):
            digits = match["digits"].translate(str.maketrans("", "", groups))
            return (match["sign"] or match["second"]).replace("+", "") + digits.replace(point, ".")
    return None
