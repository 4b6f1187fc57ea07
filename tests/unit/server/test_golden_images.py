"""Image files of all kinds give the pixels that they gave; the exporter's tests compare its reader with the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.inference import ColorManagement, Resize
from support.golden_images import EXPECTED, FOLDER, WAYS, decode, name_of

FILES = sorted(path for path in FOLDER.iterdir() if path != EXPECTED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
@pytest.mark.parametrize(("resize", "color"), WAYS)
def test_pixels(file: Path, resize: Resize, color: ColorManagement) -> None:
    """They differ by at most 1 of 255, as decoders may on other processors."""
    with np.load(EXPECTED) as expected:
        wanted = expected[name_of(file, resize.value, color.value)].astype(int)
    assert np.abs(decode(file, resize, color) - wanted).max() <= 1


def test_the_files_differ_by_what_they_are_for() -> None:
    """A reader that ignored profiles, transparency or orientation would not pass."""
    with np.load(EXPECTED) as expected:
        pixels = {name: expected[name].astype(int) for name in expected.files}
    assert len(pixels) == len(FILES) * len(WAYS)
    for name in ("p3.jpg", "romm.png", "adobe.webp", "p3.avif", "gray-profile.png", "cmyk-profile.jpg"):
        managed, plain = (pixels[f"{name} bilinear {way}"] for way in ("srgb", "none"))
        assert np.abs(managed - plain).mean() > 2
    deep, shallow = (pixels[f"transparent-color-color-{depth}.png bilinear srgb"] for depth in (16, 8))
    assert np.abs(deep - shallow).max() <= 1
    assert shallow[6, 10].tolist() == [255, 255, 255]
    assert np.abs(pixels["large.jpg bilinear none"] - pixels["large-turned.jpg bilinear none"]).mean() > 5
