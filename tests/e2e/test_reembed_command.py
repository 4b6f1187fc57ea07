"""The command `lookalike-server reembed`: its output, how it is interrupted, and a full disk."""

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
from support.reembed_fixtures import DISTINCT, NEW, SHOP, everything, fill, item, reembed_catalog
from support.serving import Serve, encoded, noise

REEMBED = (sys.executable, "-m", "lookalike_server", "reembed")
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
    """Return the folder of a catalog with the shop's products, embedded by the old model."""
    async with serve() as served:
        await fill(served)
    return tmp_path / "data"


def command(data: Path, *arguments: str, program: tuple[str, ...] = REEMBED) -> tuple[int, str, str]:
    """Run the command; return its exit status, standard output and log."""
    words = (*program, "--model", str(NEW), "--data-dir", str(data), *QUICK, *arguments)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_output(data: Path) -> None:
    """It logs its progress and prints the outcome, and when it is run again that there is nothing to do."""
    model = f"model tiny-euclidean ({read_model_folder(NEW).model.digest[:12]})"
    code, said, logged = command(data)
    embedded = f"{len(SHOP)} products, {DISTINCT} images embedded"
    assert (code, said) == (0, f"{data} now has the embeddings of {model}: {embedded}\n")
    assert f'"done": {DISTINCT}, "total": {DISTINCT}' in logged
    assert command(data) == (0, f"{data} already has the embeddings of {model}; nothing to do\n", "")


@pytest.mark.slow
async def test_products_that_are_deleted(serve: Serve, data: Path) -> None:
    """Products that cannot be embedded again end it with exit status 1; with --drop-missing it prints how many."""
    async with serve(max_stored_image_bytes=0) as served:
        await fill(served, [item("lost", encoded(noise(70)))])
    code, said, logged = command(data)
    assert (code, said) == (1, "")
    assert "lookalike-server: 1 product has an embedding whose image is not stored: 'lost'. " in logged
    code, said, _ = command(data, "--drop-missing")
    assert code == 0
    assert said.endswith("\n1 products deleted that could not be embedded again\n")


@pytest.mark.slow
def test_while_it_is_served(data: Path) -> None:
    """The folder of a running server is rejected in one sentence."""
    with server_process(NEW.with_name("tiny"), data):
        code, said, logged = command(data)
    assert (code, said) == (1, "")
    assert f"lookalike-server: another server is using {data}; stop it" in logged


@pytest.fixture
async def many(serve: Serve, data: Path) -> Path:
    """Return the shop with more products, so many that the command still runs when a signal arrives."""
    async with serve() as served:
        await fill(served, [item(f"p{seed}", encoded(noise(seed, side=512))) for seed in range(100, 100 + MORE)])
    return data


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_the_user(many: Path, signal_number: int) -> None:
    """Ctrl-C, or a container's stop, ends it with one sentence, and the next run resumes."""
    before = everything(many)
    words = (*REEMBED, "--model", str(NEW), "--data-dir", str(many), *QUICK, "--log-level", "debug")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "batch_completed" in line:
                break
        process.send_signal(signal_number)
        *_, last = process.stderr
        assert process.wait(60) == 130
    assert last == "lookalike-server: stopped; run the same command to resume. The old model can still serve\n"
    assert everything(many) == before
    done = reembed_catalog(many)
    assert done.embedded + done.resumed == DISTINCT + MORE


LIMITED = """
import resource, sys
from lookalike_server.__main__ import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


@pytest.mark.slow
def test_a_disk_that_is_full(many: Path) -> None:
    """Wherever a write fails, the error says so, the catalog is unchanged, and the next run resumes."""
    before, failures = everything(many), 0
    for limit in (20_000, 75_000, 200_000, 10_000_000):
        code, _, logged = command(many, program=(sys.executable, "-c", LIMITED, str(limit), "reembed"))
        if code == 0:
            break
        failures += 1
        assert code == 1
        assert f"lookalike-server: cannot use {many / 'catalog.sqlite'}: " in logged
        assert "The catalog is unchanged; the same command resumes where this one stopped" in logged
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
    assert logged[0] == {"event": "reembedding", "log_level": "info", "done": 1, "total": 14400}
    assert (logged[1]["done"], logged[1]["per_second"]) == (5, 4.0)
    assert logged[-1]["done"] == 14400
    assert len(logged) < 200
