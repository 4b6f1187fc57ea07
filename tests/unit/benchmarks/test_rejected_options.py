"""The options of the benchmarks that are rejected."""

from __future__ import annotations

import pytest
from benchmarks.__main__ import main
from click.testing import CliRunner, Result

from support.paths import MODELS

pytestmark = pytest.mark.slow


def rejected(*options: str) -> Result:
    """Give options that are errors before anything is started."""
    result = CliRunner().invoke(main, ["--model", str(MODELS / "tiny"), *options], prog_name="benchmarks")
    assert result.exit_code == 2, result.output
    return result


@pytest.mark.parametrize(
    ("option", "value"), [("--loads", "1"), ("--loads", "two"), ("--workloads", "import"), ("--messages", "bomb")]
)
def test_what_cannot_be_measured_is_rejected(option: str, value: str) -> None:
    """A load that is none, and names that nobody knows, are errors before anything is started."""
    assert f"'{option}'" in rejected(option, value).stderr


@pytest.mark.parametrize(
    ("old", "new"), [("--figures", "--scenarios"), ("--systems", "--peers"), ("--callers", "--concurrency")]
)
def test_old_options_name_the_new_ones(old: str, new: str) -> None:
    """An option of before the first release is an error that names the new one, and nothing is measured."""
    assert f"The option {old} has been renamed to {new}." in rejected(old, "4").stderr
