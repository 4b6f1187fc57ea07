"""The runtimes in a process of their own: what they send to others, and what a crash in native code looks like."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import MODELS
from support.processes import server_process

RUN = """
import sys
from pathlib import Path
from lookalike_server.config import Settings
from lookalike_server.engine.runtime_choice import plan_model
from lookalike_server.inference.manifest import read_model_folder

model, data = sys.argv[1:]
for provider in ("openvino", "auto"):
    settings = Settings(model=model, data_dir=data, provider=provider)
    plan_model(read_model_folder(Path(model)), settings).plan.close()
# What would send, were it not off: the converter of OpenVINO's tools.
import openvino
from openvino.tools.ovc import convert_model
convert_model(Path(model) / "model.onnx")
"""

CONNECT = """
import socket
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except OSError:
    pass
"""

INTERNET = re.compile(r"sa_family=AF_INET")


def addresses_called(program: str, folder: Path, *arguments: str) -> list[str]:
    """Run a Python program under strace; return its system calls that name an address of the internet."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")
    log = folder / "calls.log"
    trace = ("strace", "-f", "-o", str(log), "-e", "trace=connect,sendto,sendmsg,sendmmsg", "--seccomp-bpf")
    subprocess.run((*trace, sys.executable, "-c", program, *arguments), check=True, timeout=120, capture_output=True)
    return [line for line in log.read_text(encoding="utf-8").splitlines() if INTERNET.search(line)]


@pytest.mark.slow
def test_nothing_is_sent_to_anybody(tmp_path: Path) -> None:
    """Choosing a runtime and running it calls no address, and neither do OpenVINO's tools afterwards."""
    assert addresses_called(RUN, tmp_path, str(MODELS / "tiny"), str(tmp_path / "data")) == []


@pytest.mark.slow
def test_something_sent_is_seen(tmp_path: Path) -> None:
    """The trace of the test above shows a connection, where there is one."""
    assert addresses_called(CONNECT, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_native_crash_says_so(tmp_path: Path, number: signal.Signals) -> None:
    """A crash in native code ends the process with the signal's own status, and says where it was."""
    with server_process(MODELS / "tiny", tmp_path) as server:
        assert server.stop(number) == -number
    text = b"".join(server.log).decode()
    assert "Fatal Python error: " in text
    assert "most recent call first" in text
