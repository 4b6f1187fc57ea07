"""The command as a process: interrupted, its output not read, and what importing the package costs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from support.catalogs import write_products
from support.fake_server import FakeServer

COMMAND = [sys.executable, "-c", "from lookalike_client.cli import main; main()"]


def start(fake: FakeServer, *arguments: str) -> subprocess.Popen[str]:
    """The command, its output captured."""
    return subprocess.Popen(
        [*COMMAND, "--server", fake.address, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_an_interrupted_import_reports_what_is_in(fake: FakeServer, tmp_path: Path) -> None:
    """Ctrl-C ends an import with the report so far, how to continue, exit code 130 and no traceback."""
    arrived, release = threading.Event(), threading.Event()

    def hold_the_second() -> None:
        if fake.products:
            arrived.set()
            release.wait()

    fake.on_upsert = hold_the_second
    path = write_products(tmp_path, *"abc")
    with start(fake, "import", str(path), "--batch", "1", "--concurrency", "1") as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        release.set()
    assert process.returncode == 130
    assert out.startswith("imported 1 ")
    assert "--skip-existing" in err
    assert "Traceback" not in err


def test_an_interrupted_question_is_quiet(fake: FakeServer) -> None:
    """Ctrl-C while a call is under way ends the command at once, without a word."""
    arrived = threading.Event()
    fake.set_serving(serving=False)
    fake.on_watch = arrived.set
    with start(fake, "wait") as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


def test_a_closed_pipe_is_quiet(fake: FakeServer) -> None:
    """When nobody reads the output any more there is no traceback."""
    for number in range(300):
        fake.put(f"p{number:04}")
    for options in ([], ["--json"]):
        with start(fake, *options, "search", "--id", "p0000", "-k", "299") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""


def test_importing_the_package_is_cheap() -> None:
    """Code that only asks does not load what only the command needs."""
    script = (
        "import sys, lookalike_client; "
        "print(sorted({'rich', 'click', 'PIL'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_names_every_command() -> None:
    """`lookalike --help` works without a server and lists the commands."""
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    commands = "embed search import export get image update delete categories model wait sample load quickstart"
    for command in commands.split():
        assert f"  {command} " in done.stdout
