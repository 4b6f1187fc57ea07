"""The memory of large images goes back to the system once they are decoded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image

from lookalike_server.allocator import return_freed_memory
from support.images import save

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Eight threads that live on, as a server's do, decode images of 48 MB each, three times.
DECODE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from lookalike_server.allocator import return_freed_memory
from lookalike_server.domain.inference import EncodedImage, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
def resident():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS:"))
if sys.argv[1] == "set":
    print(return_freed_memory())
else:
    print("control")
decoder = ImageDecoder(224, 224, Resize.BILINEAR, 10**8, 10**8)
image = EncodedImage(sys.stdin.buffer.read(), None, "image")
decoder.decode(image)  # by malloc's own rules, the first large block that is freed is the last that goes back
with ThreadPoolExecutor(8) as pool:
    before = resident()
    for _ in range(3):
        list(pool.map(lambda _: decoder.decode(image), range(8)))
    print(resident() - before)
"""


def kept(mode: str, **environment: str) -> tuple[str, int]:
    """Return whether malloc was set, and the bytes that a process keeps of the images that it decoded."""
    data = save(Image.new("RGBA", (4000, 3000), (1, 2, 3, 4)), "PNG", compress_level=1)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", DECODE, mode]
    ran = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True, env=clean | environment)
    was_set, resident = ran.stdout.split()
    return was_set.decode(), int(resident)


def glibc() -> bool:
    """Whether the C library is glibc."""
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError):
        return False


@pytest.mark.skipif(not glibc(), reason="the C library is not glibc")
def test_memory_goes_back() -> None:
    """What eight threads took for large images goes back; by malloc's own rules a multiple of it stays."""
    was_set, after = kept("set")
    assert was_set == "True"
    assert after < 8 * 10_000_000
    _, control = kept("control")
    assert control > 2 * after


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_environment_goes_first(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever sets malloc's thresholds in the environment keeps them."""
    monkeypatch.setenv(name, "glibc.malloc.mmap_threshold=131072" if name == "GLIBC_TUNABLES" else "131072")
    assert not return_freed_memory()
