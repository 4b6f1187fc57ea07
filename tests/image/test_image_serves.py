"""The image as it runs: read-only, as its user, without capabilities, with a model folder and a volume."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike.v1 import search_service_pb2, search_service_pb2_grpc
from lookalike_client import Client
from support.catalogs import stored_vectors
from support.container_server import ContainerServer, container_server, lookalike
from support.containers import Podman
from support.paths import ROOT
from support.pem_files import Authority
from support.serving import connect

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(3600), pytest.mark.usefixtures("image")]

PRODUCTS = 40


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample catalog."""
    folder = tmp_path_factory.mktemp("sample")
    subprocess.run([sys.executable, "-m", "tools.sample_catalog", str(folder)], cwd=ROOT, check=True)
    return folder / "catalog.csv"


@pytest.fixture(scope="module")
def server(
    podman: Podman, image: str, model_folder: Path, sample: Path, report: list[str]
) -> Iterator[ContainerServer]:
    """A container that has the sample catalog."""
    with container_server(podman, "lookalike", model_folder) as one:
        report.append(f"first start, with its measurement of the model: {one.start():.1f} s")
        lookalike(one, "import", sample, "--limit", str(PRODUCTS))
        yield one


def test_it_answers_a_search_of_what_was_imported(server: ContainerServer) -> None:
    """A product of the sample catalog is its own nearest neighbor, by id and by the image that it was stored with."""
    with Client(server.address) as client:
        first = next(iter(client.products()))
        image = client.image(first.id)
        result = client.search(image=image.data, category=first.category, k=3)
        assert result.neighbors[0].product.id == first.id
        assert len(client.search(product_id=first.id, category=first.category, k=3).neighbors) == 3


def test_it_runs_without_any_privilege(server: ContainerServer) -> None:
    """The process is the image's user, has no capability and cannot gain any, and can write to nothing but /data."""
    status = dict(line.split(":", 1) for line in server.run("cat", "/proc/1/status").stdout.splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert {int(value, 16) for name, value in status.items() if name.startswith("Cap")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert "Read-only" in server.run("touch", "/opt/lookalike/new", check=False).stderr
    server.run("touch", "/data/new")
    server.run("rm", "/data/new")


def test_both_runtimes_are_in_the_image(podman: Podman, server: ContainerServer, model_folder: Path) -> None:
    """OpenVINO, of which parts were removed, runs the model too, to the same embeddings."""
    with (
        container_server(podman, "openvino", model_folder, provider="openvino") as other,
        Client(server.address) as client,
    ):
        other.start()
        (serving,) = other.log("serving")
        assert "OpenVINO" in serving["library"]
        sent = client.image(next(iter(client.products())).id).data
        with Client(other.address) as second:
            ours, theirs = client.embed(sent).values, second.embed(sent).values
        assert abs(float(ours @ theirs) - 1) < 0.02


def test_the_health_check_asks_where_the_server_listens(podman: Podman, server: ContainerServer) -> None:
    """HEALTHCHECK is the health command, which finds the address that LOOKALIKE_LISTEN names."""
    check = podman.inspect(server.name)["Config"]["Healthcheck"]
    assert check["Test"] == ["CMD", "lookalike-server", "health"]
    assert server.run("lookalike-server", "health", "--timeout", "300").stdout.strip() == "SERVING"
    wrong = ("--env", "LOOKALIKE_LISTEN=127.0.0.1:1")
    done = podman("exec", *wrong, server.name, "lookalike-server", "health", check=False)
    assert (done.returncode, "no answer from 127.0.0.1:1" in done.stdout) == (1, True)


@pytest.mark.parametrize("kind", ["unix", "tls", "mutual TLS"])
def test_the_health_check_asks_by_socket_and_by_tls(
    podman: Podman, model_folder: Path, tmp_path: Path, kind: str
) -> None:
    """The health command asks a Unix socket, and a certificate's owner whatever the certificate's names are."""
    authority = Authority(tmp_path)
    pair = authority.pair("server", "lookalike.example")
    assert pair.key.stat().st_mode & 0o777 == 0o600
    _give_to_run_user(tmp_path)
    options: tuple[str, ...] = ("--volume", f"{tmp_path}:/tls:ro")
    settings: dict[str, str] = {}
    if kind != "unix":
        settings = {"tls_certificate_file": "/tls/server.pem", "tls_key_file": "/tls/server.key"}
    command = ["lookalike-server", "health", "--timeout", "300"]
    if kind == "mutual TLS":
        settings["tls_client_ca_file"] = "/tls/ca.pem"
        command += ["--cert", "/tls/server.pem", "--key", "/tls/server.key"]
    listen = "unix:/data/lookalike.sock" if kind == "unix" else ""
    with container_server(podman, "probed", model_folder, *options, listen=listen, **settings) as server:
        server.start()
        assert server.run(*command).stdout.strip() == "SERVING"


async def test_a_stop_answers_calls_under_way(podman: Podman, server: ContainerServer, report: list[str]) -> None:
    """`podman stop` turns health to NOT_SERVING, lets an open stream end with an answer, and ends with status 0."""
    requests = search_service_pb2.SearchStreamRequest
    with Client(server.address) as client:
        one = next(iter(client.products()))
    query = search_service_pb2.SearchRequest(product_id=one.id, category=one.category, k=1)
    async with connect(server.address) as channel:
        search: Any = search_service_pb2_grpc.SearchServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = search.SearchStream()
        await call.write(requests(id="before", search=query))
        assert (await call.read()).response.neighbors
        stop = podman.popen("stop", "--time", "900", server.name)
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert stop.poll() is None
        await call.write(requests(id="during", search=query))
        answered = await call.read()
        assert (answered.id, len(answered.response.neighbors)) == ("during", 1)
        await call.done_writing()
        assert (await call.code()).name == "OK"
    output, _ = stop.communicate(timeout=900)
    assert stop.returncode == 0, output
    assert server.exit_status() == 0
    (stopped,) = server.log("stopped")
    assert stopped
    report.append(f"start with the catalog: {server.start():.1f} s")


def test_a_killed_server_has_every_product_after_a_restart(podman: Podman, server: ContainerServer) -> None:
    """After `podman kill` right behind a write the next start has all that was acknowledged, unchanged."""
    with Client(server.address) as client:
        one = next(iter(client.products()))
        client.update_attributes(one.id, {"killed": "after this"})
        before, vectors = {product.id: product for product in client.products()}, stored_vectors(client)
        podman("kill", server.name)
    podman("wait", server.name)
    assert server.exit_status() == 137
    server.start()
    with Client(server.address) as client:
        assert {product.id: product for product in client.products()} == before
        assert before[one.id].attributes["killed"] == "after this"
        assert len(before) == PRODUCTS
        for product_id, expected in vectors.items():
            assert (stored_vectors(client)[product_id] == expected).all()
    assert "no problems" in server.run("lookalike-server", "verify").stdout


def _give_to_run_user(folder: Path) -> None:
    """Let the container's user read the files, as an operator does with chown."""
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, 10001, 10001)
