"""The compose file: what it sets exists, what it mounts is there, and it gives the server the time that it needs."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.deploy.programs import run
from lookalike_server.config import Settings
from support.paths import ROOT

COMPOSE = ROOT / "deploy" / "compose"


def read(name: str) -> Any:
    """Return what a compose file says, before variables are put in."""
    return yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))


def project(*names: str, **environment: str) -> Any:
    """Return the project as compose reads it."""
    files = [COMPOSE / name for name in names]
    return json.loads(run("compose", *files, environment={"MODEL": "/srv/model", **environment}))


def settings(server: Any) -> Settings:
    """Return the settings that the server gets from its variables."""
    given = {name.removeprefix("LOOKALIKE_").lower(): value for name, value in server["environment"].items() if value}
    assert set(given) <= set(Settings.model_fields)
    return Settings(**given)


def test_the_server_is_given_its_time() -> None:
    """Its variables are settings, and it is killed only after its lame duck, the calls' grace and 8 s."""
    server = read("compose.yaml")["services"]["server"]
    given = settings(server)
    assert server["stop_grace_period"] == f"{math.ceil(given.lame_duck_seconds + given.shutdown_grace_seconds + 8)}s"


def test_files_for_the_server_are_mounted() -> None:
    """Each file that a setting names is a secret, and what is written is in the volume or in memory."""
    file = read("compose.yaml")
    server = file["services"]["server"]
    named = {value for name, value in server["environment"].items() if name.endswith("_FILE")}
    assert named == {f"/run/secrets/{name}" for name in server["secrets"]}
    assert set(server["secrets"]) == set(file["secrets"])
    mounts = {each["target"]: each for each in server["volumes"]}
    assert Path(server["environment"]["LOOKALIKE_DATA_DIR"]).is_relative_to("/data")
    assert mounts["/data"]["source"] in file["volumes"]
    assert mounts[server["environment"]["LOOKALIKE_MODEL"]]["read_only"]


@pytest.mark.parametrize("name", ["server", "prometheus"])
def test_containers_may_do_little(name: str) -> None:
    """Each has a read-only root, no capability and no way to one; the server is a user without a name."""
    service = read("compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user", "10001:10001") == "10001:10001"


def test_prometheus_asks_the_server() -> None:
    """Prometheus runs only when its profile is asked for, and scrapes the address where the server has metrics."""
    services = read("compose.yaml")["services"]
    assert services["prometheus"]["profiles"] == ["monitoring"]
    (job,) = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert services[host]["environment"]["LOOKALIKE_METRICS_LISTEN"].endswith(f":{port}")
    mounted = [each["source"] for each in services["prometheus"]["volumes"] if each["type"] == "bind"]
    assert [source for source in mounted if not (COMPOSE / source).exists()] == []


def test_variables_are_described() -> None:
    """The documentation names every variable of the compose file that a caller may set."""
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    names = set(re.findall(r"\$\{(\w+)", text))
    assert "MODEL" in names
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_compose_takes_the_files() -> None:
    """Compose's own reader takes the file with its profile, and has the health check that asks the server."""
    server = project("compose.yaml", PORT="5005", ADDRESS="192.0.2.1")["services"]["server"]
    assert server["healthcheck"]["test"] == ["CMD", "lookalike-server", "health"]
    assert server["ports"][0]["published"] == "5005"
    assert settings(server).tls_key_file == Path("/run/secrets/tls_key")


def test_without_tls_only_this_machine_reaches_the_server() -> None:
    """The second file takes TLS, keys and secrets away, and the port from other machines, whatever ADDRESS says."""
    server = project("compose.yaml", "insecure.yaml", ADDRESS="192.0.2.1")["services"]["server"]
    given = settings(server)
    assert (given.insecure, given.allow_anonymous) == (True, True)
    assert (given.tls_key_file, given.auth_keys_file) == (None, None)
    assert not server.get("secrets")
    assert [port["host_ip"] for port in server["ports"]] == ["127.0.0.1"]


def test_a_model_has_to_be_named(tmp_path: Path) -> None:
    """Compose stops with what MODEL is where that is not set."""
    file = tmp_path / "compose.yaml"
    file.write_bytes((COMPOSE / "compose.yaml").read_bytes())
    assert "MODEL" not in os.environ
    with pytest.raises(AssertionError, match="MODEL is missing a value: the folder of a model"):
        run("compose", file)
