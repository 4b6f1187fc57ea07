"""Many images over one stream: `embed_many`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode

from lookalike.v1 import embedding_service_pb2, image_pb2
from lookalike_client import Client, LookalikeError
from support.catalogs import image_file
from support.scripted_server import Rejection, ScriptedServer

Call = Callable[..., Any]


def test_every_image_has_a_result_with_its_id(call: Call, real: Client) -> None:
    """Each embedding has its image's id, float32 [dim] and read-only, with its stats."""
    results = {each.id: each for each in call("embed_many", [(name, image_file(name)) for name in "abc"])}
    assert sorted(results) == ["a", "b", "c"]
    for name, result in results.items():
        assert result.error is None
        np.testing.assert_allclose(result.embedding.values, real.embed(image_file(name)).values, atol=1e-6)
        assert not result.embedding.values.flags.writeable
        assert result.embedding.stats.batch_size in {1, 2, 3}


def test_a_bad_image_fails_alone(call: Call) -> None:
    """An image that is rejected has the error that `embed` would have raised; the others have embeddings."""
    results = {
        each.id: each for each in call("embed_many", [("a", image_file("a")), ("bad", b"text"), ("c", image_file("c"))])
    }
    assert [name for name in "abc" if name in results and results[name].error is None] == ["a", "c"]
    bad = results["bad"]
    assert bad.embedding is None
    assert bad.error.code is StatusCode.INVALID_ARGUMENT
    assert [each.field for each in bad.error.violations] == ["image.encoded"]


def test_no_more_images_are_sent_than_the_window(call: Call, server: ScriptedServer) -> None:
    """Images are read only when the window has room, and it is filled: the server waits for a full window."""
    window, answered = 5, 0
    ahead: list[int] = []

    def in_groups(
        requests: Iterator[Any], _: grpc.ServicerContext
    ) -> Iterator[embedding_service_pb2.EmbedStreamResponse]:
        nonlocal answered
        while group := list(islice(requests, window)):
            answered += len(group)
            vector = image_pb2.Vector(values=[1.0])
            yield from (embedding_service_pb2.EmbedStreamResponse(id=each.id, embedding=vector) for each in group)

    server.handlers["EmbedStream"] = in_groups

    def images() -> Iterator[tuple[str, bytes]]:
        for number in range(53):
            ahead.append(number - answered)
            yield str(number), image_file(str(number))

    results = call("embed_many", images(), window=window)
    assert sorted(int(each.id) for each in results) == list(range(53))
    # the next one waits until there is room
    assert max(ahead) <= window


def test_no_images(call: Call) -> None:
    """Nothing in, nothing out."""
    assert call("embed_many", []) == []


def test_a_rejected_stream_is_an_error(call: Call, server: ScriptedServer) -> None:
    """A stream that the server rejects raises its error."""
    server.rejections = [Rejection(StatusCode.UNAUTHENTICATED, "no token")]
    with pytest.raises(LookalikeError) as caught:
        call("embed_many", [("a", image_file("a"))])
    assert caught.value.code is StatusCode.UNAUTHENTICATED


def test_what_reading_the_images_raises_is_raised(call: Call) -> None:
    """A missing file, or an iterable that raises, is the caller's own error, not one of gRPC."""

    def broken() -> Iterator[tuple[str, bytes]]:
        yield "a", image_file("a")
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        call("embed_many", broken())
    with pytest.raises(FileNotFoundError):
        call("embed_many", [("a", "nowhere.jpg")])


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_without_room_is_rejected(call: Call, window: int) -> None:
    """A window below 1 would wait forever."""
    with pytest.raises(ValueError, match="window"):
        call("embed_many", [("a", image_file("a"))], window=window)


@pytest.mark.parametrize(("serving", "status"), [(True, "SERVING"), (False, "NOT_SERVING")])
def test_health(call: Call, server: ScriptedServer, serving: bool, status: str) -> None:
    """The health service's status."""
    server.set_serving(serving=serving)
    assert call("health") == status
