"""The sample file of settings in deploy/."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from click.testing import CliRunner

from lookalike_server.__main__ import main
from lookalike_server.config import Settings
from support.paths import ROOT

FILE = ROOT / "deploy" / "lookalike.toml"
TEXT = FILE.read_text(encoding="utf-8")
COMMENTED = re.findall(r"^# (\w+ = .*)$", TEXT, re.MULTILINE)
EXAMPLES = [line for line in COMMENTED if "# example" in line]


def test_file_loads() -> None:
    """The server takes the file, and says of each of its keys that it came from there."""
    done = CliRunner().invoke(main, ["show-config", "--config", str(FILE)])
    assert done.exit_code == 0, done.output
    for name, value in tomllib.loads(TEXT).items():
        (line,) = [line for line in done.output.splitlines() if line.startswith(f"{name} = ")]
        assert tomllib.loads(line) == {name: value}
        assert str(FILE) in line


def test_everything_in_it_exists(tmp_path: Path) -> None:
    """With every comment taken off, the server takes the file as well."""
    whole = re.sub(r"^# (\w+ = )", r"\1", TEXT, flags=re.MULTILINE)
    assert len(tomllib.loads(whole)) == len(tomllib.loads(TEXT)) + len(COMMENTED)
    (tmp_path / "whole.toml").write_text(whole, encoding="utf-8")
    done = CliRunner().invoke(main, ["show-config", "--config", str(tmp_path / "whole.toml")])
    assert done.exit_code == 0, done.output


def test_commented_values_are_the_defaults() -> None:
    """What is commented out is the default, and an example where there is no default."""
    for line in COMMENTED:
        ((name, value),) = tomllib.loads(line).items()
        default = Settings.model_fields[name].default
        assert (default is None) if line in EXAMPLES else value == default, line
