"""The command `lookalike-server reembed` as a user runs it: what it says, how it is stopped, a full disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.reembed import ProgressLog
from support.processes import server_process
from support.reembed_fixtures import DISTINCT, NEW, SHOP, everything, fill, item, remade
from support.serving import Serve, encoded, noise

REBUILD = (sys.executable, "-m", "lookalike_server", "rebuild")
MORE = 150
QUICK = (
    "--intra-op-threads",
    "1",
    "--max-concurrent-batches",
    "1",
    "--preferred-batch-size",
    "1",
    "--log-format",
    "json",
)


@pytest.fixture
async def data(serve: Serve, tmp_path: Path) -> Path:
    """The shop, as the old model left it."""
    async with serve() as served:
        await fill(served)
    return tmp_path / "data"


def command(data: Path, *arguments: str, program: tuple[str, ...] = REBUILD) -> tuple[int, str, str]:
    """Exit status, what was said and what was logged."""
    words = (*program, "--model", str(NEW), "--data-dir", str(data), *QUICK, *arguments)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_what_it_says(data: Path) -> None:
    """It logs how far it is, says what became of the catalog, and the second time that there was nothing to do."""
    named = f"{data} is of model tiny-euclidean ({read_model_folder(NEW).model.digest[:12]})"
    code, said, logged = command(data)
    assert (code, said) == (0, f"{named} now: {len(SHOP)} products, {DISTINCT} images embedded\n")
    assert f'"done": {DISTINCT}, "of": {DISTINCT}' in logged
    assert command(data) == (0, f"{named} already: nothing to do\n", "")


async def test_products_that_are_removed(serve: Serve, data: Path) -> None:
    """What cannot be embedded again is rejected with exit status 1, and with --drop-missing its number is told."""
    async with serve(max_stored_image_bytes=0) as served:
        await fill(served, [item("lost", encoded(noise(70)))])
    code, said, logged = command(data)
    assert (code, said) == (1, "")
    assert "lookalike-server: 1 product has an embedding whose image is not kept: 'lost'. " in logged
    code, said, _ = command(data, "--drop-missing")
    assert code == 0
    assert said.endswith("\n1 removed that could not be embedded again\n")


def test_while_it_is_served(data: Path) -> None:
    """The folder of a server is rejected in a sentence."""
    with server_process(NEW.with_name("tiny"), data):
        code, said, logged = command(data)
    assert (code, said) == (1, "")
    assert f"lookalike-server: another server is using {data}; stop it" in logged


@pytest.fixture
async def many(serve: Serve, data: Path) -> Path:
    """The shop with more products, so many that a rebuild cannot be over before a signal is there."""
    async with serve() as served:
        await fill(served, [item(f"p{seed}", encoded(noise(seed, side=512))) for seed in range(100, 100 + MORE)])
    return data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_the_user(many: Path, number: int) -> None:
    """Ctrl-C, or a container's stop, ends it with a sentence, and the next run goes on from there."""
    before = everything(many)
    words = (*REBUILD, "--model", str(NEW), "--data-dir", str(many), *QUICK, "--log-level", "debug")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "batch_completed" in line:
                break
        process.send_signal(number)
        *_, last = process.stderr
        assert process.wait(60) == 130
    assert last == "lookalike-server: stopped; the same command goes on from here, and the old model can serve\n"
    assert everything(many) == before
    done = remade(many)
    assert done.embedded + done.found == DISTINCT + MORE


LIMITED = """
import resource, sys
from lookalike_server.__main__ import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


def test_a_disk_that_is_full(many: Path) -> None:
    """Wherever a write fails, the message says so, the catalog is as it was, and the next run goes on from there."""
    before, failures = everything(many), 0
    for limit in (20_000, 75_000, 200_000, 10_000_000):
        code, _, logged = command(many, program=(sys.executable, "-c", LIMITED, str(limit), "rebuild"))
        if code == 0:
            break
        failures += 1
        assert code == 1
        assert f"lookalike-server: cannot use {many / 'catalog.sqlite'}: " in logged
        assert "The catalog is as it was; the same command goes on where this one stopped" in logged
        assert "Traceback" not in logged
        assert everything(many) == before
    assert failures > 1
    assert everything(many)["model"] != before["model"]


def test_progress_is_logged_seldom() -> None:
    """It logs at most once a second, less often the longer it takes, and always at the end."""
    now = [100.0]
    log = ProgressLog(lambda: now[0])
    with structlog.testing.capture_logs() as logged:
        for done in range(1, 4 * 3600 + 1):
            log(done, 4 * 3600)
            now[0] += 0.25
    assert logged[0] == {"event": "embedding", "log_level": "info", "done": 1, "of": 14400}
    assert (logged[1]["done"], logged[1]["per_second"]) == (5, 4.0)
    assert logged[-1]["done"] == 14400
    assert len(logged) < 200
