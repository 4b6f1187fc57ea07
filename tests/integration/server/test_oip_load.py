"""The Open Inference Protocol on a busy server: which calls are rejected, which wait, and which fail together."""

from __future__ import annotations

import asyncio

import grpc
from google.rpc import error_details_pb2

from lookalike_server.config import Settings
from lookalike_server.inference.manifest import ModelFolder
from support.both_runtimes import provider  # noqa: F401 - every server runs with both
from support.fakes import FailingSession
from support.oip_requests import embed, files, images, infer, raw_files, raw_images, stub, vectors
from support.serving import HeldModel, Serve, load_session, rejected, until, violation


async def test_full_queue_is_rejected_with_a_retry_delay(serve: Serve) -> None:
    """A few images are rejected at once where Embed is, with RetryInfo and the trailer that clients obey."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=16) as served:
        model.session.hold()
        first = embed(served, 1)
        await model.caught()
        inside = [embed(served, seed) for seed in range(2, 17)]
        await until(lambda: "Queued: 15 " in repr(served.app.batcher))
        call = stub(served).ModelInfer(raw_images(images(16)))
        code, _, status = await rejected(call)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert int(dict(await call.trailing_metadata())["grpc-retry-pushback-ms"]) == retry.retry_delay.ToMilliseconds()
        # The image that did enter the queue has left it again.
        await until(lambda: "Queued: 15 " in repr(served.app.batcher))
        model.session.let_go()
        await asyncio.gather(first, *inside)


async def test_many_images_wait_as_bulk(serve: Serve) -> None:
    """A call with more images than a window waits where a smaller one would be rejected, and is answered whole."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=16) as served:
        model.session.hold()
        first = embed(served, 1)
        await model.caught()
        inside = [embed(served, seed) for seed in range(2, 18)]
        await until(lambda: "Queued: 16 " in repr(served.app.batcher))
        bulk = infer(served, raw_images(images(17, first=100)))
        await until(lambda: "Queued: 32 " in repr(served.app.batcher))
        model.session.let_go()
        assert vectors(await bulk).shape == (17, 48)
        await asyncio.gather(first, *inside)


async def test_bulk_calls_take_turns(serve: Serve) -> None:
    """A call of 1,000 images does not put them all before those of a shorter call that comes after it."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.hold()
        long = infer(served, raw_images(images(1000)))
        await model.caught()
        window = served.app.engine.stream_window
        await until(lambda: f"Queued: {window - 1} " in repr(served.app.batcher))
        short = infer(served, raw_images(images(window + 1)))
        await until(lambda: f"bulk: <FairQueue [Queued: {window} " in repr(served.app.engine))
        model.session.let_go()
        await short
        assert not long.done()
        assert vectors(await long).shape == (1000, 48)


async def test_one_call_does_not_fill_the_queue(serve: Serve) -> None:
    """Of a call with 400 images no more than a stream's window are on their way, and others are let in beside it."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=40) as served:
        model.session.hold()
        many = infer(served, raw_images(images(400)))
        await model.caught()
        window = served.app.engine.stream_window
        await until(lambda: f"Queued: {window - 1} " in repr(served.app.batcher))
        other = embed(served, 1000)
        await until(lambda: f"Queued: {window} " in repr(served.app.batcher))
        model.session.let_go()
        assert len((await other).embedding) == 48
        assert vectors(await many).shape == (400, 48)
        assert max(served.observer.batches) == 16


async def test_small_window_does_not_reject_its_own_call(serve: Serve) -> None:
    """A call with more images than the queue holds is not rejected because of its own images."""
    async with serve(max_queue_size=2) as served:
        assert vectors(await stub(served).ModelInfer(raw_images(images(16)))).shape == (16, 48)


async def test_bad_file_ends_its_own_call_alone(serve: Serve) -> None:
    """One broken file among others ends the call at once, takes the others out of the queue, and nobody else's."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.sizes.clear()
        model.session.hold()
        first = embed(served, 1)
        await model.caught()
        other = embed(served, 2)
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
        encoded_files = files(5)
        encoded_files[3] = encoded_files[3][:50]
        code, _, status = await rejected(stub(served).ModelInfer(raw_files(encoded_files)))
        assert (code, violation(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "encoded[3]")
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
        model.session.let_go()
        await asyncio.gather(first, other)
        assert model.session.sizes == [1, 1]


async def test_failing_model_is_internal_without_a_reason(serve: Serve) -> None:
    """A failed run is INTERNAL for the whole call, without the reason, and the next call is answered."""
    sessions = []

    def load(folder: ModelFolder, settings: Settings) -> FailingSession:
        sessions.append(FailingSession(load_session(folder, settings), lambda run: run == 0))
        return sessions[-1]

    async with serve(load_session=load) as served:
        for session in sessions:
            session.begin()
        code, message, _ = await rejected(stub(served).ModelInfer(raw_images(images(4))))
        assert code == grpc.StatusCode.INTERNAL
        assert "secret" not in message
        assert vectors(await stub(served).ModelInfer(raw_images(images(4)))).shape == (4, 48)
