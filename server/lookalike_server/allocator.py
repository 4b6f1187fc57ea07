"""Lets glibc give the memory of large images back to the system.

glibc's malloc maps large blocks of their own and unmaps them when they are freed, but whenever it frees one it raises
the size from which it does so, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD). Pillow holds images in blocks of at most
16 MiB, so after the first large image they come from the heaps, one for each few threads, and stay there: eight
threads that had decoded PNGs of 12 megapixels kept 1.5 GB. A size that is set does not rise.
"""

from __future__ import annotations

import ctypes
import os

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

# Above what a reduced JPEG or a batch of 16 images takes, so that those still come from the heap, at no system call.
_MMAP_BYTES = 4 << 20

# A size that is set for mapping leaves this one at 128 KiB, which would return and fetch memory for every image.
_TRIM_BYTES = 4 << 20

_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def return_freed_memory() -> bool:
    """Have malloc return large blocks when they are freed, in this process and those it forks; say whether it will.

    Changes nothing where the C library is not glibc, or where the environment sets malloc's thresholds.
    """
    if any(os.environ.get(name) for name in _VARIABLES):
        return False
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
        mallopt = ctypes.CDLL(None).mallopt
    except (ValueError, OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
