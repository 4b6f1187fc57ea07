"""`verify` and `reproduce` of a model folder from another working folder than that of its export."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from folders import manifest_of

from lookalike_exporter.cli.main import main
from lookalike_exporter.cli.options import relocated
from lookalike_exporter.errors import ExportError


def test_paths_are_from_the_model_folder(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export with a relative path is reproduced from anywhere, also when all of it was moved together."""
    here = tmp_path / "here"
    (here / "nets").mkdir(parents=True)
    shutil.copy(tiny, here / "nets" / "mine.keras")
    monkeypatch.chdir(here)
    command = ["export", "--model", "nets/mine.keras", "--preprocess", "tf", "--out", "models/mine"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert manifest_of(here / "models" / "mine")["arguments"][:2] == ["--model", "../../nets/mine.keras"]
    there = here.rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    again = ["reproduce", str(there / "models" / "mine"), "--out", str(tmp_path / "again")]
    result = CliRunner().invoke(main, again)
    assert (result.exit_code, "the same graph" in result.stdout) == (0, True), result.output
    # the file alone was moved
    (there / "nets" / "mine.keras").rename(tmp_path / "other.keras")
    result = CliRunner().invoke(main, [*again, "--force"])
    assert (result.exit_code, "no such model file, which model.json names; see --model-file" in result.stderr) == (
        1,
        True,
    )
    result = CliRunner().invoke(main, [*again, "--force", "--model-file", "other.keras"])
    assert (result.exit_code, "the same graph" in result.stdout) == (0, True), result.output


def test_other_arguments_stay(tmp_path: Path) -> None:
    """Words, absolute paths and paths of older manifests are left as they are, a weights file is found."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "imagenet.h5").touch()
    kept = ("--backbone", "resnet50", "--weights", "imagenet", "--eval-images", "elsewhere", "--parity-images", "/none")
    assert relocated(kept, tmp_path / "mine") == kept
    assert relocated(("--weights", "../imagenet.h5"), tmp_path / "mine") == (
        "--weights",
        str(tmp_path / "mine" / "../imagenet.h5"),
    )
    with pytest.raises(ExportError, match="no such model file"):
        relocated(("--model", "none.keras"), tmp_path / "mine")
