"""What an import costs without a server: files are read and decoded by the server's own decoder, and the model runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import Model, threads


def decode_and_run(
    model: Model, run: Callable[[int, Any], Any], batch: int, streams: int, files: Sequence[str]
) -> dict[str, Any]:
    """Decode in a pool with a thread a core, beside the runs: the images a second, or the error.

    Args:
        model: The model, for its size of images.
        run: Runs a batch, uint8 [batch, height, width, 3], on one of the streams.
        batch: Images a run; the last batch is filled up with its last image.
        streams: Runs side by side.
        files: The image files.
    """
    try:
        from lookalike_server.domain.errors import LookalikeError
        from lookalike_server.domain.inference import EncodedImage, Resize
        from lookalike_server.inference.image_decoding import ImageDecoder
    except ImportError as error:
        return {"error": f"the server's decoder cannot be imported here: {error}"}
    decoder = ImageDecoder(model.height, model.width, Resize(model.resize), max_bytes=2**31, max_pixels=2**31)

    def decode(file: str) -> Any:
        return decoder.decode(EncodedImage(Path(file).read_bytes(), None, file))

    turn = threading.Lock()
    start = time.perf_counter()
    with ThreadPoolExecutor(threads()) as decoders, ThreadPoolExecutor(streams) as runners:
        batches = _decoding(lambda file: decoders.submit(decode, file), files, batch, 2 * streams)

        def work(stream: int) -> None:
            while True:
                with turn:
                    decoded = next(batches, None)
                if decoded is None:
                    return
                images = [image.result() for image in decoded]
                run(stream, np.stack(images + images[-1:] * (batch - len(images))))

        try:
            list(runners.map(work, range(streams)))
        except (LookalikeError, OSError) as error:
            return {"error": str(error)}
    return {"throughput": len(files) / (time.perf_counter() - start)}


def _decoding(
    submit: Callable[[str], Future[Any]], files: Sequence[str], batch: int, ahead: int
) -> Iterator[list[Future[Any]]]:
    """Yield batches of images, with so many further batches being decoded."""
    rest = iter(files)
    waiting: deque[list[Future[Any]]] = deque()
    while some := list(islice(rest, batch)):
        waiting.append([submit(file) for file in some])
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting
