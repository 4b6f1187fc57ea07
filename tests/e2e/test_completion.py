"""`lookalike --install-completion` in the real shells."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lookalike_client.cli import main

PROGRAMS = Path(sys.executable).parent
SECONDS = 120


def variables(home: Path) -> dict[str, str]:
    """Return an environment with a home folder of its own, in which our programs are found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "LOOKALIKE_"))}
    return kept | {"HOME": str(home), "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "TERM": "dumb"}


def install(home: Path, *arguments: str, of: str = "") -> Result:
    """Run `lookalike --install-completion` for a user whose shell is `of`."""
    xdg: dict[str, str | None] = {"XDG_DATA_HOME": None, "XDG_CONFIG_HOME": None}
    return CliRunner().invoke(main, arguments, prog_name="lookalike", env=xdg | variables(home) | {"SHELL": of})


def program(name: str) -> str:
    """Return a shell's program, or skip the test."""
    if not (found := shutil.which(name)):
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return found


def completed(shell: list[str], home: Path, setup: str, typed: dict[str, str]) -> None:
    """Type into a shell on a terminal, after a line of its own, and wait for what Tab makes of each word."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(shell, env=variables(home), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""
    try:
        # In quotes, so that the line itself does not show what is waited for.
        for line, expected in {f"{setup}; echo 'set'' ''up'\n": "set up", **typed}.items():
            os.write(ours, line.encode())
            while expected not in shown:
                assert select.select([ours], [], [], SECONDS)[0], shown
                shown += os.read(ours, 4096).decode(errors="replace")
            os.write(ours, b"\x15")  # forget the line
    finally:
        process.kill()
        process.wait(timeout=SECONDS)
        os.close(ours)


def test_bash_completes(tmp_path: Path) -> None:
    """What is left to do where bash-completion is missing, as it is printed, completes `lookalike` and the server."""
    bash = program("bash")
    printed = install(tmp_path, "--install-completion", of="/usr/bin/bash").stdout
    assert f"wrote {tmp_path / '.local/share/bash-completion/completions/lookalike'}\n" in printed
    typed = {
        "lookalike catego\t": "lookalike categories",
        "lookalike search --group-l\t": "lookalike search --group-limit",
        "lookalike-server show-c\t": "lookalike-server show-config",
    }
    completed([bash, "--norc", "-i"], tmp_path, printed.splitlines()[-1].strip(), typed)


def test_zsh_completes(tmp_path: Path) -> None:
    """The line for ~/.zshrc, as it is printed, lets zsh complete commands."""
    zsh = program("zsh")
    command = install(tmp_path, "--install-completion=zsh").stdout.splitlines()[-1].strip()
    # -u, because the folders of a test's machine may be anybody's
    completed([zsh, "-f", "-i"], tmp_path, f"{command} -u", {"lookalike catego\t": "lookalike categories"})


def test_fish_completes(tmp_path: Path) -> None:
    """Nothing is left to do for fish: it completes commands and options, with what they are."""
    fish = program("fish")
    assert install(tmp_path, "--install-completion=fish").exit_code == 0
    done = subprocess.run(
        [fish, "-c", 'complete -C "lookalike cat"; complete -C "lookalike search --group-l"'],
        env=variables(tmp_path),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    commands, options = done.stdout.splitlines()
    assert commands == "categories\tList the categories."
    assert options.startswith("--group-limit\tThe most products per value")


@pytest.mark.parametrize(
    ("arguments", "of"), [(("--install-completion",), "/bin/tcsh"), (("--install-completion=csh",), "/bin/bash")]
)
def test_unknown_shell_is_an_error(tmp_path: Path, arguments: tuple[str, ...], of: str) -> None:
    """A shell that has no completion of ours is an error that names those that have, and nothing is written."""
    done = install(tmp_path, *arguments, of=of)
    assert done.exit_code == 1
    assert "--install-completion=bash|zsh|fish" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unwritable_home_is_an_error(tmp_path: Path) -> None:
    """A file that cannot be written is one line with its path."""
    (tmp_path / ".local").write_text("")
    done = install(tmp_path, "--install-completion=bash")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert str(tmp_path / ".local") in done.stderr
