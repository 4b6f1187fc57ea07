"""The two programs of clients/python/README.md run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.paths import MODELS, ROOT
from support.processes import server_process

PAGE = (ROOT / "clients" / "python" / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MAX_LINES = 42


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Run a server, and make a folder with the images that the programs read."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "images").mkdir()
    for name, color in (("a", "red"), ("b", "blue"), ("c", "green")):
        Image.new("RGB", (64, 48), color).save(folder / "images" / f"{name}.jpg")
    with server_process(MODELS / "tiny", folder / "store") as process:
        yield process.address, folder


def run(program: str, server: tuple[str, Path]) -> subprocess.CompletedProcess[str]:
    """Run a program against the server; it must succeed."""
    address, folder = server
    code = program.replace("127.0.0.1:50051", address)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )


def test_programs_are_short() -> None:
    """There are two programs, one of each kind, of about forty lines."""
    assert [("AsyncClient" in program) for program in PROGRAMS] == [False, True]
    assert all(len(program.splitlines()) <= MAX_LINES for program in PROGRAMS)


def test_program_without_event_loop(server: tuple[str, Path]) -> None:
    """It stores and imports with progress, searches with a crop and filters, and shows an error's fields."""
    done = run(PROGRAMS[0], server)
    lines = done.stdout.splitlines()
    assert lines[0] == "S1 OK "
    assert lines[1] == "S2 OK "
    assert lines[2].startswith("S3 INVALID_ARGUMENT ")
    assert lines[3].split()[1:] == ["S1", "Red", "sneaker"]  # S2 has no price, and the imported ones no color
    assert lines[4] == "INVALID_ARGUMENT ['k'] None"
    assert done.stderr.endswith("3 of 3")


def test_program_with_event_loop(server: tuple[str, Path]) -> None:
    """It imports with progress, stores, searches at once with a crop, filters and a product, and shows an error."""
    done = run(PROGRAMS[1], server)
    first, *results, error = done.stdout.splitlines()
    assert first == "B1 OK"
    assert len(results) == 3
    assert "'B1'" in results[1]
    assert "'B1'" not in results[2]
    assert error.startswith("NOT_FOUND ")
    assert done.stderr.endswith("3 of 3")
