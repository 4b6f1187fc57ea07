"""What is wrong with a setting's value, in the words of this project rather than of pydantic."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

_WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text, in quotes",
    "path_type": "must be a path, in quotes",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be one of {expected}",
    "string_too_short": "must not be empty",
}
"""What to say by pydantic's type of an error; its context fills the gaps."""


def setting_error(error: ValidationError) -> str:
    """Return the first wrong value of the settings as a sentence, and a missing setting only where none is wrong."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] != "missing"), errors[0])
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{name} is missing: set --{name.replace('_', '-')} or LOOKALIKE_{name.upper()}"
    context: dict[str, Any] = first.get("ctx", {})
    words = _WORDS.get(first["type"], first["msg"]).format(**context)
    return f"{name}: {words} (got {first['input']!r})"
