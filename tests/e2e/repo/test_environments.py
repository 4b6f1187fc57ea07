"""The installer of the environments obeys pip's configuration."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from support.paths import ROOT


def make_wheel(folder: Path) -> None:
    """Write the wheel of a package that no public index has in this version."""
    folder.mkdir()
    about = "carrier-0.0.7.dist-info"
    with zipfile.ZipFile(folder / "carrier-0.0.7-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carrier.py", "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 0.0.7\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


def install(configuration: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Install the package into a folder, with a file as pip's whole configuration."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    command = [str(ROOT / "tools" / "uv.sh"), "pip", "install", "--no-cache", "--target", str(target), "carrier==0.0.7"]
    environment = own | {"PIP_CONFIG_FILE": str(configuration)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def make_index(folder: Path, wheels: Path) -> None:
    """Write a package index over the wheels of a folder."""
    (folder / "carrier").mkdir(parents=True)
    links = "".join(f'<a href="{wheel.as_uri()}">{wheel.name}</a>' for wheel in wheels.glob("*.whl"))
    (folder / "carrier" / "index.html").write_text(f"<html><body>{links}</body></html>", encoding="utf-8")


@pytest.mark.parametrize("place", ["nowhere", "index-url", "extra-index-url", "find-links"])
def test_places_of_pip_are_obeyed(tmp_path: Path, place: str) -> None:
    """A package comes from the index, the second index and the links of pip's configuration, else from nowhere."""
    wheels, empty, full = tmp_path / "wheels", tmp_path / "empty", tmp_path / "full"
    make_wheel(wheels)
    make_index(full, wheels)
    empty.mkdir()
    places = {"index-url": empty.as_uri()}
    places |= {"find-links": f"\n    {empty}\n    {wheels}"} if place == "find-links" else {place: full.as_uri()}
    configuration = tmp_path / "pip.conf"
    configuration.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in places.items())]))
    done = install(configuration, tmp_path / "target")
    assert (done.returncode == 0) == (place != "nowhere"), done.stderr
    assert (tmp_path / "target" / "carrier.py").exists() == (place != "nowhere")
