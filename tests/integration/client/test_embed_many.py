"""Many images over one stream: `embed_many`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode

from lookalike.v1 import image_pb2
from lookalike_client import LookalikeError
from support.fake_rejections import Rejection
from support.fake_server import FakeServer
from support.fake_state import embedding_of, image_file

Ask = Callable[..., Any]


def test_every_image_has_an_answer_with_its_name(ask: Ask) -> None:
    """Each embedding comes under its image's name, float32 [dim] and read-only, with its stats."""
    answers = {each.id: each for each in ask("embed_many", [(name, image_file(name)) for name in "abc"])}
    assert sorted(answers) == ["a", "b", "c"]
    for name, answer in answers.items():
        assert answer.error is None
        np.testing.assert_array_equal(answer.embedding.values, embedding_of(image_pb2.Image(encoded=image_file(name))))
        assert not answer.embedding.values.flags.writeable
        assert answer.embedding.stats.batch_size == 1


def test_a_bad_image_fails_alone(ask: Ask) -> None:
    """An image that is rejected has the error an Embed of its own would have raised; its neighbors have embeddings."""
    answers = {
        each.id: each for each in ask("embed_many", [("a", image_file("a")), ("bad", b"text"), ("c", image_file("c"))])
    }
    assert [name for name in "abc" if name in answers and answers[name].error is None] == ["a", "c"]
    bad = answers["bad"]
    assert bad.embedding is None
    assert bad.error.code is StatusCode.INVALID_ARGUMENT
    assert [each.field for each in bad.error.violations] == ["image.encoded"]


def test_no_more_images_are_under_way_than_the_window(ask: Ask, fake: FakeServer) -> None:
    """Images are taken only when the window has room, and all of its room is used: the server waits for a full one."""
    fake.stream_group = window = 5
    ahead: list[int] = []

    def images() -> Iterator[tuple[str, bytes]]:
        for number in range(53):
            ahead.append(number - fake.stream_answered)
            yield str(number), image_file(str(number))

    answers = ask("embed_many", images(), window=window)
    assert sorted(int(each.id) for each in answers) == list(range(53))
    # the one that is taken next waits in the caller's hands until there is room
    assert max(ahead) <= window


def test_no_images(ask: Ask) -> None:
    """Nothing in, nothing out."""
    assert ask("embed_many", []) == []


def test_a_rejected_stream_is_an_error(ask: Ask, fake: FakeServer) -> None:
    """A stream that the server rejects raises its error."""
    fake.rejections = [Rejection(StatusCode.UNAUTHENTICATED, "no token")]
    with pytest.raises(LookalikeError) as caught:
        ask("embed_many", [("a", image_file("a"))])
    assert caught.value.code is StatusCode.UNAUTHENTICATED


def test_what_reading_the_images_raises_is_raised(ask: Ask) -> None:
    """A file that is not there, or an iterable that breaks, is the caller's own error, not one of gRPC."""

    def broken() -> Iterator[tuple[str, bytes]]:
        yield "a", image_file("a")
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        ask("embed_many", broken())
    with pytest.raises(FileNotFoundError):
        ask("embed_many", [("a", "nowhere.jpg")])


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_without_room_is_rejected(ask: Ask, window: int) -> None:
    """A window that no image fits through would wait for ever."""
    with pytest.raises(ValueError, match="window"):
        ask("embed_many", [("a", image_file("a"))], window=window)


@pytest.mark.parametrize(("serving", "word"), [(True, "SERVING"), (False, "NOT_SERVING")])
def test_health(ask: Ask, fake: FakeServer, serving: bool, word: str) -> None:
    """The health service's own word."""
    fake.set_serving(serving=serving)
    assert ask("health") == word
