"""The command `doctor`, and what `serve` logs of it."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lookalike_server.__main__ import main
from lookalike_server.doctor.checks import CHECKS
from lookalike_server.doctor.limits import OWN_FILES
from support.paths import MODELS, ROOT
from support.pem_files import Authority
from support.processes import server_process

MODEL = ("--model", str(MODELS / "tiny"))
NEW = ("--provider", "cpu", "--listen", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the environment that the tests run in."""
    for key in [key for key in os.environ if key.upper().startswith("LOOKALIKE_")]:
        monkeypatch.delenv(key)


def examined(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit status of `doctor --json`, and its checks by name."""
    ran = CliRunner().invoke(main, ["doctor", "--json", *arguments])
    assert ran.exit_code in (0, 1), ran.output
    report = json.loads(ran.stdout)
    assert list(report) == ["version", "status", "checks"]
    for check in report["checks"]:
        assert list(check) == ["check", "status", "message", "remedy", "facts"]
    statuses = {each["status"] for each in report["checks"]}
    assert report["status"] == next((each for each in ("error", "warning") if each in statuses), "ok")
    assert ran.exit_code == int(report["status"] == "error")
    return ran.exit_code, {each["check"]: each for each in report["checks"]}


def run_process(*arguments: str, prepare: Callable[[], object] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the server's in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lookalike_server", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=prepare,
    )


def test_a_machine_that_can_serve(tmp_path: Path) -> None:
    """Every check is reported once, in order, none is an error, and nothing is left behind."""
    data = tmp_path / "data"
    code, checks = examined(*MODEL, *NEW, "--data-dir", str(data))
    assert (code, tuple(checks)) == (0, CHECKS)
    assert {checks[name]["status"] for name in ("settings", "model", "provider", "model_run", "data_dir")} == {"ok"}
    assert not list(tmp_path.iterdir())


def test_a_line_for_each_check(tmp_path: Path) -> None:
    """Without --json each check is one line of its status, its name and what was found, and the last line counts."""
    ran = CliRunner().invoke(main, ["doctor", *MODEL, *NEW, "--data-dir", str(tmp_path / "data")])
    *lines, last = ran.stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(CHECKS)
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "error", "skipped"}
    assert last.endswith("skipped")


def test_wrong_settings(tmp_path: Path) -> None:
    """A setting that cannot be is the only finding, in the words of `serve`."""
    code, checks = examined("--data-dir", str(tmp_path), "--max-batch-size", "many", *MODEL)
    assert (code, list(checks)) == (1, ["settings"])
    assert "max_batch_size" in checks["settings"]["message"]


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    """The settings are those of `serve`, from the same places."""
    config = tmp_path / "lookalike.toml"
    config.write_text(f'model = "{MODELS / "tiny"}"\ndata_dir = "{tmp_path / "shop"}"\nlisten = "127.0.0.1:0"\n')
    code, checks = examined("--config", str(config), "--provider", "cpu")
    assert code == 0
    assert checks["data_dir"]["facts"]["folder"] == str(tmp_path / "shop")


def test_several_errors_at_once(tmp_path: Path) -> None:
    """A missing model, a missing file of keys and a taken port are all found by one run, which exits with 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, checks = examined(
            *("--model", str(tmp_path / "none"), "--data-dir", str(tmp_path / "data"), "--provider", "cpu"),
            *("--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--auth-keys-file", str(tmp_path / "keys.json")),
        )
    assert code == 1
    assert {name for name, each in checks.items() if each["status"] == "error"} == {"model", "auth_keys", "port"}


def test_beside_the_server(tmp_path: Path) -> None:
    """While a server runs its port, its lock and its catalog are its own; for another port the catalog is taken."""
    tmp_path.chmod(0o700)
    with server_process(MODELS / "tiny", tmp_path, "--provider", "cpu") as server:
        address = ("--listen", server.address)
        code, checks = examined(*MODEL, "--data-dir", str(tmp_path), "--provider", "cpu", *address)
        if checks["data_dir"]["facts"]["locked_by"] is None:
            pytest.skip("this kernel does not list locks in /proc/locks")
        assert code == 0, checks
        assert checks["data_dir"]["facts"]["locked_by"] == server.process.pid
        assert (checks["port"]["facts"]["health"], checks["catalog"]["status"]) == ("SERVING", "ok")
        code, checks = examined(*MODEL, "--data-dir", str(tmp_path), *NEW)
        assert (code, checks["data_dir"]["status"]) == (1, "error")


def test_beside_a_server_that_asks_for_certificates(tmp_path: Path) -> None:
    """A server with mutual TLS answers nobody without a certificate, and is still known by its lock and its port."""
    authority = Authority(tmp_path)
    pair = authority.pair("server", "127.0.0.1")
    tls = (
        *("--tls-certificate-file", str(pair.certificate), "--tls-key-file", str(pair.key)),
        *("--tls-client-ca-file", str(authority.pem)),
    )
    data = tmp_path / "data"
    with server_process(MODELS / "tiny", data, "--provider", "cpu", *tls) as server:
        arguments = (*MODEL, "--data-dir", str(data), "--provider", "cpu", "--listen", server.address, *tls)
        code, checks = examined(*arguments)
        if checks["data_dir"]["facts"]["locked_by"] is None:
            pytest.skip("this kernel does not list locks in /proc/locks")
        assert (code, checks["port"]["facts"]["health"]) == (0, "NOT_ASKED"), checks


def test_nothing_secret(tmp_path: Path) -> None:
    """Neither keys nor what damaged files of keys hold is printed, whatever is wrong with them."""
    keys = tmp_path / "keys.json"
    token = (
        CliRunner().invoke(main, ["keys", "add", "shop", "--role", "admin", "--auth-keys-file", str(keys)]).stdout
    ).split()[0]
    stored = json.loads(keys.read_text())["keys"][0]
    pair = Authority(tmp_path).expired("server", "127.0.0.1")
    private = [line for line in pair.key.read_text().splitlines() if not line.startswith("-")]
    arguments = [
        *(*MODEL, *NEW, "--data-dir", str(tmp_path / "data"), "--auth-keys-file", str(keys)),
        *("--tls-certificate-file", str(pair.certificate), "--tls-key-file", str(pair.key)),
    ]
    printed = [CliRunner().invoke(main, ["doctor", *arguments, *form]).output for form in ((), ("--json",))]
    assert all("expired" in each and "1 keys" in each for each in printed)
    keys.write_text(f'{{"format": 1, "keys": [{{"id": "{token}", "sha256": "{stored["sha256"]}"')
    pair.key.write_text(pair.key.read_text().replace("BEGIN", "BEGINNING"))
    printed += [CliRunner().invoke(main, ["doctor", *arguments, *form]).output for form in ((), ("--json",))]
    for output in printed:
        for secret in (token, stored["sha256"], stored["salt"], *private):
            assert secret not in output


def test_few_open_files(tmp_path: Path) -> None:
    """A process with few open files is warned, with status 0, and one with enough is not."""
    arguments = ("doctor", "--json", *MODEL, *NEW, "--data-dir", str(tmp_path / "data"), "--max-connections", "50")

    def status(limit: int) -> str:
        limited = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, limit))
        ran = run_process(*arguments, prepare=limited)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return next(str(each["status"]) for each in json.loads(ran.stdout)["checks"] if each["check"] == "open_files")

    assert status(50 + OWN_FILES) == "ok"
    assert status(49 + OWN_FILES) == "warning"


