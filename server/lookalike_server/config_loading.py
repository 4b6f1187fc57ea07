"""Reads the settings: flags override LOOKALIKE_... variables, those a file, that the defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lookalike_server.config import PREFIX, Settings, flag, variable
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.renamed import SETTINGS as RENAMED
from lookalike_server.setting_errors import setting_error

CLIENT_PREFIX = "LOOKALIKE_CLIENT_"  # variables of the command line client, which may be set beside ours
CONFIG_VARIABLE = "LOOKALIKE_CONFIG"
NO_MODEL = Path()
"""The model where none is given, for commands that need none."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and for each where its value came from: a flag, a variable, a file, or "default"."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(flags: Mapping[str, Any], config: Path | None = None, *, complete: bool = True) -> Settings:
    """Load the settings; see `load`."""
    return load(flags, config, complete=complete).settings


def load(flags: Mapping[str, Any], config: Path | None = None, *, complete: bool = True) -> Loaded:
    """Load the settings with their sources.

    Args:
        flags: The command line's values by setting; None where a flag was not given.
        config: A TOML file; without it the file that LOOKALIKE_CONFIG names, if any.
        complete: Whether what serving needs must be there; without, a missing model is `NO_MODEL`.

    Raises:
        LookalikeError: FAILED_PRECONDITION with the setting at fault, its value, and what it may be.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    variables = _variables()
    if config is None and os.environ.get(CONFIG_VARIABLE):
        config = Path(os.environ[CONFIG_VARIABLE])
    read = {} if config is None else _read_toml(config)
    sources = (
        dict.fromkeys(Settings.model_fields, "default")
        | dict.fromkeys(read, str(config))
        | {key: variable(key) for key in variables}
        | {key: flag(key) for key in given}
    )
    values = read | variables | given
    if not complete and sources["model"] == "default":
        values["model"] = NO_MODEL
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _wrong(setting_error(error)) from None
    if complete:
        _check_tls(settings)
        _check_search_device(settings)
    return Loaded(settings, sources)


def _check_tls(settings: Settings) -> None:
    if (settings.tls_certificate_file is None) != (settings.tls_key_file is None):
        raise _wrong("tls_certificate_file and tls_key_file go together: give both, or neither")
    if settings.tls_client_ca_file and not settings.tls_certificate_file:
        raise _wrong("tls_client_ca_file needs TLS: give tls_certificate_file and tls_key_file too")


def _check_search_device(settings: Settings) -> None:
    if settings.search_device == "gpu" and settings.provider in ("cpu", "openvino"):
        raise _wrong(
            f"search_device gpu needs a GPU, and provider {settings.provider} uses none: set provider to auto, cuda or"
            " tensorrt, or search_device to cpu"
        )


def _variables() -> dict[str, str]:
    """Return our variables by setting; their names count in any case, and empty values do not."""
    values = {}
    for key, value in sorted((key.upper(), value) for key, value in os.environ.items() if value):
        if not key.startswith(PREFIX) or key == CONFIG_VARIABLE or key.startswith(CLIENT_PREFIX):
            continue
        name = key.removeprefix(PREFIX).lower()
        if name in RENAMED:
            raise _wrong(f"{key} was renamed to {variable(RENAMED[name])}")
        if name not in Settings.model_fields:
            raise _wrong(f"{key} is not a setting; {_remedy(name, variable)}")
        values[name] = value
    return values


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(f"cannot read the configuration {path}: {error}") from None
    for key, value in read.items():
        if key in Settings.model_fields:
            continue
        if key in RENAMED:
            raise _wrong(f"{key} in {path} was renamed to {RENAMED[key]}")
        if isinstance(value, dict):
            raise _wrong(f"{key} in {path} is a table; settings are not in tables, write them above the first one")
        raise _wrong(f"{key} in {path} is not a setting; {_remedy(key, str)}")
    return read


def _remedy(unknown: str, spell: Callable[[str], str]) -> str:
    """Say which setting is meant, in the spelling of its source, or where all are listed."""
    near = get_close_matches(unknown.lower().replace("-", "_"), Settings.model_fields, n=1)
    return f"did you mean {spell(near[0])}?" if near else "`lookalike-server show-config` lists them"


def _wrong(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)
