"""The model folder appears whole or not at all."""

import errno
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lookalike_exporter.output.folder import write_folder


class Interrupted(Mapping[str, bytes]):
    """Files of which the second never comes: Ctrl-C falls between."""

    def __getitem__(self, name: str) -> bytes:
        if name == "model.json":
            raise KeyboardInterrupt
        return b"graph"

    def __iter__(self) -> Iterator[str]:
        return iter(["model.onnx", "model.json"])

    def __len__(self) -> int:
        return 2


def names(place: Path) -> list[str]:
    """List a folder, hidden entries included."""
    return sorted(entry.name for entry in place.iterdir())


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """An interrupt between two files leaves neither a folder nor a temporary one."""
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "mine", Interrupted(), force=False)
    assert names(tmp_path) == []


def test_interrupted_replacement_keeps_the_old(tmp_path: Path) -> None:
    """With --force an interrupt leaves the old folder as it was."""
    write_folder(tmp_path / "mine", {"model.onnx": b"old"}, force=False)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "mine", Interrupted(), force=True)
    assert names(tmp_path) == ["mine"]
    assert (tmp_path / "mine" / "model.onnx").read_bytes() == b"old"


@pytest.mark.parametrize("swap_in_one_step", [True, False])
def test_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, swap_in_one_step: bool) -> None:
    """Whether the system can exchange two names or not, the new folder is in place and the old one gone."""
    if not swap_in_one_step:
        monkeypatch.setattr(sys, "platform", "another")
    write_folder(tmp_path / "mine", {"model.onnx": b"old", "model.json": b"{}"}, force=False)
    write_folder(tmp_path / "mine", {"model.onnx": b"new"}, force=True)
    assert names(tmp_path) == ["mine"]
    assert names(tmp_path / "mine") == ["model.onnx"]
    assert (tmp_path / "mine" / "model.onnx").read_bytes() == b"new"


def test_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    """A write that the system cuts short is an OSError, and nothing is left."""
    program = (
        "import resource, sys; from pathlib import Path; from lookalike_exporter.output.folder import write_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_folder(Path(sys.argv[1]), {'model.onnx': bytes(5000)}, force=False)\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "mine"], check=False)
    assert done.returncode == errno.EFBIG
    assert names(tmp_path) == []


def test_parents_are_made(tmp_path: Path) -> None:
    """The folders above --out need not exist."""
    write_folder(tmp_path / "a" / "b" / "mine", {"model.json": b"{}"}, force=False)
    assert names(tmp_path / "a" / "b") == ["mine"]
