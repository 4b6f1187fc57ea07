"""The programs that `make deploy-tools` builds: helm, and readers of Kubernetes objects and compose files."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.paths import ROOT

CHART = ROOT / "deploy" / "helm" / "lookalike"
VALUES = Path(__file__).parent / "values"

BUILT = ROOT / ".tools" / "bin"


def run(name: str, *arguments: str | Path, stdin: str = "", environment: dict[str, str] | None = None) -> str:
    """Return what one of the programs prints; skip the test where it is not built.

    Raises:
        AssertionError: It fails; the message is its standard error.
    """
    program = BUILT / name
    if not program.exists():
        pytest.skip(f"{name} is not built: `make deploy-tools` does it where Go 1.26 or newer is installed")
    done = subprocess.run(
        (program, *arguments),
        input=stdin,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(*values: str | Path, changes: dict[str, Any] | None = None) -> str:
    """Return the objects of the chart as YAML, with these files of values and these `--set-json` changes."""
    files = [f"--values={path}" for path in values]
    sets = [f"--set-json={name}={json.dumps(value)}" for name, value in (changes or {}).items()]
    return run("helm", "template", "shop", CHART, "--namespace", "shop", *files, *sets)


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects of a YAML by kind and name."""
    documents = [each for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def pod(text: str) -> dict[str, Any]:
    """Return the pod's specification of the chart's deployment."""
    (deployment,) = [each for (kind, _), each in objects(text).items() if kind == "Deployment"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def container(text: str) -> dict[str, Any]:
    """Return the server's container, with its environment as `env` by name."""
    (server,) = pod(text)["containers"]
    return {**server, "env": {each["name"]: each.get("value") for each in server["env"]}}
