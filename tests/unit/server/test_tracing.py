"""Tracing is off and not even imported without the OTEL_... variables, and says what is wrong where they ask for it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import TraceExportFailed
from lookalike_server.tracing.environment import open_tracing, reason_to_trace
from lookalike_server.tracing.export import REPORT_SECONDS, ExportLog
from support.fakes import RecordingObserver
from support.paths import MODELS

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
WITHOUT_PACKAGE = "import sys; sys.modules['opentelemetry'] = None; from lookalike_server.__main__ import main; main()"


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "shop", "OTEL_TRACES_SAMPLER": "always_on"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " ", "OTEL_TRACES_EXPORTER": ""}, None),
        (ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "x"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, None),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, None),
    ],
)
def test_what_turns_traces_on(environment: Mapping[str, str], variable: str | None) -> None:
    """An endpoint or an exporter does; no exporter, or a disabled SDK, turns them off again."""
    assert reason_to_trace(environment) == variable


@pytest.mark.parametrize(("variables", "imported"), [({}, "False"), (ENDPOINT, "True")], ids=["off", "on"])
def test_without_the_variables_nothing_is_imported(variables: Mapping[str, str], imported: str) -> None:
    """A server imports OpenTelemetry when it is to trace, and else not."""
    program = (
        "import sys, lookalike_server.__main__ as _; from lookalike_server.tracing.environment import open_tracing;"
        "open_tracing(print); print('opentelemetry' in sys.modules)"
    )
    assert _run(program, environment=variables).stdout.split() == [imported]


@pytest.mark.parametrize("processes", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_traces_without_the_package_end_the_start(processes: str, tmp_path: Path) -> None:
    """Where the variables ask for traces and the extra is not installed, the server says what to install and ends."""
    arguments = ("serve", "--model", str(MODELS / "tiny"), "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0")
    done = _run(WITHOUT_PACKAGE, *arguments, "--frontend-processes", processes, environment=ENDPOINT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "lookalike-server: OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and OpenTelemetry is not installed:"
        " pip install 'lookalike-server[otel]', or set OTEL_SDK_DISABLED=true"
    )


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER is 'zipkin', which is none of otlp, console and none",
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json'"),
        ({"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "soon"}, "the OTEL_EXPORTER_OTLP_... variables cannot be used"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "the OTEL_... variables cannot be used: max_queue_size must be"),
    ],
)
def test_a_variable_that_cannot_be_used_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], words: str
) -> None:
    """A wrong value is an error that names the variables."""
    for name, value in {**ENDPOINT, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LookalikeError) as caught:
        open_tracing(RecordingObserver())
    assert words in caught.value.message


class _Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def observer() -> RecordingObserver:
    """Keep what is reported."""
    return RecordingObserver()


@pytest.fixture
def clock(observer: RecordingObserver) -> Iterator[_Clock]:
    """Open an `ExportLog` with this clock."""
    log = ExportLog(observer, clock := _Clock())
    log.open()
    yield clock
    log.close()


def test_failures_of_a_kind_are_reported_once_in_a_while(observer: RecordingObserver, clock: _Clock) -> None:
    """The first of a kind is reported at once, the next after half a minute with the number of those between."""
    log = logging.getLogger("opentelemetry.exporter.test")
    for number in range(1000):
        log.error("Failed to export to %s", number)
    log.warning("Queue full")
    clock.now = REPORT_SECONDS
    log.error("Failed to export to %s", 1000)
    reports = [(event.reason, event.repeated) for event in observer.of(TraceExportFailed)]
    assert reports == [("Failed to export to 0", 0), ("Queue full", 0), ("Failed to export to 1000", 999)]


def test_headers_are_not_reported(observer: RecordingObserver, clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that cannot be parsed, which may be a key, is reported without its value."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT["OTEL_EXPORTER_OTLP_ENDPOINT"])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "the-secret-key")
    from lookalike_server.tracing.export import exporters

    for exporter in exporters():
        exporter.shutdown()
    (event,) = observer.of(TraceExportFailed)
    assert "eader" in event.reason
    assert "the-secret-key" not in event.reason


def _run(program: str, *arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, with these OTEL_... variables."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=others | {"PYTHONPATH": os.pathsep.join(sys.path)} | dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
