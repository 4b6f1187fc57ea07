"""grpcurl, without the proto files: lists, describes and calls every kind of method, and shows errors in full."""

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
from e2e.tools.programs import Ended, Tool, address, json_values
from lookalike.v1 import (
    catalog_service_pb2,
    embedding_service_pb2,
    search_service_pb2,
)
from lookalike_server.rpc.server import SERVICES
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
    """The tool."""
    return Tool("grpcurl", "-plaintext", "-format-error")


def image(seed: int) -> dict[str, str]:
    """An image's file as JSON has it."""
    return {"encoded": base64.b64encode(encoded(noise(seed)).encoded).decode()}


async def ask(grpcurl: Tool, served: Served, method: str, body: object = None, *options: str) -> Any:
    """Call a method with JSON and return its only answer's JSON."""
    said = await grpcurl.run(*options, "-d", "@", address(served), method, stdin=json.dumps(body or {}))
    assert (said.status, said.errors) == (0, "")
    (answer,) = json_values(said.output)
    return answer


def error(said: Ended) -> status_pb2.Status:
    """The error that was shown; details that were not understood would fail here."""
    status = json_format.Parse(said.errors, status_pb2.Status())
    assert said.status == STATUS_OFFSET + status.code
    return status


async def test_lists_every_service(served: Served, grpcurl: Tool) -> None:
    """`grpcurl list` names every service of ours, and the standard ones."""
    said = await grpcurl.run(address(served), "list")
    assert {*SERVICES, HEALTH, "grpc.reflection.v1.ServerReflection"} <= set(said.output.split())


async def test_describes_what_it_lists(served: Served, grpcurl: Tool) -> None:
    """`grpcurl describe` shows the methods of every listed service, a method by its name, and a message's fields."""
    services = (await grpcurl.run(address(served), "list")).output.split()
    said = await grpcurl.run(address(served), "describe")
    assert said.status == 0
    assert said.output.count(" is a service:") == len(services)
    assert "rpc EmbedStream ( stream .lookalike.v1.EmbedStreamRequest ) returns ( stream " in said.output
    said = await grpcurl.run(address(served), "describe", "lookalike.v1.SearchService.Search")
    assert "rpc Search ( .lookalike.v1.SearchRequest )" in said.output
    said = await grpcurl.run(address(served), "describe", "lookalike.v1.SearchRequest")
    assert "optional uint32 k = 6;" in said.output


async def test_stores_and_searches(served: Served, grpcurl: Tool) -> None:
    """Products are stored with images in base64, a bad one with a status that names its field, and found by id."""
    goods = [{"id": f"p{seed}", "category": "Shoes", "images": [image(seed)]} for seed in range(3)]
    broken = {"id": "broken", "category": "Shoes", "images": [{"encoded": "AAAA"}]}
    stored = json_format.ParseDict(
        await ask(grpcurl, served, UPSERT, {"products": [*goods, broken]}),
        catalog_service_pb2.UpsertProductsResponse(),
    )
    assert [result.status.code for result in stored.results] == [0, 0, 0, grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    assert violation(stored.results[3].status) == "products[3].images[0].encoded"
    answer = await ask(grpcurl, served, SEARCH, {"product_id": "p0", "k": 5})
    found = json_format.ParseDict(answer, search_service_pb2.SearchResponse())
    expected = await served.search.Search(search_service_pb2.SearchRequest(product_id="p0", k=5))
    assert [n.product.id for n in found.neighbors] == [n.product.id for n in expected.neighbors]
    assert len(found.neighbors) == 2
    assert found.stats.exact


async def test_embeds(served: Served, grpcurl: Tool) -> None:
    """An image in base64 has the embedding that a client with stubs gets."""
    answer = await ask(grpcurl, served, EMBED, {"image": image(1)})
    got = json_format.ParseDict(answer, embedding_service_pb2.EmbedResponse())
    expected = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=encoded(noise(1))))
    assert list(got.embedding) == pytest.approx(list(expected.embedding))


