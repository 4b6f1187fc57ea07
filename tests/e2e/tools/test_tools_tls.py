"""grpcurl, ghz and `tritonclient` over TLS and mutual TLS, each beside what it says without a certificate."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.tools.programs import Tool, address
from support.paths import ROOT
from support.pem_files import Authority, Pair
from support.processes import output_of
from support.serving import Serve, Served

pytestmark = pytest.mark.slow

GET_MODEL = "lookalike.v1.EmbeddingService/GetModel"

TRITON = """
import sys, tritonclient.grpc as triton
target, *pem = sys.argv[1:]
names = ("root_certificates", "certificate_chain", "private_key")
client = triton.InferenceServerClient(target, ssl=True, channel_args=[("grpc.enable_http_proxy", 0)],
                                      **dict(zip(names, pem)))
try:
    print(client.is_server_ready(client_timeout=20))
except triton.InferenceServerException as error:
    print(error.status())
"""


class Files:
    """The PEM files of a server and of a client."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server: Pair = self.authority.pair("server", "127.0.0.1")
        self.client: Pair = self.authority.pair("client", "checkout.shop.example")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Issue certificates."""
    return Files(tmp_path)


@pytest.fixture(params=["TLS", "mutual TLS"])
async def mutual(request: pytest.FixtureRequest, serve: Serve, files: Files) -> AsyncIterator[tuple[Served, bool]]:
    """Run a server; say whether it asks for a client's certificate."""
    settings: dict[str, Any] = {"tls_certificate_file": files.server.certificate, "tls_key_file": files.server.key}
    asks = request.param == "mutual TLS"
    if asks:
        settings["tls_client_ca_file"] = files.authority.pem
    async with serve(**settings) as served:
        yield served, asks


async def test_grpcurl(mutual: tuple[Served, bool], files: Files) -> None:
    """It describes itself and calls with the files, and is kept out without what the server asks for."""
    served, asks = mutual
    trusting = ("-cacert", str(files.authority.pem))
    client = ("-cert", str(files.client.certificate), "-key", str(files.client.key))
    tool = Tool("grpcurl", "-connect-timeout", "20")
    found = await tool.run(*trusting, *client, address(served), GET_MODEL)
    assert (found.status, json.loads(found.stdout)["name"]) == (0, "tiny")
    without = await tool.run(*trusting, address(served), GET_MODEL)
    assert (without.status == 0) is not asks
    assert (await tool.run("-plaintext", address(served), GET_MODEL)).status != 0


async def test_ghz(mutual: tuple[Served, bool], files: Files) -> None:
    """Its load has no failures."""
    served, _ = mutual
    pem = (
        "--cacert",
        str(files.authority.pem),
        "--cert",
        str(files.client.certificate),
        "--key",
        str(files.client.key),
    )
    tool = Tool("ghz", *pem, "--format", "json", "--total", "200", "--concurrency", "8", "--timeout", "60s")
    found = await tool.run("--call", GET_MODEL, "--data", "{}", address(served))
    assert json.loads(found.stdout)["statusCodeDistribution"] == {"OK": 200}


async def test_tritonclient(mutual: tuple[Served, bool], files: Files) -> None:
    """It asks whether the server is ready."""
    served, asks = mutual
    python, pem = str(ROOT / ".venv-triton" / "bin" / "python"), str(files.authority.pem)
    client = (str(files.client.key), str(files.client.certificate))
    ready = await output_of(python, "-c", TRITON, address(served), pem, client[1], client[0])
    assert ready.strip() == "True"
    without = (await output_of(python, "-c", TRITON, address(served), pem)).strip()
    assert without == ("StatusCode.UNAVAILABLE" if asks else "True")
