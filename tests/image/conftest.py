"""The image, built once for all tests here, in a store of podman that is emptied in the end."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.containers import IMAGE, Base, Podman, build, find_base
from support.image_layers import Layers, read_layers

_report: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in _report:
        terminalreporter.write_line(f"image-test: {line}")


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines for the end of the run."""
    return _report


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Podman, in a store of its own."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed: apt-get install podman runc buildah mmdebstrap")
    folder = tmp_path_factory.mktemp("podman")
    engine = Podman(folder)
    try:
        yield engine
    finally:
        engine.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def base(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The image that the Dockerfile starts from."""
    found = find_base(podman, tmp_path_factory.mktemp("base"))
    podman.choose_runtime(found.name)
    _report.append(f"base: {found.source} ({podman.inspect(found.name)['Size'] / 1e6:.0f} MB)")
    return found


@pytest.fixture(scope="session")
def secret() -> str:
    """A word in a file that only the build may read."""
    return f"secret-{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def image(podman: Podman, base: Base, secret: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image's name."""
    began = time.monotonic()
    build(podman, base, tmp_path_factory.mktemp("build"), secret)
    _report.append(f"built in {time.monotonic() - began:.0f} s")
    return IMAGE


@pytest.fixture(scope="session")
def layers(podman: Podman, base: Base, image: str, secret: str, tmp_path_factory: pytest.TempPathFactory) -> Layers:
    """What the Dockerfile's own layers hold."""
    archive = tmp_path_factory.mktemp("saved") / "image.tar"
    podman("save", "--quiet", "--format", "docker-archive", "--output", str(archive), image)
    words = [
        secret,
        *(value for name, value in os.environ.items() if name.endswith(("TOKEN", "PASSWORD", "INDEX_URL"))),
    ]
    read = read_layers(archive, len(podman.inspect(base.name)["RootFS"]["Layers"]), *filter(None, words))
    archive.unlink()
    sizes = " + ".join(f"{size / 1e6:.1f}" for size in read.sizes)
    _report.append(f"size: {podman.inspect(image)['Size'] / 1e6:.0f} MB, of which layers of ours {sizes} MB")
    _report.append("largest: " + ", ".join(f"{name} {size:.0f}" for name, size in list(read.megabytes())[:12]) + " MB")
    return read


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The model folder that `make run` serves."""
    from support.paths import ROOT

    folder = (ROOT / "models" / "default").resolve()
    if not (folder / "model.json").is_file():
        pytest.skip("models/default is missing: make models/default/model.json")
    return folder
