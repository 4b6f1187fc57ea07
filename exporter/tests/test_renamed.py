"""The names of before the first release are errors that name the new ones."""

import pytest
from click.testing import CliRunner

from lookalike_exporter.cli.main import main
from lookalike_exporter.cli.renamed import COMMANDS, OPTIONS


@pytest.mark.parametrize(("old", "new"), COMMANDS.items())
def test_renamed_command(old: str, new: str) -> None:
    """The error names the new command, which exists."""
    result = CliRunner().invoke(main, [old, "models/mine", "--out", "models/again"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: The command {old} has been renamed to {new}."
    assert new in main.commands


@pytest.mark.parametrize(("old", "new"), OPTIONS.items())
@pytest.mark.parametrize("form", ["{} x", "{}=x"])
def test_renamed_option(old: str, new: str, form: str) -> None:
    """The error names the new option, which the command has."""
    command = "verify" if old == "--most" else "export"
    result = CliRunner().invoke(main, [command, *form.format(old).split()])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: The option {old} has been renamed to {new}."
    assert new in [name for option in main.commands[command].params for name in option.opts]


def test_unknown_names_are_no_renamed_ones() -> None:
    """Any other command or option is as unknown as ever."""
    for arguments in (["rerun"], ["export", "--projection", "4"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert "No such" in result.stderr
        assert "renamed" not in result.stderr
