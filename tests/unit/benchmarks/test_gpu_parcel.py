"""The parcel for a GPU machine: code that is never launched is left out, and weights are rounded, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
import zstandard
from benchmarks.gpu.parcel.rounded_weights import VALUES, rounded, write_rounded
from benchmarks.gpu.parcel.thin_runtime import Thinned, fat_binaries, kernels, thin
from benchmarks.gpu.parcel.wheels import RUNTIME, carried, version_of
from onnx import numpy_helper

from lookalike_server.inference.manifest import read_model_folder
from support.paths import MODELS


def program(names: list[str], *, compressed: bool = True) -> tuple[bytes, int, int]:
    """Make what stands for a compiled program: its payload, the compressed bytes in it, and the bytes of the whole."""
    raw = b"\x7fELF" + b"".join(b"\0.text." + name.encode() + b"\0.nv.info" for name in names) + bytes(64)
    if not compressed:
        return raw, 0, 0
    data = zstandard.ZstdCompressor().compress(raw)
    return data + bytes(-len(data) % 8), len(data), len(raw)


def fat_binary(*programs: tuple[int, tuple[bytes, int, int]]) -> bytes:
    """Make a fat binary of programs, each with its architecture."""
    entries = b""
    for architecture, (payload, compressed, raw) in programs:
        header = struct.pack("<HHIQIIIIQQQQ", 2, 0x101, 64, len(payload), compressed, 0, 0, architecture, 0, 0, 0, raw)
        entries += header[:64].ljust(64, b"\0") + payload
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


FLASH, RELU, BOTH = (
    program(["_ZN11onnxruntime5flash16flash_fwd_kernelE"]),
    program(["_ZN11onnxruntime4cuda4ReluE"], compressed=False),
    program(["_ZN11onnxruntime5flash1aE", "_ZN11onnxruntime4cuda4CastE"]),
)


def test_only_code_that_is_launched_stays() -> None:
    """Of one architecture every program with a kernel that may be launched stays, bit by bit; the others are zeros."""
    parts = [
        b"host code",
        fat_binary((80, RELU), (90, FLASH), (90, RELU)),
        b"\x50\xed\x55\xbathe magic by chance",
        fat_binary((90, BOTH)),
        b"end",
    ]
    library = bytearray(b"".join(parts))
    whole = bytes(library)
    assert thin(library, 90) == Thinned(len(RELU[0]) + len(BOTH[0]), len(RELU[0]), len(FLASH[0]))
    assert len(library) == len(whole)
    (first, second, third), (fourth,) = fat_binaries(library)
    for left_out in (first, second):
        assert not any(library[left_out.start : left_out.end])
    for kept in (third, fourth):
        assert library[kept.start : kept.end] == whole[kept.start : kept.end]
    assert kernels(library, fourth) == [b"_ZN11onnxruntime5flash1aE", b"_ZN11onnxruntime4cuda4CastE"]
    # Nothing but code has changed: every header is still there.
    assert [at for at in range(len(whole)) if library[at] != whole[at] and not first.start <= at < second.end] == []


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_are_rounded_to_few_values(dtype: type[np.floating]) -> None:
    """A tensor keeps its shape, dtype and range, and no weight moves by more than half a step."""
    weights = np.random.default_rng(1).standard_normal((64, 3, 3, 8)).astype(dtype)
    found = rounded(weights)
    assert (found.shape, found.dtype) == (weights.shape, weights.dtype)
    assert len(np.unique(found)) <= VALUES
    step = (float(weights.max()) - float(weights.min())) / (VALUES - 1)
    assert np.abs(found.astype(float) - weights.astype(float)).max() <= step / 2 * 1.01
    assert np.array_equal(rounded(np.full(5, 2.0, dtype)), np.full(5, 2.0, dtype))


def test_a_rounded_model_is_a_model_folder(tmp_path: Path) -> None:
    """The server accepts it, by its new digest, and its description says that it is for speed alone."""
    source = tmp_path / "source"
    shutil.copytree(MODELS / "tiny", source)
    graph = onnx.load(source / "model.onnx")
    large = np.random.default_rng(2).standard_normal(5000).astype(np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(large, "large"))
    onnx.save(graph, source / "model.onnx")
    manifest = json.loads((source / "model.json").read_text())
    manifest |= {"weights": "random:1"}
    manifest["graph"]["sha256"] = hashlib.sha256((source / "model.onnx").read_bytes()).hexdigest()
    (source / "model.json").write_text(json.dumps(manifest))
    write_rounded(source, tmp_path / "out")
    assert "for speed alone" in read_model_folder(tmp_path / "out").model.weights
    before, after = (
        {each.name: numpy_helper.to_array(each) for each in onnx.load(folder / "model.onnx").graph.initializer}
        for folder in (source, tmp_path / "out")
    )
    assert len(np.unique(after.pop("large"))) <= VALUES
    before.pop("large")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_real_weights_are_never_rounded(tmp_path: Path) -> None:
    """A model whose weights mean something is an error, and nothing is written."""
    with pytest.raises(ValueError, match="only random ones are rounded"):
        write_rounded(MODELS / "tiny", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wheels_are_those_of_the_lock_file() -> None:
    """A parcel carries what the server imports, at the locked versions, without what is thinned or on the machine."""
    names = {requirement.partition("==")[0] for requirement in carried()}
    assert {"faiss-cpu", "grpcio", "pydantic", "pydantic-core", "structlog", "uvloop", "pillow"} <= names
    assert not names & {RUNTIME, "numpy", "hnswlib", "cryptography"}
    assert not any(name.startswith("nvidia") for name in names)
    assert version_of(RUNTIME).count(".") == 2
