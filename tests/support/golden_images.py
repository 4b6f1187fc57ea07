"""Writes `tests/golden/images`: files of all kinds, and the pixels that the server and the exporter make of them.

`python -m support.golden_images` writes them again, which is right only where other pixels are wanted: every model
with images of that kind would give other embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike_server.domain.inference import ColorManagement, EncodedImage, Pixels, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from support.color_profiles import cmyk_profile, gray_profile, rgb_profile, transform_to
from support.images import PNG_SIGNATURE, chunk, exif, png, save, with_alpha
from support.paths import GOLDEN

FOLDER = GOLDEN / "images"
EXPECTED = FOLDER / "expected.npz"
HEIGHT, WIDTH = 16, 24

WAYS = [(resize, color) for resize in Resize for color in ColorManagement]


def name_of(file: Path, resize: str, color_management: str) -> str:
    """Return the name of the pixels that a file gives in one way."""
    return f"{file.name} {resize} {color_management}"


def decode(file: Path, resize: Resize, color: ColorManagement) -> Pixels:
    """Decode a file as the server does."""
    decoder = ImageDecoder(HEIGHT, WIDTH, resize, 10**6, 10**6, color_management=color)
    return decoder.decode(EncodedImage(file.read_bytes(), None, "image"))


def draw(width: int = 96, height: int = 72) -> Image.Image:
    """Draw colors of all kinds and some edges."""
    across, down = np.linspace(0, 1, width)[np.newaxis], np.linspace(0, 1, height)[:, np.newaxis]
    channels = (across + 0 * down, down + 0 * across, 0.5 + 0.5 * np.sin(7 * across + 3 * down))
    pixels = (np.stack(channels, axis=-1) * 255).round().astype(np.uint8)
    pixels[height // 4 : height // 3, width // 2 :] = (250, 20, 30)
    return Image.fromarray(pixels)


def with_transparent_color(depth: int, color_type: int) -> bytes:
    """Write a PNG in which black is transparent."""
    samples = np.asarray(draw() if color_type == 2 else draw().convert("L")).astype(">u2" if depth == 16 else ">u1")
    samples = samples * (257 if depth == 16 else 1)
    samples[20:40, 20:60] = 0
    data = png(samples.shape[1], samples.shape[0], depth, color_type, [row.tobytes() for row in samples])
    at = len(PNG_SIGNATURE) + 25
    return data[:at] + chunk(b"tRNS", bytes(6 if color_type == 2 else 2)) + data[at:]


def files() -> Iterator[tuple[str, bytes]]:
    """Draw every file."""
    image, large = draw(), draw(501, 403)
    yield "plain.jpg", save(image, "JPEG", quality=90)
    yield "large.jpg", save(large, "JPEG", quality=80)
    yield "large-turned.jpg", save(large, "JPEG", quality=80, exif=exif(6))
    yield "mirrored.jpg", save(large, "JPEG", quality=80, progressive=True, exif=exif(7))
    yield "gray.jpg", save(image.convert("L"), "JPEG")
    yield "cmyk.jpg", save(image.convert("CMYK"), "JPEG")
    yield "cmyk-profile.jpg", save(image.convert("CMYK"), "JPEG", icc_profile=cmyk_profile())
    yield "p3.jpg", save(transform_to(image, "Display P3"), "JPEG", icc_profile=rgb_profile("Display P3"))
    yield "srgb.jpg", save(image, "JPEG", icc_profile=rgb_profile("sRGB"))
    yield "damaged-profile.jpg", save(image, "JPEG", icc_profile=rgb_profile("Adobe RGB")[:200])
    yield "transparent.png", save(with_alpha(image), "PNG")
    yield "gray-transparent.png", save(with_alpha(image).convert("LA"), "PNG")
    yield "palette-transparent.png", save(image.quantize(16), "PNG", transparency=bytes(range(0, 256, 16)))
    for depth in (8, 16):
        for kind, color_type in (("gray", 0), ("color", 2)):
            yield f"transparent-color-{kind}-{depth}.png", with_transparent_color(depth, color_type)
    yield (
        "gray-16.png",
        png(96, 72, 16, 0, [row.tobytes() for row in np.asarray(image.convert("L")).astype(">u2") * 257]),
    )
    yield "romm.png", save(transform_to(image, "ROMM RGB"), "PNG", icc_profile=rgb_profile("ROMM RGB"))
    yield (
        "adobe-transparent.png",
        save(with_alpha(transform_to(image, "Adobe RGB")), "PNG", icc_profile=rgb_profile("Adobe RGB")),
    )
    yield "gray-profile.png", save(image.convert("L"), "PNG", icc_profile=gray_profile(1.0))
    yield "adobe.webp", save(transform_to(image, "Adobe RGB"), "WEBP", icc_profile=rgb_profile("Adobe RGB"))
    yield "transparent.webp", save(with_alpha(image), "WEBP", lossless=True)
    yield "p3.avif", save(transform_to(image, "Display P3"), "AVIF", icc_profile=rgb_profile("Display P3"))
    yield "turned.avif", save(image, "AVIF", exif=exif(8))
    yield (
        "first-frame.gif",
        save(image.quantize(32), "GIF", save_all=True, append_images=[image.rotate(180).quantize(32)]),
    )
    yield "plain.bmp", save(image, "BMP")


def main() -> None:
    """Write the files and their pixels."""
    FOLDER.mkdir(exist_ok=True)
    expected = {}
    for name, data in files():
        file = FOLDER / name
        file.write_bytes(data)
        for resize, color in WAYS:
            expected[name_of(file, resize.value, color.value)] = decode(file, resize, color)
    np.savez_compressed(EXPECTED, allow_pickle=False, **expected)


if __name__ == "__main__":
    main()
