"""The stubs on the oldest runtime they promise: protobuf 6.33.5 and grpcio 1.81.1, in an environment of its own."""

from __future__ import annotations

import re
import subprocess

from support.paths import ROOT

PYTHON = ROOT / ".venv-proto" / "bin" / "python"

ONE_CALL = """
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import grpc
from lookalike.v1 import search_service_pb2, search_service_pb2_grpc
from lookalike.v1 import catalog_service_pb2_grpc, embedding_service_pb2_grpc


class Search(search_service_pb2_grpc.SearchServiceServicer):
    def Search(self, request, context):
        neighbor = search_service_pb2.Neighbor(similarity=0.5)
        neighbor.product.attributes["asked"] = request.product_id
        return search_service_pb2.SearchResponse(neighbors=[neighbor])


server = grpc.server(ThreadPoolExecutor(1))
search_service_pb2_grpc.add_SearchServiceServicer_to_server(Search(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
    stub = search_service_pb2_grpc.SearchServiceStub(channel)
    answer = stub.Search(search_service_pb2.SearchRequest(product_id="a"), timeout=30)
print(version("protobuf"), version("grpcio"), answer.neighbors[0].product.attributes["asked"])
server.stop(None)
"""


def test_stubs_work_on_the_floor() -> None:
    """The committed messages, stubs and servicers make a call on the oldest versions that the package allows."""
    allowed = (ROOT / "proto" / "python" / "pyproject.toml").read_text(encoding="utf-8")
    floor = [re.search(rf'"{name}>=([\d.]+)', allowed) for name in ("protobuf", "grpcio")]
    done = subprocess.run(
        [PYTHON, "-c", ONE_CALL],
        env={"PYTHONPATH": str(ROOT / "proto" / "python")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*(found.group(1) for found in floor if found), "a"]