async def test_embeds_a_stream(served: Served, grpcurl: Tool) -> None:
    """Messages one after the other on standard input are each answered; a bad image with a status of its own."""
    asked = [{"id": str(seed), "image": image(seed)} for seed in range(4)] + [{"id": "bad", "image": {"encoded": ""}}]
    said = await grpcurl.run("-d", "@", address(served), EMBED_STREAM, stdin="\n".join(map(json.dumps, asked)))
    assert (said.status, said.errors) == (0, "")
    answers = {
        answer.id: answer
        for answer in (
            json_format.ParseDict(each, embedding_service_pb2.EmbedStreamResponse())
            for each in json_values(said.output)
        )
    }
    assert violation(answers.pop("bad").status) == "image.encoded"
    assert {key: len(answer.embedding.values) for key, answer in answers.items()} == dict.fromkeys("0123", 48)


async def test_shows_the_field_to_blame(served: Served, grpcurl: Tool) -> None:
    """A rejection's BadRequest is shown by its fields, not as bytes."""
    said = await grpcurl.run("-d", '{"product_id": "a", "k": 0}', address(served), SEARCH)
    status = error(said)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert violation(status) == "k"


async def test_shows_what_was_not_found(served: Served, grpcurl: Tool) -> None:
    """A missing product's ResourceInfo is shown by its fields."""
    status = error(await grpcurl.run("-d", '{"product_id": "a"}', address(served), SEARCH))
    resource = error_details_pb2.ResourceInfo()
    assert status.details[0].Unpack(resource)
    assert (resource.resource_type, resource.resource_name) == ("product", "a")


async def test_shows_when_to_come_back(serve: Serve, grpcurl: Tool) -> None:
    """A full queue's RetryInfo is shown by its field."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=1) as served, full(served, model):
        said = await grpcurl.run("-d", json.dumps({"image": image(3)}), address(served), EMBED)
        status = error(said)
        assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() >= 1


async def test_deadline_travels(serve: Serve, grpcurl: Tool) -> None:
    """`-max-time` is the call's deadline: an image that waits until then is dropped and never computed."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=2) as served, full(served, model):
        model.session.sizes.clear()
        said = await grpcurl.run("-max-time", "5", "-d", json.dumps({"image": image(3)}), address(served), EMBED)
        assert error(said).code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
    assert sum(model.session.sizes) == 2


async def test_health(served: Served, grpcurl: Tool) -> None:
    """Health is told for the server, for each service, and for all of them in one call."""
    for service in ("", *SERVICES):
        assert await ask(grpcurl, served, f"{HEALTH}/Check", {"service": service}) == {"status": "SERVING"}
    listed = await ask(grpcurl, served, f"{HEALTH}/List")
    assert listed["statuses"].keys() == {"", *SERVICES}


async def test_mask_names_attributes_as_they_are(served: Served, grpcurl: Tool) -> None:
    """Grpcurl writes a field mask as a message, so that any attribute can be named in it."""
    facts = {"in_stock": "yes", "inStock": "yes", "Color": "red", "size 1": "M", "price": "10"}
    await served.catalog.UpsertProducts(
        catalog_service_pb2.UpsertProductsRequest(products=[product("a", 1, attributes=facts)])
    )
    mask = {"paths": ["inStock", "Color", "size 1", "price"]}
    changed = await ask(grpcurl, served, UPDATE, {"id": "a", "attributes": {"price": "9"}, "clear": mask})
    assert changed["product"]["attributes"] == {"in_stock": "yes", "price": "9"}


async def test_bearer_token(serve: Serve, tmp_path: Path, grpcurl: Tool) -> None:
    """A token travels as a header; without it the API can still be listed, and calls are UNAUTHENTICATED."""
    tokens = tmp_path / "tokens"
    tokens.write_text("reader r-secret\n")
    async with serve(auth_keys_file=tokens) as served:
        method = "lookalike.v1.EmbeddingService/GetModel"
        assert method.split("/", 1)[0] in (await grpcurl.run(address(served), "list")).output
        rejected = error(await grpcurl.run(address(served), method))
        assert rejected.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
        answer = await ask(grpcurl, served, method, None, "-H", "authorization: Bearer r-secret")
        assert answer["dim"] == 48