def machine_checked(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Return the first line of the log of `serve`, which ends for want of a model."""
    none = ("--model", str(tmp_path / "none"), "--data-dir", str(tmp_path / "data"), "--log-format", "json")
    ran = run_process("serve", *none, "--listen", "127.0.0.1:0", *arguments)
    lines = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert [each["event"] for each in lines].count("machine_checked") == 1
    first: dict[str, Any] = lines[0]
    assert first["event"] == "machine_checked"
    return first


def test_a_start_logs_the_short_form(tmp_path: Path) -> None:
    """The first line of a start has a field for each check that found something, and the level says so."""
    plain = machine_checked(tmp_path)
    assert "open_files" not in plain or plain["level"] == "warning"
    many = machine_checked(tmp_path, "--max-connections", "1000000")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1_000_000:
        assert many["level"] == "warning"
        assert "--max-connections 1000000 needs" in many["open_files"]
    pair = Authority(tmp_path).expired("server", "127.0.0.1")
    tls = ("--tls-certificate-file", str(pair.certificate), "--tls-key-file", str(pair.key))
    assert "expired on" in machine_checked(tmp_path, *tls)["certificate"]
    assert not (tmp_path / "data").exists()


def test_the_page_has_every_check() -> None:
    """The documentation has a line for each check, in their order, and no other."""
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert tuple(rows[: len(CHECKS)]) == CHECKS
