"""The session over ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from serving import MODELS

LOAD = """
import sys
from pathlib import Path
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.session import OnnxSession

OnnxSession(read_model_folder(Path(sys.argv[1])), "cpu", 1)
"""


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry is off: it leaves nothing in the home of the user, where it would keep its records."""
    without = {
        key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    subprocess.run(
        (sys.executable, "-c", LOAD, str(MODELS / "tiny")),
        env={**without, "HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert list(tmp_path.rglob("*")) == []
