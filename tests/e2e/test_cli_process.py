"""The command as a process: interrupted, with its output closed, and what importing the package loads."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lookalike_client import Client, ProductInput
from support.arrays import vectors
from support.catalogs import stored, write_products
from support.scripted_server import ScriptedServer

COMMAND = [sys.executable, "-c", "from lookalike_client.cli import main; main()"]


def start(server: ScriptedServer, *arguments: str) -> subprocess.Popen[str]:
    """Start the command, with its output captured."""
    return subprocess.Popen(
        [*COMMAND, "--server", server.address, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_an_interrupted_import_reports_what_is_in(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """Ctrl-C ends an import with the report so far, how to continue, exit status 130 and no traceback."""
    arrived, release = threading.Event(), threading.Event()

    def hold_the_second() -> None:
        if stored(real):
            arrived.set()
            release.wait()

    server.hooks["UpsertProducts"] = hold_the_second
    path = write_products(tmp_path, *"abc")
    with start(server, "import", str(path), "--batch", "1", "--concurrency", "1") as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        release.set()
    assert process.returncode == 130
    assert out.startswith("imported 1 ")
    assert "--skip-existing" in err
    assert "Traceback" not in err


def test_an_interrupted_call_is_quiet(server: ScriptedServer) -> None:
    """Ctrl-C during a call ends the command at once, without output."""
    arrived = threading.Event()
    server.set_serving(serving=False)
    server.on_watch = arrived.set
    with start(server, "wait") as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


def test_a_closed_pipe_is_quiet(server: ScriptedServer, real: Client) -> None:
    """When its output is closed there is no traceback."""
    products = [ProductInput(f"p{number:04}", "Men", vectors=[row]) for number, row in enumerate(vectors(300))]
    assert all(status.ok for status in real.upsert(products))
    for options in ([], ["--json"]):
        with start(server, *options, "search", "--id", "p0000", "-k", "299") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""


def test_importing_the_package_is_cheap() -> None:
    """The package does not import what only the command needs."""
    script = (
        "import sys, lookalike_client; "
        "print(sorted({'rich', 'click', 'PIL'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_names_every_command() -> None:
    """`lookalike --help` works without a server and lists the commands."""
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    commands = "embed search import export get image update delete categories model wait load quickstart"
    for command in commands.split():
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_the_library_needs_no_command_line(missing: str) -> None:
    """Without the extra `cli` the library can be imported, and the command says what to install."""
    absent = f"import sys; sys.modules[{missing!r}] = None; "

    def python(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", absent + code]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert python("import lookalike_client, lookalike_client.transfer.importer").returncode == 0
    done = python("from lookalike_client.cli import main")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"lookalike: the command needs {missing}, which is not installed: pip install 'lookalike-client[cli]'\n"
    )
