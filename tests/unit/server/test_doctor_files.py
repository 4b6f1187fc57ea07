"""What the doctor says about the files that a start reads, and the port, each beside a healthy one."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lookalike_server.__main__ import main
from lookalike_server.config import Settings
from lookalike_server.doctor.access import check_auth_keys, check_certificate, check_jwks, check_quotas
from lookalike_server.doctor.catalog import check_catalog
from lookalike_server.doctor.finding import Finding, Status
from lookalike_server.doctor.model import check_model, check_model_run, check_provider, last_choice
from lookalike_server.doctor.port import check_port
from lookalike_server.rpc.tls import TlsFiles
from lookalike_server.store.sqlite import FILE
from support.damaged_files import cut, flipped
from support.paths import MODELS
from support.pem_files import Authority, Pair
from support.store_fixtures import MODEL, opened, put

NOW = datetime.now(UTC)


def files(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    """Return the settings of TLS with these files."""
    return TlsFiles(pair.certificate, pair.key, client_ca)


def settings(tmp_path: Path, **others: Any) -> Settings:
    """Return settings of a server over the tiny model."""
    given: dict[str, Any] = {"model": MODELS / "tiny", "data_dir": tmp_path / "data", "provider": "cpu"}
    return Settings(**(given | others))


def test_a_healthy_certificate(tmp_path: Path) -> None:
    """A certificate with its key is fine, and so are the authorities of clients."""
    authority = Authority(tmp_path)
    pair = authority.pair("a", "127.0.0.1", not_after=NOW + timedelta(days=90))
    assert check_certificate(None, NOW).status is Status.SKIPPED
    assert check_certificate(files(pair), NOW).status is Status.OK
    both = check_certificate(files(pair, authority.pem), NOW)
    assert (both.status, both.facts["days_left"] in (89, 90)) == (Status.OK, True)


def test_certificates_that_are_not_valid(tmp_path: Path) -> None:
    """One that has expired or is not valid yet is an error, one that expires soon a warning; so is that of a start."""
    authority = Authority(tmp_path)
    dates = {"not_before": NOW - timedelta(days=9), "not_after": NOW + timedelta(days=9)}
    for pair, status in (
        (authority.expired("a", "127.0.0.1"), Status.ERROR),
        (authority.future("b", "127.0.0.1"), Status.ERROR),
        (authority.pair("c", "127.0.0.1", **dates), Status.WARNING),
    ):
        finding = check_certificate(files(pair), NOW)
        assert finding.status is status
        assert finding.remedy
        assert check_certificate(files(pair), NOW, only_dates=True) == finding


def test_authorities_that_have_expired(tmp_path: Path) -> None:
    """Authorities of clients matter too: all of them have to have expired to be an error."""
    authority = Authority(tmp_path)
    pair, old = authority.pair("a", "127.0.0.1", not_after=NOW + timedelta(days=90)), authority.expired("b", "x")
    (tmp_path / "both.pem").write_bytes(old.certificate.read_bytes() + authority.pem.read_bytes())
    lone = old.certificate.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    (tmp_path / "lone.pem").write_text(lone)
    assert check_certificate(files(pair, tmp_path / "lone.pem"), NOW).status is Status.ERROR
    assert check_certificate(files(pair, tmp_path / "both.pem"), NOW).status is Status.OK


def test_keys_that_do_not_fit(tmp_path: Path) -> None:
    """A key of another certificate, one that others may read, and a missing file are errors that name the file."""
    authority = Authority(tmp_path)
    pair, other = authority.pair("a", "127.0.0.1"), authority.pair("b", "127.0.0.1")
    mixed = check_certificate(files(Pair(pair.certificate, other.key)), NOW)
    assert (mixed.status, "is not that of the certificate" in mixed.message) == (Status.ERROR, True)
    pair.key.chmod(0o644)
    readable = check_certificate(files(pair), NOW)
    assert (readable.status, f"chmod 600 {pair.key}" in readable.message) == (Status.ERROR, True)
    gone = check_certificate(files(replace(pair, certificate=tmp_path / "none.pem", key=other.key)), NOW)
    assert (gone.status, "none.pem" in gone.message) == (Status.ERROR, True)


def test_auth_keys(tmp_path: Path) -> None:
    """A file with a key is fine; one without, one that others may read and one that is damaged are not."""
    path = tmp_path / "keys.json"
    assert check_auth_keys(None).status is Status.SKIPPED
    assert check_auth_keys(path).status is Status.ERROR
    added = CliRunner().invoke(main, ["keys", "add", "shop", "--role", "reader", "--auth-keys-file", str(path)])
    assert added.exit_code == 0
    assert check_auth_keys(path).status is Status.OK
    path.chmod(0o640)
    assert "chmod 600" in check_auth_keys(path).message
    path.chmod(0o600)
    path.write_text('{"format": 1, "keys": []}')
    assert check_auth_keys(path).status is Status.WARNING
    path.write_text('{"format": 1, "keys": [')
    assert check_auth_keys(path).status is Status.ERROR


def test_quotas_and_tokens(tmp_path: Path) -> None:
    """Files of quotas and of an issuer's keys are read as a start reads them."""
    quotas, jwks = tmp_path / "quotas.toml", tmp_path / "jwks.json"
    quotas.write_text("[default]\nrequests_per_second = 5\n[callers.shop]\nweight = 2\n")
    jwks.write_text('{"keys": []}')
    assert check_quotas(quotas).facts == {"callers": 1}
    quotas.write_text("[default]\nrequests_per_second = -5\n")
    assert check_quotas(quotas).status is Status.ERROR
    assert [check_quotas(None).status, check_jwks(None, None).status] == [Status.SKIPPED, Status.SKIPPED]
    assert "jwt_audience" in check_jwks(jwks, None).message
    assert "has no key" in check_jwks(jwks, "shop").message


