"""Old names of commands and options, and commands of distributions that are not installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoints

import pytest
from click.testing import Result

Lookalike = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "catalog.csv", "--in-flight", "2"), "--in-flight was renamed to --concurrency."),
        (("sample", "shop"), "The command sample was removed: make the sample catalog with"),
        (("import", "--nonsense"), "No such option '--nonsense'"),
        (("search", "--in-flight", "2"), "No such option '--in-flight'"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
)
def test_an_old_name_is_an_error_with_the_new_one(
    lookalike: Lookalike, arguments: tuple[str, ...], message: str
) -> None:
    """Exit status 2 and the new name; names that never existed have the usual error."""
    result = lookalike(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_load_without_its_distribution(lookalike: Lookalike, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lookalike load` says what to install, and is not in the help."""
    monkeypatch.setattr("lookalike_client.cli.app.entry_points", lambda **_: EntryPoints())
    result = lookalike("load", "--rate", "5")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("is not installed: pip install lookalike-loadtest\n")
    assert "  load " not in lookalike("--help").stdout


def test_load_with_its_distribution(lookalike: Lookalike) -> None:
    """`lookalike load` is in the help, and has its own."""
    assert "  load " in lookalike("--help").stdout
    assert "--find-capacity" in lookalike("load", "--help").stdout
