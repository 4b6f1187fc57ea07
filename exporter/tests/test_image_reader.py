"""The exporter's reader gives the pixels that the server's gives: both are compared with the same golden files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike_exporter.image_reader import read_image
from lookalike_exporter.images import find_images
from lookalike_exporter.specs import InputSpec

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "images"
EXPECTED = GOLDEN / "expected.npz"
FILES = sorted(path for path in GOLDEN.iterdir() if path != EXPECTED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
@pytest.mark.parametrize("resize", ["bilinear", "nearest"])
@pytest.mark.parametrize("color_management", ["srgb", "none"])
def test_pixels(file: Path, resize: str, color_management: str) -> None:
    """Each differs from the server's by at most 1 of 255, which rounding in another order makes of it."""
    with np.load(EXPECTED) as expected:
        wanted = expected[f"{file.name} {resize} {color_management}"].astype(int)
    pixels = read_image(file, InputSpec(16, 24, resize, color_management=color_management))
    assert np.abs(pixels - wanted).max() <= 1


def test_every_golden_file_is_found() -> None:
    """No kind of file that the server reads, HEIC apart, is left out of a folder."""
    found = find_images(GOLDEN, InputSpec(16, 24, "bilinear"), 1000, pytest.fail)
    assert list(found.paths) == FILES


def test_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    """Whatever a decoder raises, the file is reported and the others are read."""
    for file in FILES:
        (tmp_path / file.name).write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    lines: list[str] = []
    found = find_images(tmp_path, InputSpec(16, 24, "bilinear"), 1000, lines.append)
    assert tmp_path / "whole.png" in found.paths
    assert len(lines) + len(found) == len(FILES) + 1
    assert len(lines) > len(FILES) // 2
