"""Fixtures of the tours' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.fake_server import FakeServer
from languages.tours import LANGUAGES, missing
from serving import encoded, noise


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    """Each language in turn, where it can be built."""
    if reason := missing(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(params=[name for name in LANGUAGES if name != "python"])
def other(request: pytest.FixtureRequest) -> str:
    """Each language but Python, where it can be built."""
    if reason := missing(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture's file."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(noise(1)).encoded)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A file that is no picture."""
    path = tmp_path / "bad.jpg"
    path.write_text("not a picture")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for photos."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server that does as a test tells it."""
    with FakeServer() as server:
        yield server
