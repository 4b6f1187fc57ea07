"""Installs wheels into a folder of their own, without a registry, beside what the machine's Python has already."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path


def environment_with(wheels: Path, runtime: Path | None, site: Path) -> dict[str, str]:
    """Return an environment in which these wheels come before what is installed, and PYTHONPATH before them.

    Args:
        wheels: A folder of wheels; all are installed, and nothing is resolved or fetched.
        runtime: A folder with ONNX Runtime unpacked, as a parcel has it.
        site: An empty folder for the packages.
    """
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        sys.exit(f"{wheels} has no wheels")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--root-user-action", "ignore", "--target", str(site)]
    subprocess.run([*command, *found], check=True)
    if runtime is not None:
        shutil.copytree(runtime, site, dirs_exist_ok=True)
    # ONNX Runtime looks for CUDA's libraries beside itself; where the wheels have none, the installed ones do
    if not (site / "nvidia").exists():
        package = importlib.util.find_spec("nvidia")
        for folder in (package.submodule_search_locations or []) if package else []:
            (site / "nvidia").symlink_to(folder)
            break
    paths = [os.environ.get("PYTHONPATH", ""), str(site)]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
