"""grpcurl without the proto files: lists, describes and calls every kind of method, and shows errors in full."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from e2e.tools.busy import full
from e2e.tools.programs import Tool, ToolResult, address, json_values
from lookalike.v1 import (
    catalog_service_pb2,
    embedding_service_pb2,
    search_service_pb2,
)
from lookalike_server.rpc.health_reflection import LIVENESS, READINESS, STARTUP
from lookalike_server.rpc.server import SERVICES
from support.credentials import add_key
from support.serving import HeldModel, Serve, Served, encoded, noise, product, until, violation

EMBED = "lookalike.v1.EmbeddingService/Embed"
EMBED_STREAM = "lookalike.v1.EmbeddingService/EmbedStream"
SEARCH = "lookalike.v1.SearchService/Search"
UPSERT = "lookalike.v1.CatalogService/UpsertProducts"
UPDATE = "lookalike.v1.CatalogService/UpdateAttributes"
HEALTH = "grpc.health.v1.Health"

STATUS_OFFSET = 64  # grpcurl's exit status is this plus the code


@pytest.fixture
def grpcurl() -> Tool:
    """grpcurl, with errors as JSON."""
    return Tool("grpcurl", "-plaintext", "-format-error")


def image(seed: int) -> dict[str, str]:
    """Return an image as JSON."""
    return {"encoded": base64.b64encode(encoded(noise(seed)).encoded).decode()}


async def call(grpcurl: Tool, served: Served, method: str, body: object = None, *options: str) -> Any:
    """Call a method with JSON and return its only response."""
    result = await grpcurl.run(*options, "-d", "@", address(served), method, stdin=json.dumps(body or {}))
    assert (result.status, result.stderr) == (0, "")
    (response,) = json_values(result.stdout)
    return response


def error(result: ToolResult) -> status_pb2.Status:
    """Parse the error; unknown details would fail here."""
    status = json_format.Parse(result.stderr, status_pb2.Status())
    assert result.status == STATUS_OFFSET + status.code
    return status


@pytest.mark.slow
async def test_lists_every_service(served: Served, grpcurl: Tool) -> None:
    """`grpcurl list` names every service of the API, and the standard ones."""
    result = await grpcurl.run(address(served), "list")
    assert {*SERVICES, HEALTH, "grpc.reflection.v1.ServerReflection"} <= set(result.stdout.split())


@pytest.mark.slow
async def test_describes_what_it_lists(served: Served, grpcurl: Tool) -> None:
    """`grpcurl describe` shows the methods of every listed service, a method by its name, and a message's fields."""
    services = (await grpcurl.run(address(served), "list")).stdout.split()
    result = await grpcurl.run(address(served), "describe")
    assert result.status == 0
    assert result.stdout.count(" is a service:") == len(services)
    assert "rpc EmbedStream ( stream .lookalike.v1.EmbedStreamRequest ) returns ( stream " in result.stdout
    result = await grpcurl.run(address(served), "describe", "lookalike.v1.SearchService.Search")
    assert "rpc Search ( .lookalike.v1.SearchRequest )" in result.stdout
    result = await grpcurl.run(address(served), "describe", "lookalike.v1.SearchRequest")
    assert "optional uint32 k = 6;" in result.stdout


async def test_stores_and_searches(served: Served, grpcurl: Tool) -> None:
    """Products are stored with images in base64, a bad one with a status that names its field, and found by id."""
    products = [{"id": f"p{seed}", "category": "Shoes", "images": [image(seed)]} for seed in range(3)]
    broken = {"id": "broken", "category": "Shoes", "images": [{"encoded": "AAAA"}]}
    stored = json_format.ParseDict(
        await call(grpcurl, served, UPSERT, {"products": [*products, broken]}),
        catalog_service_pb2.UpsertProductsResponse(),
    )
    assert [result.status.code for result in stored.results] == [0, 0, 0, grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    assert violation(stored.results[3].status) == "products[3].images[0].encoded"
    response = await call(grpcurl, served, SEARCH, {"product_id": "p0", "k": 5})
    found = json_format.ParseDict(response, search_service_pb2.SearchResponse())
    expected = await served.search.Search(search_service_pb2.SearchRequest(product_id="p0", k=5))
    assert [n.product.id for n in found.neighbors] == [n.product.id for n in expected.neighbors]
    assert len(found.neighbors) == 2
    assert found.stats.exact


@pytest.mark.slow
async def test_embeds(served: Served, grpcurl: Tool) -> None:
    """An image in base64 has the embedding that a client with stubs gets."""
    response = await call(grpcurl, served, EMBED, {"image": image(1)})
    embedded = json_format.ParseDict(response, embedding_service_pb2.EmbedResponse())
    expected = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=encoded(noise(1))))
    assert list(embedded.embedding) == pytest.approx(list(expected.embedding))


