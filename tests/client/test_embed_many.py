"""Many photos over one stream: `embed_many`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode

from client.fake_refusals import Refusal
from client.fake_server import FakeServer
from client.fake_state import embedding_of, photo
from lookalike.v1 import image_pb2
from lookalike_client import LookalikeError

Ask = Callable[..., Any]


def test_every_photo_has_an_answer_with_its_name(ask: Ask) -> None:
    """Each embedding comes under its photo's name, float32 [dim] and read-only, with its receipt."""
    answers = {each.id: each for each in ask("embed_many", [(name, photo(name)) for name in "abc"])}
    assert sorted(answers) == ["a", "b", "c"]
    for name, answer in answers.items():
        assert answer.error is None
        np.testing.assert_array_equal(answer.embedding.values, embedding_of(image_pb2.Image(encoded=photo(name))))
        assert not answer.embedding.values.flags.writeable
        assert answer.embedding.receipt.batch_size == 1


def test_a_bad_photo_fails_alone(ask: Ask) -> None:
    """A photo that is refused has the error an Embed of its own would have raised; its neighbours have embeddings."""
    answers = {each.id: each for each in ask("embed_many", [("a", photo("a")), ("bad", b"text"), ("c", photo("c"))])}
    assert [name for name in "abc" if name in answers and answers[name].error is None] == ["a", "c"]
    bad = answers["bad"]
    assert bad.embedding is None
    assert bad.error.code is StatusCode.INVALID_ARGUMENT
    assert [each.field for each in bad.error.violations] == ["image.encoded"]


def test_no_more_photos_are_under_way_than_the_window(ask: Ask, fake: FakeServer) -> None:
    """Photos are taken only when the window has room, and all of its room is used: the server waits for a full one."""
    fake.stream_group = window = 5
    ahead: list[int] = []

    def photos() -> Iterator[tuple[str, bytes]]:
        for number in range(53):
            ahead.append(number - fake.stream_answered)
            yield str(number), photo(str(number))

    answers = ask("embed_many", photos(), window=window)
    assert sorted(int(each.id) for each in answers) == list(range(53))
    # the one that is taken next waits in the caller's hands until there is room
    assert max(ahead) <= window


def test_no_photos(ask: Ask) -> None:
    """Nothing in, nothing out."""
    assert ask("embed_many", []) == []


def test_a_refused_stream_is_an_error(ask: Ask, fake: FakeServer) -> None:
    """A stream that the server refuses raises its error."""
    fake.refusals = [Refusal(StatusCode.UNAUTHENTICATED, "no token")]
    with pytest.raises(LookalikeError) as caught:
        ask("embed_many", [("a", photo("a"))])
    assert caught.value.code is StatusCode.UNAUTHENTICATED


def test_what_reading_the_photos_raises_is_raised(ask: Ask) -> None:
    """A file that is not there, or an iterable that breaks, is the caller's own error, not one of gRPC."""

    def broken() -> Iterator[tuple[str, bytes]]:
        yield "a", photo("a")
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        ask("embed_many", broken())
    with pytest.raises(FileNotFoundError):
        ask("embed_many", [("a", "nowhere.jpg")])


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_without_room_is_refused(ask: Ask, window: int) -> None:
    """A window that no photo fits through would wait for ever."""
    with pytest.raises(ValueError, match="window"):
        ask("embed_many", [("a", photo("a"))], window=window)


@pytest.mark.parametrize(("serving", "word"), [(True, "SERVING"), (False, "NOT_SERVING")])
def test_health(ask: Ask, fake: FakeServer, serving: bool, word: str) -> None:
    """The health service's own word."""
    fake.set_serving(serving=serving)
    assert ask("health") == word
