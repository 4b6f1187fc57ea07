"""Fixtures of the tours' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.languages.tours import LANGUAGES, missing
from support.serving import encoded, noise


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
def image(tmp_path: Path) -> Path:
    """An image file."""
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(1)).encoded)
    return path


@pytest.fixture
def bad_image(tmp_path: Path) -> Path:
    """A file that is not an image."""
    path = tmp_path / "bad.jpg"
    path.write_text("not an image")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for images."""
    path = tmp_path / "folder"
    path.mkdir()
    return path
