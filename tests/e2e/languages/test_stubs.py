"""The generated stubs of all languages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from e2e.languages.tours import build
from support.paths import ROOT

pytestmark = pytest.mark.slow

PROTO_BIN = ROOT / ".venv-proto" / "bin"


def check(root: Path, language: str) -> subprocess.CompletedProcess[str]:
    """Check whether a checkout's stubs are up to date."""
    return subprocess.run(
        [PROTO_BIN / "python", root / "proto/generate.py", "--check", language],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.timeout(900)  # with empty caches Go downloads and compiles its plugins
def test_stubs_are_up_to_date(language: str) -> None:
    """The stubs that buf generates are the committed ones, and for Java those that Maven generates at every build."""
    build(language)
    done = check(ROOT, language)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_stale_stubs_are_named(tmp_path: Path) -> None:
    """The stubs of a changed proto, and a stub whose proto was deleted, are named."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    (tmp_path / ".venv-proto").symlink_to(ROOT / ".venv-proto")
    stubs = tmp_path / "proto/python/lookalike/v1"
    (stubs / "gone_pb2.py").touch()
    (stubs / "response_stats_pb2.pyi").unlink()
    proto = tmp_path / "proto/lookalike/v1/image.proto"
    proto.write_text(proto.read_text(encoding="utf-8").replace("uint32 width = 1", "uint64 width = 1"))
    done = check(tmp_path, "python")
    assert done.returncode == 1
    assert [Path(line.split(";")[0]).name for line in done.stderr.splitlines()] == [
        "gone_pb2.py",
        "image_pb2.py",
        "response_stats_pb2.pyi",
    ]
