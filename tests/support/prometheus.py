"""A real Prometheus with the shipped rules, and the receiver of the alerts that it sends."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
INSTALL = "is not installed: apt-get install --no-install-recommends prometheus"

SCALE = 60
"""By how much the durations in the rules are shorter here, so that minutes are seconds."""

_UNITS = {"m": 60, "h": 3600, "d": 86400}
_INTERVAL = "1s"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # without the environment's proxies


def tool(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; skip the test where it is not installed."""
    return shutil.which(name) or pytest.skip(f"{name} {INSTALL}")


def scaled(rules: str) -> str:
    """Return rules with every duration divided by `SCALE`; nothing else changes."""

    def shorter(match: re.Match[str]) -> str:
        before, count, unit, after = match.groups()
        return f"{before}{int(count) * _UNITS[unit] * 1000 // SCALE}ms{after}"

    rules = re.sub(r"(\[)(\d+)([mhd])(\])", shorter, rules)
    return re.sub(r"(for: |offset )(\d+)([mhd])()\b", shorter, rules)


class Prometheus:
    """A running Prometheus.

    Attributes:
        url: Where its API is.
    """

    def __init__(self, url: str, alerts: _Alerts) -> None:
        self.url = url
        self._alerts = alerts

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query."""
        query = urllib.parse.urlencode({"query": expression})
        with _OPENER.open(f"{self.url}/api/v1/query?{query}", timeout=60) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def wait_for_alert(self, name: str, job: str, seconds: float) -> Mapping[str, str]:
        """Return the labels of an alert once it fires."""
        return self._alerts.wait_for(name, job, seconds)

    def fired(self, job: str) -> set[str]:
        """Return the names of the alerts of a job that have fired until now."""
        return self._alerts.of(job)


class _Alerts(ThreadingHTTPServer):
    """Takes alerts as Alertmanager does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self._received: dict[tuple[str, str], Mapping[str, str]] = {}
        self._grown = threading.Condition()

    def receive(self, alerts: list[dict[str, Any]]) -> None:
        with self._grown:
            for labels in (alert["labels"] for alert in alerts):
                self._received[labels["alertname"], labels.get("job", "")] = labels
            self._grown.notify_all()

    def wait_for(self, name: str, job: str, seconds: float) -> Mapping[str, str]:
        with self._grown:
            arrived = self._grown.wait_for(lambda: (name, job) in self._received, seconds)
            assert arrived, f"{name} of {job} has not fired; what has: {sorted(self._received)}"
            return self._received[name, job]

    def of(self, job: str) -> set[str]:
        with self._grown:
            return {name for name, of in self._received if of == job}


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, _Alerts)
        self.server.receive(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """Run Prometheus until the block ends.

    Args:
        folder: Where its files go; must exist.
        targets: The ports of metrics on the loopback interface, by the names of their jobs.
    """
    with ExitStack() as stack:
        alerts = stack.enter_context(_Alerts())
        thread = threading.Thread(target=alerts.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(alerts.shutdown)
        (folder / "rules.yaml").write_text(scaled(RULES.read_text(encoding="utf-8")), encoding="utf-8")
        (folder / "prometheus.yaml").write_text(json.dumps(_configuration(targets, alerts.server_port)))
        log = stack.enter_context((folder / "log").open("w+"))
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stderr=log,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Prometheus(f"http://{_address(process, folder / 'log')}", alerts)


def _configuration(targets: Mapping[str, int], alertmanager: int) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": _INTERVAL, "scrape_timeout": _INTERVAL, "evaluation_interval": _INTERVAL},
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()
        ],
    }


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return where it listens, once it says that it is ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        said = log.read_text()
        found = re.search(r'msg="Listening on" address=(\S+)', said)
        if found and "Server is ready" in said:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text())
