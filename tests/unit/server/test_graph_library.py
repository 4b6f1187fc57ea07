"""Whether the library of the graphs can be loaded on this processor."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.engine.graph_library import BUILD, V3_SETS, check_graph_library, needs_x86_64_v3
from lookalike_server.inference.processor import instruction_sets
from support.paths import ROOT

OLD = "fpu sse2 ssse3 sse4_1 sse4_2 popcnt cx16"


Compile = Callable[..., Path]


@pytest.fixture(scope="module")
def compile_hnswlib(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile an empty library under hnswlib's name with some flags, once, and return it."""
    compiler = shutil.which("g++")
    assert compiler is not None  # hnswlib is compiled with it too

    @cache
    def compiled(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("library")
        (folder / "empty.cpp").write_text("int hnswlib_stands_here = 1;")
        command = [compiler, "-shared", "-fPIC", *flags, "-o", "hnswlib.so", "empty.cpp"]
        subprocess.run(command, cwd=folder, check=True)
        return folder / "hnswlib.so"

    return compiled


def linked_for(level: str) -> list[str]:
    """Return the linker's flag for a level of x86-64; none for any processor."""
    return [f"-Wl,-z,{level}"] if level else []


def machine(folder: Path, flags: str) -> Path:
    """Write what Linux says of a processor."""
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\n", encoding="utf-8")
    return folder


x86_64_only = pytest.mark.skipif(
    not instruction_sets() or "sse2" not in instruction_sets(), reason="the marks are of x86-64 processors"
)


@x86_64_only
@pytest.mark.parametrize("level", ["", "x86-64-v2", "x86-64-v3"])
def test_level_is_read_from_the_library(compile_hnswlib: Compile, level: str) -> None:
    """A library that the linker marked for x86-64-v3 needs it; one for less, or without a mark, does not."""
    library = compile_hnswlib(*linked_for(level))
    assert needs_x86_64_v3(library) == (level == "x86-64-v3")


@x86_64_only
def test_makefile_marks_the_library(compile_hnswlib: Compile) -> None:
    """The flags with which `make server-wheels` compiles hnswlib mark it for x86-64-v3."""
    make = ["make", "--dry-run", "server-wheels"]
    recipe = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in recipe.splitlines() if "--no-cache-dir" in line]
    words = dict(word.split("=", 1) for word in line.split() if word.split("=", 1)[0].isupper())
    assert words["HNSWLIB_NO_NATIVE"] == "1"
    assert words["CFLAGS"] == words["CXXFLAGS"]
    assert needs_x86_64_v3(compile_hnswlib(words["CXXFLAGS"], words["LDFLAGS"]))


@x86_64_only
@pytest.mark.parametrize(
    ("flags", "built_for", "missing"),
    [
        (OLD, "x86-64-v3", "abm, avx, avx2, bmi1, bmi2, f16c, fma, movbe"),
        (f"{OLD} {' '.join(V3_SETS).replace('fma ', '')}", "x86-64-v3", "fma"),
        (f"{OLD} {' '.join(V3_SETS)}", "x86-64-v3", ""),
        (OLD, "", ""),
        ("", "x86-64-v3", ""),
    ],
    ids=["old", "without FMA", "new", "built here", "unknown"],
)
def test_processor_without_avx2_gets_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compile_hnswlib: Compile,
    flags: str,
    built_for: str,
    missing: str,
) -> None:
    """What the library was built for and the processor lacks is an error that says how to build it there."""
    monkeypatch.setattr(sys, "path", [str(compile_hnswlib(*linked_for(built_for)).parent)])
    monkeypatch.delitem(sys.modules, "hnswlib", raising=False)
    files = machine(tmp_path, flags)
    check_graph_library("faiss", files)
    if not missing:
        check_graph_library("hnswlib", files)
        return
    with pytest.raises(LookalikeError, match=f"has no {missing}; leave it at faiss, or build hnswlib here") as raised:
        check_graph_library("hnswlib", files)
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert str(raised.value).endswith(BUILD)


def test_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hnswlib is not installed, the error says so and how to build it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "hnswlib", raising=False)
    with pytest.raises(LookalikeError, match=r"hnswlib is not installed.*pip install"):
        check_graph_library("hnswlib")
