"""The bill of materials that `make image` writes beside the image."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from support.containers import Podman
from support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(3600)]


def test_the_bill_has_what_is_installed_at_the_versions_of_the_lock(podman: Podman, image: str, tmp_path: Path) -> None:
    """Each component is a package of the lock file at its version, or ours, and those that matter are there."""
    python, file = ROOT / ".venv-release" / "bin" / "python", tmp_path / "image.cdx.json"
    if not python.exists():
        pytest.skip("cyclonedx-py is not there: make .venv-release/ready")
    subprocess.run([python, "-m", "tools.sbom", "image", image, file, *podman.command], cwd=ROOT, check=True)
    found = {(one["name"].replace("_", "-"), one["version"]) for one in json.loads(file.read_text())["components"]}
    lock = (ROOT / "server" / "requirements.lock").read_text(encoding="utf-8")
    ours = {one for one in found if one[0] in {"lookalike-server", "lookalike-proto"}}
    assert len(ours) == 2
    assert found - ours <= set(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    assert {"onnxruntime", "grpcio", "faiss-cpu", "hnswlib"} <= {name for name, _ in found}
