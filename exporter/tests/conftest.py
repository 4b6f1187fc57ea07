"""The command line in this process, and what is exported once for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from networks import Run, feature_map

from lookalike_exporter.cli.main import main
from lookalike_exporter.evaluation import speed


@pytest.fixture(scope="session", autouse=True)
def short_timing() -> Iterator[None]:
    """Time variants for a moment only: no test depends on how fast they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "ROUND_SECONDS", 0.01)
        yield


@pytest.fixture(scope="session")
def run() -> Run:
    """`lookalike-exporter export` with these arguments."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, ["export", *map(str, arguments)])

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as a .keras file."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.keras"
    feature_map().save(path)
    return path


@pytest.fixture(scope="session")
def squeezenet(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SqueezeNet with its ImageNet weights, exported once, the weights downloaded into a fresh cache."""
    folder = tmp_path_factory.mktemp("squeezenet")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        result = run("--backbone", "squeezenet", "--weights", "imagenet", "--out", folder / "squeezenet")
    assert result.exit_code == 0, result.output
    return folder / "squeezenet"
