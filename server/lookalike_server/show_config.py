"""The settings in force as a TOML file that the server reads, with where each value came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookalike_server.config import Loaded, Settings


def toml_lines(loaded: Loaded) -> Iterator[str]:
    """Yield for each setting its description and its value; one without a value is a comment."""
    for name, field in Settings.model_fields.items():
        value = getattr(loaded.settings, name)
        yield f"# {field.description}"
        if field.is_required() and loaded.sources[name] == "default":
            yield f'# {name} = ""  # required, not set'
        elif value is None:
            yield f'# {name} = ""  # not set'
        else:
            yield f"{name} = {_toml(value)}  # {loaded.sources[name]}"


def _toml(value: Any) -> str:
    """Write a value; a text of TOML is one of JSON but for DEL."""
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()
