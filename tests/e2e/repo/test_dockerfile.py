"""The Dockerfile, as far as it can be checked without a container engine; `make image-test` builds it."""

from __future__ import annotations

import re
import shlex
import subprocess

from support.paths import ROOT

LINES = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
INSTRUCTIONS = [line for line in LINES if line and not line.startswith("#")]


def stage(number: int) -> list[str]:
    """Return the instructions of one stage, its FROM first."""
    starts = [i for i, line in enumerate(INSTRUCTIONS) if line.startswith("FROM ")]
    ends = [*starts[1:], len(INSTRUCTIONS)]
    return INSTRUCTIONS[starts[number] : ends[number]]


def test_every_stage_is_on_the_base() -> None:
    """The base is an argument, and every stage is on it, so that they have the same Python; no digest is made up."""
    froms = [line.split() for line in INSTRUCTIONS if line.startswith("FROM ")]
    assert [line[1:] for line in froms] == [
        ["${BASE}", "AS", "dependencies"],
        ["dependencies", "AS", "builder"],
        ["${BASE}"],
    ]
    assert INSTRUCTIONS[0] == "ARG BASE=python:3.12-slim"


def test_copied_files_exist_and_are_in_the_build_context() -> None:
    """Every source of a COPY is in the repository and not excluded by .dockerignore."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignore[0] == "*"
    included = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copies = [shlex.split(line)[1:-1] for line in INSTRUCTIONS if line.startswith("COPY ") and "--from" not in line]
    sources = [source for copy in copies for source in copy]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == one or source.startswith(f"{one}/") for one in included)


def test_make_targets_exist_and_find_their_files() -> None:
    """Every `make` of a stage is a target, and its recipe names only files that were copied."""
    runs = [line for line in (*stage(0), *stage(1)) if line.startswith("RUN ")]
    targets = [word for line in runs for word in re.findall(r"\bmake ([\w-]+)", line)]
    assert set(targets) == {"dependency-wheels", "own-wheels"}
    copied = {"Makefile", "proto", "server"}
    for target in targets:
        recipe = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        named = re.findall(r"(?<![\w/.-])(?:\./)?(\w+)/[\w./-]+\.(?:lock|in|toml|py)", recipe)
        assert named or "./server" in recipe
        assert set(named) <= copied
        assert set(re.findall(r"\./(\w+)", recipe)) <= copied


def test_runtime_stage_has_no_compiler_and_no_tensorflow() -> None:
    """The runtime stage copies what the others installed from wheels alone: no compiler, no pip, no TensorFlow."""
    runtime = "\n".join(stage(2))
    assert not re.search(r"\b(apt-get|pip|g\+\+|gcc|make|build-essential|tensorflow)\b", runtime)
    installs = [line for line in (*stage(0), *stage(1)) if "pip --python" in line]
    assert len(installs) == 2
    assert all("--no-index" in line for line in installs)
    locked = (ROOT / "server" / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^(tensorflow|keras|tf2onnx)", locked, re.MULTILINE)


def test_runtime_is_not_root_and_has_a_health_check() -> None:
    """The container runs as a user of its own, by number as Kubernetes asks, checks its health, and serves."""
    runtime = stage(2)
    user = next(line for line in runtime if line.startswith("USER "))
    assert re.fullmatch(r"USER [1-9]\d+:[1-9]\d+", user)
    assert any(line.startswith("HEALTHCHECK ") and '"lookalike-server", "health"' in line for line in runtime)
    assert runtime[-1] == 'CMD ["serve"]'


def test_settings_in_the_environment_exist() -> None:
    """Every LOOKALIKE_ variable of the image is a setting."""
    from lookalike_server.config import Settings

    names = re.findall(r"LOOKALIKE_(\w+)=", "\n".join(stage(2)))
    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)