@pytest.mark.slow
async def test_embeds_a_stream(served: Served, grpcurl: Tool) -> None:
    """Each message on standard input has a response; an invalid image has its own status."""
    messages = [{"id": str(seed), "image": image(seed)} for seed in range(4)] + [
        {"id": "bad", "image": {"encoded": ""}}
    ]
    result = await grpcurl.run("-d", "@", address(served), EMBED_STREAM, stdin="\n".join(map(json.dumps, messages)))
    assert (result.status, result.stderr) == (0, "")
    responses = {
        response.id: response
        for response in (
            json_format.ParseDict(each, embedding_service_pb2.EmbedStreamResponse())
            for each in json_values(result.stdout)
        )
    }
    assert violation(responses.pop("bad").status) == "image.encoded"
    assert {key: len(response.embedding.values) for key, response in responses.items()} == dict.fromkeys("0123", 48)


@pytest.mark.slow
async def test_shows_the_invalid_field(served: Served, grpcurl: Tool) -> None:
    """A rejection's BadRequest is shown by its fields, not as bytes."""
    result = await grpcurl.run("-d", '{"product_id": "a", "k": 0}', address(served), SEARCH)
    status = error(result)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert violation(status) == "k"


@pytest.mark.slow
async def test_shows_what_was_not_found(served: Served, grpcurl: Tool) -> None:
    """A missing product's ResourceInfo is shown by its fields."""
    status = error(await grpcurl.run("-d", '{"product_id": "a"}', address(served), SEARCH))
    resource = error_details_pb2.ResourceInfo()
    assert status.details[0].Unpack(resource)
    assert (resource.resource_type, resource.resource_name) == ("product", "a")


@pytest.mark.slow
async def test_shows_when_to_retry(serve: Serve, grpcurl: Tool) -> None:
    """A full queue's RetryInfo is shown by its field."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=1) as served, full(served, model):
        result = await grpcurl.run("-d", json.dumps({"image": image(3)}), address(served), EMBED)
        status = error(result)
        assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() >= 1


@pytest.mark.slow
async def test_deadline_travels(serve: Serve, grpcurl: Tool) -> None:
    """`-max-time` is the call's deadline: an image that waits until then is dropped and never computed."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=2) as served, full(served, model):
        model.session.sizes.clear()
        result = await grpcurl.run("-max-time", "5", "-d", json.dumps({"image": image(3)}), address(served), EMBED)
        assert error(result).code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
    assert sum(model.session.sizes) == 2


@pytest.mark.slow
async def test_health(served: Served, grpcurl: Tool) -> None:
    """Health is reported for the server, for each service and probe, and for all of them in one call."""
    names = ("", LIVENESS, READINESS, STARTUP, *SERVICES)
    for service in names:
        assert await call(grpcurl, served, f"{HEALTH}/Check", {"service": service}) == {"status": "SERVING"}
    listed = await call(grpcurl, served, f"{HEALTH}/List")
    assert listed["statuses"].keys() == set(names)


@pytest.mark.slow
async def test_clears_attributes_by_name(served: Served, grpcurl: Tool) -> None:
    """Attributes of any name, with capitals and spaces, are set and cleared."""
    attributes = {"in_stock": "yes", "inStock": "yes", "Color": "red", "size 1": "M", "price": "10"}
    await served.catalog.UpsertProducts(
        catalog_service_pb2.UpsertProductsRequest(products=[product("a", 1, attributes=attributes)])
    )
    change = {"id": "a", "attributes": {"price": "9"}, "clear": ["inStock", "Color", "size 1"]}
    changed = await call(grpcurl, served, UPDATE, change)
    assert changed["product"]["attributes"] == {"in_stock": "yes", "price": "9"}


@pytest.mark.slow
async def test_bearer_token(serve: Serve, tmp_path: Path, grpcurl: Tool) -> None:
    """A token is sent as a header; without one the API can be listed, and calls are UNAUTHENTICATED."""
    tokens = tmp_path / "tokens"
    reader = add_key(tokens)
    async with serve(auth_keys_file=tokens) as served:
        method = "lookalike.v1.EmbeddingService/GetModel"
        assert method.split("/", 1)[0] in (await grpcurl.run(address(served), "list")).stdout
        rejected = error(await grpcurl.run(address(served), method))
        assert rejected.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
        response = await call(grpcurl, served, method, None, "-H", f"authorization: Bearer {reader}")
        assert response["dim"] == 48
