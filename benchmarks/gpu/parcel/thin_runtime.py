"""Cuts ONNX Runtime's wheel for CUDA down to what one GPU architecture needs to run networks of convolutions.

The CUDA provider holds machine code for several architectures, and nine tenths of it are kernels of language models:
attention, mixtures of experts, matrices of 4 bits. Code that is left out is overwritten with zeros in place, so that
each fat binary's header still says what the CUDA runtime looks for; a kernel without code fails when it is launched.

The layout of fat binaries is undocumented; it is read as cuobjdump shows it: a header of magic u32 0xba55ed50, version
u16, header bytes u16, payload bytes u64; then entries of kind u16, version u16, header bytes u32, payload bytes u64,
compressed bytes u32 at 16, architecture u32 at 28, bytes when uncompressed u64 at 56. Compressed payloads are zstd.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

CUDA_PROVIDER = "onnxruntime/capi/libonnxruntime_providers_cuda.so"

UNUSED_FILES = (
    "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
    "onnxruntime/capi/libonnxruntime.so",  # Python has the same code in its own extension
    "onnxruntime/transformers/",
    "onnxruntime/quantization/",
    "onnxruntime/tools/",
)

UNUSED_KERNELS = re.compile(rb"flash|llm|moe|attention|fpA_intB|fmha|xqa|paged|cutlass", re.IGNORECASE)
"""In the names of kernels of language models; CUTLASS serves those alone, as cuDNN and cuBLAS do convolutions."""

_MAGIC = struct.pack("<I", 0xBA55ED50)
_ZSTD = b"\x28\xb5\x2f\xfd"
_KERNEL = re.compile(rb"\.text\.([\w$.]+)")


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of a fat binary: a program for one architecture, and where its bytes are."""

    architecture: int
    start: int
    end: int
    compressed_bytes: int
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Thinned:
    """Bytes of machine code that were kept, left out for another architecture, and left out as never launched."""

    kept: int
    other_architectures: int
    unused: int


def fat_binaries(library: bytearray) -> Iterator[list[Code]]:
    """Yield the entries of each fat binary of a library."""
    at = 0
    while (at := library.find(_MAGIC, at)) >= 0:
        _, version, header, size = struct.unpack_from("<IHHQ", library, at)
        if version != 1 or header != 16 or at + header + size > len(library):
            at += len(_MAGIC)
            continue
        entry, end = at + header, at + header + size
        entries = []
        while entry < end:
            _, _, entry_header, payload = struct.unpack_from("<HHIQ", library, entry)
            (compressed,) = struct.unpack_from("<I", library, entry + 16)
            (architecture,) = struct.unpack_from("<I", library, entry + 28)
            (raw,) = struct.unpack_from("<Q", library, entry + 56)
            start = entry + entry_header
            entries.append(Code(architecture, start, start + payload, compressed, raw))
            entry = start + payload
        yield entries
        at = end


def kernels(library: bytearray, code: Code) -> list[bytes]:
    """Return the mangled names of a program's kernels."""
    data = bytes(library[code.start : code.end])
    if data.startswith(_ZSTD):
        data = zstandard.ZstdDecompressor().decompress(data[: code.compressed_bytes], max_output_size=code.raw_bytes)
    return _KERNEL.findall(data)


def thin(library: bytearray, architecture: int) -> Thinned:
    """Overwrite in place the code of other architectures, and programs all of whose kernels are never launched."""
    kept = others = unused = 0
    for entries in fat_binaries(library):
        for code in entries:
            size = code.end - code.start
            if code.architecture != architecture:
                others += size
            elif (names := kernels(library, code)) and all(map(UNUSED_KERNELS.search, names)):
                unused += size
            else:
                kept += size
                continue
            library[code.start : code.end] = bytes(size)
    return Thinned(kept, others, unused)


def unpack_thin(wheel: Path, folder: Path, architecture: int) -> Thinned:
    """Unpack a wheel of onnxruntime-gpu into a folder, thinned.

    Raises:
        ValueError: It has no code for this architecture.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if not name.startswith(UNUSED_FILES)])
    path = folder / CUDA_PROVIDER
    library = bytearray(path.read_bytes())
    thinned = thin(library, architecture)
    if not thinned.kept:
        raise ValueError(f"{wheel.name} has no code for sm_{architecture}")
    path.write_bytes(library)
    return thinned
