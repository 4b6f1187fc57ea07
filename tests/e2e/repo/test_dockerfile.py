"""The Dockerfile, as far as it can be checked without a container engine; that it builds is not tested here."""

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


def test_two_stages() -> None:
    """There are a builder and a runtime stage, on the same Python."""
    froms = [line.split() for line in INSTRUCTIONS if line.startswith("FROM ")]
    assert len(froms) == 2
    assert froms[0][1] == froms[1][1]
    assert froms[0][2:] == ["AS", "builder"]


def test_copied_files_exist_and_are_in_the_build_context() -> None:
    """Every source of a COPY is in the repository and not excluded by .dockerignore."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignore[0] == "*"
    copies = [shlex.split(line)[1:-1] for line in INSTRUCTIONS if line.startswith("COPY ")]
    sources = [source for copy in copies for source in copy if not source.startswith("--")]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignore


def test_make_targets_exist_and_find_their_files() -> None:
    """Every `make` of the builder is a target, and its recipe names only files that the builder copied."""
    targets = [word for line in stage(0) for word in re.findall(r"\bmake ([\w-]+)", line) if line.startswith("RUN ")]
    targets = [target for target in targets if target != "install"]
    assert targets
    copied = {"Makefile", "proto", "server"}
    for target in targets:
        recipe = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        named = re.findall(r"(?<![\w/.-])(?:\./)?(\w+)/[\w./-]+\.(?:lock|in|toml|py)", recipe)
        assert named
        assert set(named) <= copied
        assert set(re.findall(r"\./(\w+)", recipe)) <= copied


def test_runtime_stage_has_no_compiler_and_no_tensorflow() -> None:
    """The runtime stage installs wheels from the builder alone: no compiler, no make, no TensorFlow, no index."""
    runtime = "\n".join(stage(1))
    assert "apt-get" not in runtime
    assert not re.search(r"\b(g\+\+|gcc|make|build-essential|tensorflow)\b", runtime)
    assert "--no-index" in runtime
    locked = (ROOT / "server" / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^(tensorflow|keras|tf2onnx)", locked, re.MULTILINE)


def test_runtime_is_not_root_and_has_a_health_check() -> None:
    """The container runs as a user of its own, has a health check with the health command, and serves."""
    runtime = stage(1)
    user = next(line for line in runtime if line.startswith("USER "))
    assert user.split()[1] not in {"root", "0"}
    assert any(line.startswith("HEALTHCHECK ") and '"lookalike-server", "health"' in line for line in runtime)
    assert runtime[-1] == 'CMD ["serve"]'


def test_settings_in_the_environment_exist() -> None:
    """Every LOOKALIKE_ variable of the image is a setting."""
    from lookalike_server.config import Settings

    names = re.findall(r"LOOKALIKE_(\w+)=", "\n".join(stage(1)))
    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)
