"""Thumbnails of product images, fetched through the client and cached in memory.

Images are untrusted: `thumbnail_worker.py` decodes them, one at a time in one process that is bounded in memory and
time; what cannot be decoded there is None.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from lookalike_client import Client, LookalikeError
from lookalike_gallery import thumbnail_worker
from lookalike_gallery.thumbnail_worker import read_frame, write_frame

SIDE = 320
"""The longest side of a thumbnail in pixels: enough for a card on a high-density screen."""

_CACHE_BYTES = 64 * 1024 * 1024
_CACHE_SECONDS = 60.0
_WORKER_SECONDS = 5.0

# Address space: about a third is the interpreter and its libraries, the rest is for one image.
_WORKER_BYTES = 768 * 1024 * 1024


def thumbnail(data: bytes) -> bytes | None:
    """Return an upright JPEG on white of at most `SIDE` x `SIDE` pixels; None if the image cannot be decoded."""
    return _worker.make(data)


class ThumbnailWorker:
    """The process that decodes; started when it is needed, and again after an image that ended it. Thread-safe."""

    def __init__(self, seconds: float = _WORKER_SECONDS, memory_bytes: int = _WORKER_BYTES) -> None:
        """Allow each image so many seconds, and the process so much memory."""
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def make(self, data: bytes) -> bytes | None:
        """Make the thumbnail of one image, after those of others; None if it cannot be decoded within the bounds."""
        with self._lock:
            process, stdin, stdout = self._start()
            timer = threading.Timer(self._seconds, process.kill)
            timer.start()
            try:
                write_frame(stdin, data)
                small = read_frame(stdout)
            except OSError:  # it ended while it was written to
                small = None
            finally:
                timer.cancel()
            if small is None:
                self._end()
            return small or None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _start(self) -> tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            # The file and not the module, and not its folder (-P), so that it imports Pillow and nothing of ours.
            script, arguments = thumbnail_worker.__file__, (str(SIDE), str(self._memory_bytes))
            command = [sys.executable, "-P", script, *arguments]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process has no pipes")
        return self._process, stdin, stdout

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                try:
                    if pipe is not None:
                        pipe.close()
                except OSError:  # what could not be written any more
                    pass
            process.wait()


_worker = ThumbnailWorker()
atexit.register(_worker.close)


class ThumbnailCache:
    """Thumbnails by product and image, each fetched at most once a minute; thread-safe.

    The API does not say when a product was replaced, so a thumbnail may be a minute old; edits of this gallery drop
    the cached one at once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, int], tuple[float, bytes | None]] = OrderedDict()
        self._bytes = 0

    def get(self, keys: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """Return the thumbnail of each (product id, image index) in order; None for a product without that image.

        Raises:
            LookalikeError: A call failed for another reason than NOT_FOUND.
        """
        return list(self._pool.map(self._get, keys))

    def forget(self, product_id: str) -> None:
        """Drop the thumbnails of a product."""
        with self._lock:
            for key in [each for each in self._entries if each[0] == product_id]:
                self._drop(key)

    def _get(self, key: tuple[str, int]) -> bytes | None:
        now = time.monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and now - entry[0] < _CACHE_SECONDS:
                self._entries.move_to_end(key)
                return entry[1]
        try:
            small = thumbnail(self._client.image(*key).data)
        except LookalikeError as error:
            if error.code.name != "NOT_FOUND":
                raise
            small = None
        with self._lock:
            self._drop(key)
            self._entries[key] = (now, small)
            self._bytes += len(small or b"")
            while self._bytes > _CACHE_BYTES:
                self._drop(next(iter(self._entries)))
        return small

    def _drop(self, key: tuple[str, int]) -> None:
        _, small = self._entries.pop(key, (0.0, None))
        self._bytes -= len(small or b"")
