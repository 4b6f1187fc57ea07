"""The wheels have all that the programs need, without the checkout; `make release` installs them everywhere."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tools.release import DISTRIBUTIONS
from tools.release_install import PAGE, page_commands

from support.paths import MODELS, ROOT
from support.processes import SERVE, server_process

OURS = [folder for folder in DISTRIBUTIONS if folder != "exporter"]  # which has an environment of its own


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheels and install them, beside the dependencies of this environment; return their programs."""
    scratch = tmp_path_factory.mktemp("packages")
    for folder in OURS:
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
        shutil.copytree(ROOT / folder, scratch / "source" / folder, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", scratch / "env"], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install: list[str | Path] = [
        ROOT / "tools" / "uv.sh",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--offline",
    ]
    packages = next((scratch / "env" / "lib").glob("python*/site-packages"))
    # After our own wheels, which are found first. A plain path: the editable installs of its .pth files stay unseen.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    places = [scratch / "source" / folder for folder in OURS]
    subprocess.run([*install, "--python", scratch / "env" / "bin" / "python", *places], env=environment, check=True)
    return scratch / "env" / "bin"


def test_commands_of_the_page() -> None:
    """The page exports a model, serves it, imports a catalog and searches it, in that order."""
    words = [words[:2] for words in page_commands(PAGE)]
    assert words == [
        ["lookalike-exporter", "export"],
        ["lookalike-server", "serve"],
        ["lookalike", "wait"],
        ["lookalike", "import"],
        ["lookalike", "search"],
    ]


@pytest.mark.slow
def test_page_works_without_a_checkout(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed from wheels, the page's server serves, and its commands import a catalog and search it."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("shoe.jpg")
    Path("catalog.csv").write_text("product_id,gender,title,image\nS1,Men,Red,shoe.jpg\n", encoding="utf-8")
    where = "import lookalike_server, lookalike_client, lookalike; print(lookalike_server, lookalike_client, lookalike)"
    found = subprocess.run([programs / "python", "-c", where], capture_output=True, text=True, check=True).stdout
    assert str(ROOT) not in found
    command = (str(programs / "lookalike-server"), SERVE[-1])
    with server_process(MODELS / "tiny", tmp_path / "data", "--provider", "auto", command=command) as server:
        monkeypatch.setenv("LOOKALIKE_CLIENT_SERVER", server.address)
        shown = [
            subprocess.run(
                [str(programs / words[0]), *words[1:]], capture_output=True, text=True, timeout=120, check=True
            ).stdout
            for words in page_commands(PAGE)
            if words[0] == "lookalike"
        ]
    assert re.search(r"1\s+S1\s+Red\s+Men", shown[-1])