def copied_model(tmp_path: Path) -> Path:
    """Copy the tiny model."""
    return Path(shutil.copytree(MODELS / "tiny", tmp_path / "model"))


def test_a_healthy_model_runs(tmp_path: Path) -> None:
    """A good folder has its digest, and the provider that will run it runs it."""
    finding, folder = check_model(copied_model(tmp_path))
    assert finding.status is Status.OK
    assert folder is not None
    assert finding.facts["digest"] == folder.model.digest
    chosen, provider = check_provider("cpu", None)
    assert (chosen.status, provider) == (Status.OK, "cpu")
    ran = check_model_run(folder, provider, settings(tmp_path))
    assert (ran.status, "ONNX Runtime" in ran.message) == (Status.OK, True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("damage", [flipped(0.5), cut(0.5), Path.unlink])
@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_damaged_model(tmp_path: Path, name: str, damage: Any) -> None:
    """A bit that flipped, a cut or a missing file is an error, and then nothing is run."""
    model = copied_model(tmp_path)
    if name == "model.json" and damage is not Path.unlink:
        damage = cut(0.5)
    damage(model / name)
    finding, folder = check_model(model)
    assert finding.status is Status.ERROR
    assert check_model_run(folder, "cpu", settings(tmp_path)).status is Status.SKIPPED


def test_a_model_that_does_not_run(tmp_path: Path) -> None:
    """A graph that has its digest but is no graph is an error of the run."""
    _, folder = check_model(copied_model(tmp_path))
    assert folder is not None
    folder.graph.write_bytes(b"no graph")
    assert check_model_run(folder, "cpu", settings(tmp_path)).status is Status.ERROR


def test_providers(tmp_path: Path) -> None:
    """`auto` names what may run the model and what the last start chose; a GPU that is missing is an error."""
    (tmp_path / "autotune.json").write_text('{"provider": "OpenVINO"}')
    assert [last_choice(tmp_path), last_choice(tmp_path / "none")] == ["OpenVINO", None]
    chosen, provider = check_provider("auto", "OpenVINO")
    assert chosen.status is Status.OK
    assert provider in ("cpu", "cuda", "tensorrt")
    if provider == "cpu":
        assert check_provider("cuda", None)[0].status is Status.ERROR


def test_catalogs(tmp_path: Path) -> None:
    """No catalog is fine, a good one of this model too; one of another model or with damage is an error."""
    model = MODEL
    assert check_catalog(tmp_path / "none", model).status is Status.SKIPPED
    with opened(tmp_path) as store:
        put(store, "p1")
        assert check_catalog(tmp_path, model).status is Status.OK
    other = check_catalog(tmp_path, replace(model, digest="b" * 64))
    assert (other.status, "reembed" in other.remedy) == (Status.ERROR, True)
    assert check_catalog(tmp_path, None).status is Status.OK
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        file.execute("DELETE FROM meta")
        file.commit()
    assert check_catalog(tmp_path, model).status is Status.ERROR
    (tmp_path / FILE).write_bytes(b"no database, not even a little of it" * 40)
    assert check_catalog(tmp_path, model).status is Status.ERROR


def _port(tmp_path: Path, listen: str, owner: int | None, health: str | None) -> Finding:
    return check_port(settings(tmp_path, listen=listen), owner, lambda _: health)


def test_ports(tmp_path: Path) -> None:
    """A free port is fine, one that another program has is an error, and one that the server has is its own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "the port is in use" in _port(tmp_path, listen, None, None).message
        assert _port(tmp_path, listen, None, "SERVING").status is Status.ERROR
        assert _port(tmp_path, listen, 1, None).status is Status.ERROR
        ours = _port(tmp_path, listen, 1, "SERVING")
        assert (ours.status, "process 1" in ours.message) == (Status.OK, True)
    with socket.socket() as held:
        # Bound, so that no other program gets it, but open to others that listen.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        assert _port(tmp_path, f"127.0.0.1:{held.getsockname()[1]}", None, None).status is Status.OK
    assert _port(tmp_path, "127.0.0.1:0", None, None).status is Status.SKIPPED
    assert _port(tmp_path, "127.0.0.1:70000", None, None).status is Status.ERROR
    exposed = _port(tmp_path, "0.0.0.0:0", None, None)
    assert (exposed.status, "--tls-certificate-file" in exposed.message) == (Status.ERROR, True)


def test_unix_sockets(tmp_path: Path) -> None:
    """A path on which somebody listens is taken, or the server's own; what was left behind is free."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        assert _port(tmp_path, f"unix:{path}", None, None).status is Status.ERROR
        assert _port(tmp_path, f"unix:{path}", 1, "SERVING").status is Status.OK
    assert _port(tmp_path, f"unix:{path}", None, None).status is Status.OK
