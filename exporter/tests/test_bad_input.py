"""Bad usage, bad files and bad networks are rejected in one line, with nothing left on disk."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from networks import Run, feature_map


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --backbone"),
        (["--backbone", "resnet50"], "needs --weights"),
        (["--backbone", "alexnet", "--weights", "random"], "'alexnet' is not one of"),
        (["--backbone", "resnet50", "--weights", "imagenet", "--seed", "1"], "--seed is for"),
        (["--backbone", "resnet50", "--weights", "random", "--seed", "-1"], "not in the range"),
        (["--backbone", "resnet50", "--weights", "random", "--layer", "conv1"], "--layer is for"),
        (["--backbone", "resnet50", "--weights", "random", "--input-size", "12by8"], "give HEIGHTxWIDTH"),
        (["--model", "x.keras"], "needs --preprocess"),
        (["--model", "x.keras", "--preprocess", "tf", "--backbone", "resnet50"], "brings its own weights"),
        (["--model", "x.keras", "--preprocess", "tf", "--weights", "random"], "brings its own weights"),
        (["--model", "x.keras", "--preprocess", "tf", "--seed", "1"], "brings its own weights"),
        (["--model", "x.keras", "--preprocess", "tf", "--precision", "int4"], "'int4' is not"),
        (["--model", "x.keras", "--preprocess", "tf", "--precision", "int8"], "needs --calibration-images"),
        (["--model", "x.keras", "--preprocess", "tf", "--calibration-images", "."], "is for --precision int8"),
        (["--model", "x.keras", "--preprocess", "tf", "--eval-images", "."], "--eval-images is for"),
        (["--model", "x.keras", "--preprocess", "tf", "--min-recall", "0.5"], "--min-recall is for"),
        (["--model", "x.keras", "--preprocess", "tf", "--allow-quality-drop"], "--allow-quality-drop is for"),
        (["--model", "x.keras", "--preprocess", "tf", "--pca-dim", "4"], "needs --pca-images"),
        (["--model", "x.keras", "--preprocess", "tf", "--pca-images", "."], "--pca-images is for"),
        (["--model", "x.keras", "--preprocess", "tf", "--whiten"], "--whiten is for"),
        (["--model", "x.keras", "--preprocess", "tf", "--pca-dim", "0", "--pca-images", "."], "not in the range"),
        (["--model", "x.keras", "--preprocess", "tf", "--parity-images", "none-such"], "does not exist"),
    ],
)
def test_wrong_usage(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    """No option is accepted and ignored: a combination that would ignore one is a usage error, status 2."""
    result = run(*arguments, "--out", tmp_path / "mine")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_help_needs_no_tensorflow() -> None:
    """--help is quick: nothing heavy is imported for it."""
    program = (
        "import sys; from lookalike_exporter.cli.main import main\n"
        "try: main(['export', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "--parity-images" in done.stdout


def write_missing(_path: Path) -> None:
    """Write nothing."""


def write_text(path: Path) -> None:
    """Write text in place of a model."""
    path.write_text("not a model")


def write_half(path: Path) -> None:
    """Write the first half of a model."""
    feature_map().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("write", [write_missing, write_text, write_half])
def test_bad_model_file(run: Run, tmp_path: Path, suffix: str, write: Callable[[Path], None]) -> None:
    """A missing, foreign or cut-off model file is rejected in one line that names it."""
    path = tmp_path / f"bad{suffix}"
    write(path)
    assert_rejected(run, "--model", path, "--preprocess", "tf", out=tmp_path / "out", message=f"{path}: ")


def three_dimensions() -> Any:
    """A network whose output has three dimensions."""
    network = feature_map()
    return keras.Model(network.input, keras.layers.Reshape((80, 6))(network.output))


def no_fixed_size() -> Any:
    """A network that takes images of any size."""
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 3)(image))


def grayscale() -> Any:
    """A network that takes one channel."""
    image = keras.Input((32, 32, 1))
    return keras.Model(image, keras.layers.Conv2D(4, 3)(image))


def two_outputs() -> Any:
    """A network with two outputs."""
    image = keras.Input((32, 32, 3))
    return keras.Model(image, [keras.layers.Conv2D(4, 3)(image), keras.layers.Conv2D(4, 3)(image)])


def half_precision() -> Any:
    """A network one of whose layers computes in float16."""
    image = keras.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 3, dtype="float16", name="narrow")(image))


def dead() -> Any:
    """A network whose weights are all zero."""
    network = feature_map()
    network.set_weights([weight * 0 for weight in network.get_weights()])
    return network


def not_finite() -> Any:
    """A network with a weight that is not a number."""
    network = feature_map()
    network.set_weights([weight + float("nan") for weight in network.get_weights()])
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (three_dimensions, "[N, h, w, C] or vectors [N, dim], it is (None, 80, 6)"),
        (no_fixed_size, "fixed sizes, it is (None, None, None, 3)"),
        (grayscale, "it is (None, 32, 32, 1)"),
        (two_outputs, "it has 1 and 2"),
        (half_precision, "layer 'narrow' does not"),
        (dead, "all zero"),
        (not_finite, "not finite"),
    ],
)
def test_network_that_cannot_embed(run: Run, tmp_path: Path, network: Callable[[], Any], message: str) -> None:
    """A network of the wrong form, or that gives nothing comparable, is rejected with what is wrong with it."""
    network().save(tmp_path / "bad.keras")
    assert_rejected(run, "--model", tmp_path / "bad.keras", "--preprocess", "tf", out=tmp_path / "out", message=message)


def test_code_in_a_model_file_is_not_run(run: Run, tmp_path: Path) -> None:
    """A model file with a lambda inside is rejected, not executed."""
    image = keras.Input((32, 32, 3))
    keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save(tmp_path / "code.keras")
    assert_rejected(
        run, "--model", tmp_path / "code.keras", "--preprocess", "tf", out=tmp_path / "out", message="Lambda"
    )


def test_too_few_or_broken_parity_images(run: Run, tiny: Path, tmp_path: Path) -> None:
    """A parity folder must hold enough images, and each must be one."""
    images = tmp_path / "images"
    images.mkdir()
    arguments = ["--model", str(tiny), "--preprocess", "tf", "--parity-images", str(images)]
    assert_rejected(run, *arguments, out=tmp_path / "out", message="it has no image")
    (images / "0.jpg").write_text("not an image")
    assert_rejected(run, *arguments, out=tmp_path / "out", message="needs 16 images, there are 1")
    for number in range(16):
        (images / f"{number}.jpg").write_text("not an image")
    assert_rejected(run, *arguments, out=tmp_path / "out", message="cannot be decoded")


def test_existing_folder_is_kept_unless_forced(run: Run, tiny: Path, tmp_path: Path) -> None:
    """An existing --out is rejected before any work; --force replaces a model folder, and nothing else."""
    out = tmp_path / "mine"
    arguments = ["--model", tiny, "--preprocess", "tf", "--out", out]
    assert run(*arguments).exit_code == 0
    before = (out / "model.json").read_text()
    result = run(*arguments, "--resize", "nearest")
    assert result.exit_code == 1
    assert "--force replaces it" in result.stderr
    assert (out / "model.json").read_text() == before
    assert run(*arguments, "--resize", "nearest", "--force").exit_code == 0
    assert (out / "model.json").read_text() != before
    (out / "notes.txt").write_text("mine")
    result = run(*arguments, "--force")
    assert result.exit_code == 1
    assert "notes.txt" in result.stderr
    assert (out / "notes.txt").read_text() == "mine"


def assert_rejected(run: Run, *arguments: str | Path, out: Path, message: str) -> None:
    """Run an export that must fail in one line, with status 1 and nothing at or beside `out`."""
    before = sorted(out.parent.iterdir())
    result = run(*arguments, "--out", out)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.stderr.splitlines()[-1] == errors[0]
    assert message in errors[0]
    assert sorted(out.parent.iterdir()) == before
