"""Whether the library of the graphs can be loaded here, asked before it is: native code ends a process where it cannot.

hnswlib has no wheels, so it is compiled wherever the server is packaged. `make server-wheels` compiles it for
x86-64-v3 and has the linker record that in the library, as a note that glibc reads too.
"""

from __future__ import annotations

import re
import struct
from importlib.util import find_spec
from pathlib import Path

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.inference.processor import instruction_sets

VERSION = "0.8.0"
BUILD = (
    f"HNSWLIB_NO_NATIVE=1 pip install --force-reinstall --no-deps --no-cache-dir --no-binary hnswlib hnswlib=={VERSION}"
)
"""Compiles it for every processor of this kind; it needs a C++ compiler and Python's headers."""

_HEADER_BYTES = 4096  # the program headers and the notes, which the linker puts first
_NOTE = re.compile(rb"\x04\0\0\0(....)\x05\0\0\0GNU\0", re.DOTALL)  # of type NT_GNU_PROPERTY_TYPE_0
_X86_ISA_NEEDED = 0xC0008002  # GNU_PROPERTY_X86_ISA_1_NEEDED of the x86-64 psABI
_X86_64_V3 = 4  # its bit of x86-64-v3

V3_SETS = ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
"""What x86-64-v3 adds to x86-64-v2, by Linux' names."""


def check_graph_library(name: str, files: Path = Path("/")) -> None:
    """Check that a library of graphs is installed and was built for processors such as this one.

    Args:
        name: A key of `LIBRARIES`.
        files: Where /proc is.

    Raises:
        LookalikeError: FAILED_PRECONDITION, with what to do.
    """
    if name != "hnswlib":  # Faiss chooses its instructions when it is loaded
        return
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"graph_library: hnswlib is not installed; leave it at faiss, or build it: {BUILD}",
        )
    available = instruction_sets(files)
    missing = [each for each in V3_SETS if each not in available]
    # A system that does not say what its processor has is trusted.
    if available and missing and needs_x86_64_v3(Path(spec.origin)):
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"graph_library: hnswlib was built for x86-64-v3, and this processor has no {', '.join(missing)}; "
            f"leave it at faiss, or build hnswlib here: {BUILD}",
        )


def needs_x86_64_v3(library: Path) -> bool:
    """Return whether an ELF library says that it needs x86-64-v3; False for one that says nothing.

    Raises:
        OSError: It cannot be read.
    """
    with library.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    for note in _NOTE.finditer(head):
        at, end = note.end(), note.end() + int.from_bytes(note[1], "little")
        while at + 8 <= min(end, len(head)):
            kind, size = struct.unpack_from("<II", head, at)
            if kind == _X86_ISA_NEEDED:
                return bool(int.from_bytes(head[at + 8 : at + 8 + size], "little") & _X86_64_V3)
            at += 8 + -(-size // 8) * 8
    return False
