"""The unit for systemd: systemd takes it, it lets the server do what that does, and its files agree with each other."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lookalike_server.config import Settings
from support.paths import MODELS, ROOT
from support.processes import SERVE, server_process

SYSTEMD = ROOT / "deploy" / "systemd"
UNIT = SYSTEMD / "lookalike.service"
COMMAND = Path(sys.executable).parent / "lookalike-server"
MOST_EXPOSED = 1.5


def section(name: str) -> dict[str, str]:
    """Return a section of the unit; of a directive that is given several times, the last value."""
    lines = UNIT.read_text(encoding="utf-8").partition(f"[{name}]\n")[2].partition("\n[")[0].splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; skip the test where it is not installed."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    command = ("systemd-analyze", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def configuration() -> Settings:
    """Return the settings of the configuration file."""
    return Settings(**tomllib.loads((SYSTEMD / "lookalike.toml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("change", ["", "NoNewPrivilege=yes\n"])
def test_verify(tmp_path: Path, change: str) -> None:
    """Systemd has nothing to say about the unit, and would about a directive that does not exist."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("/opt/lookalike/bin/lookalike-server", str(COMMAND))
    unit.write_text(text.replace("[Service]\n", f"[Service]\n{change}"), encoding="utf-8")
    done = analyze("verify", unit)
    assert (done.returncode, bool(done.stderr)) == (0, bool(change)), done.stderr


def test_exposure() -> None:
    """The unit is as closed as a server on the network can be: systemd's score is at most 1.5 of 10."""
    done = analyze("security", "--offline=yes", UNIT)
    score = re.search(r"exposure level for lookalike.service: ([0-9.]+)", done.stdout)
    assert score, done.stderr
    assert float(score[1]) <= MOST_EXPOSED


def test_files_agree() -> None:
    """The unit's time to stop, its folders and its user are those of the other files."""
    service, settings = section("Service"), configuration()
    assert float(service["TimeoutStopSec"]) == settings.lame_duck_seconds + settings.shutdown_grace_seconds + 8
    assert settings.data_dir.parent == Path("/var/lib") / service["StateDirectory"]
    users = (SYSTEMD / "lookalike.sysusers.conf").read_text(encoding="utf-8")
    assert f"u {service['User']} - " in users
    folders = (SYSTEMD / "lookalike.tmpfiles.conf").read_text(encoding="utf-8")
    group = f"root {service['Group']}"
    assert f"/etc/lookalike     0750 {group}" in folders
    for secret in (settings.tls_key_file, settings.auth_keys_file):
        assert re.search(rf"^z {secret} +0640 {group}$", folders, re.MULTILINE)
    assert "--config /etc/lookalike/lookalike.toml" in service["ExecStart"]


def test_restarts() -> None:
    """What exits because it hangs is started again, and a file of the settings is read again on a reload."""
    service = section("Service")
    assert (service["Type"], service["Restart"]) == ("exec", "on-failure")
    assert service["ExecReload"] == "kill -HUP $MAINPID"


def allowed_calls() -> set[str]:
    """Return the system calls that the unit's filters leave, by systemd's own groups."""

    def members(group: str) -> set[str]:
        done = analyze("syscall-filter", group)
        assert done.returncode == 0, done.stderr
        names = [line.split()[0] for line in done.stdout.splitlines()[1:] if not line.lstrip().startswith("#")]
        return set().union(*(members(name) if name.startswith("@") else {name} for name in names))

    allowed: set[str] = set()
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.removeprefix("SystemCallFilter=")
            named = set().union(*(members(group) for group in words.lstrip("~").split()))
            allowed = allowed - named if words.startswith("~") else allowed | named
    return allowed


@pytest.mark.slow
@pytest.mark.parametrize("frontends", ["0", "1"])
def test_the_server_makes_no_call_that_is_forbidden(tmp_path: Path, frontends: str) -> None:
    """Every system call of a start, a question for its health and a stop is one that the unit allows."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    allowed = allowed_calls()
    assert {"read", "setpriority", "memfd_create"} <= allowed
    assert not {"mount", "reboot", "ptrace", "bpf", "add_key"} & allowed
    trace = tmp_path / "trace"
    command = ("strace", "-f", "-qq", "-e", "signal=none", "-o", str(trace), *SERVE)
    flags = ("--provider", "auto", "--frontend-processes", frontends)
    with server_process(MODELS / "tiny", tmp_path / "data", *flags, command=command) as traced:
        asked = subprocess.run((COMMAND, "health", "--target", traced.address, "--timeout", "60"), check=False)
        assert asked.returncode == 0
        # strace itself would end at a signal, and trace no shutdown.
        pid = traced.process.pid
        (server,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        os.kill(server, signal.SIGTERM)
        assert traced.process.wait(120) == 0
    text = trace.read_text(errors="replace")
    calls = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert {"accept4", "fsync", "setpriority"} <= calls
    # SQLite gives files their folder's owner where it runs as root, which the unit does not.
    assert calls - allowed - ({"fchown"} if os.geteuid() == 0 else set()) == set()
    families = set(re.findall(r"\bsocket\((AF_\w+)", text))
    assert "AF_INET" in families
    assert families <= set(section("Service")["RestrictAddressFamilies"].split())
