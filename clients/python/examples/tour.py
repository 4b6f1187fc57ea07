"""The tour in Python: one walk through what a backend asks a server; clients/README.md says what it prints."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np

from lookalike_client import Client, EmbeddedPhoto, LookalikeError, SearchAnswer
from lookalike_client.channel import MAX_MESSAGE_BYTES

WINDOW = 32
"""Photos sent and not yet answered, at most."""

MAX_PHOTO_BYTES = MAX_MESSAGE_BYTES - 4096
"""What fits into a message beside a file's name, which has at most 255 characters."""


class Tour:
    """The steps, each of which returns its part of the answer or raises `LookalikeError`."""

    def __init__(self, client: Client, options: argparse.Namespace) -> None:
        self._client = client
        self._options = options

    def steps(self) -> dict[str, Callable[[], Any]]:
        """The steps by name, in their order."""
        return {
            "health": self.health,
            "model": self.model,
            "search_by_image": self.search_by_image,
            "search_by_id": self.search_by_id,
            "embed_stream": self.embed_stream,
            "bad_image": self.bad_image,
        }

    def health(self) -> str:
        """Whether the server serves."""
        status = self._client.health()
        if status != "SERVING":
            raise LookalikeError(grpc.StatusCode.UNAVAILABLE, f"the server's health is {status}")
        return status

    def model(self) -> dict[str, Any]:
        """Which model answers."""
        model = self._client.model()
        return {
            **{name: getattr(model, name) for name in ("name", "backbone", "weights", "dim")},
            "metric": f"METRIC_{model.metric.upper()}",
            **{name: getattr(model, name) for name in ("input_width", "input_height", "precision", "digest")},
        }

    def search_by_image(self) -> dict[str, Any]:
        """What looks like a photo."""
        asked = self._options
        return _answer(self._client.search(image=asked.image, category=asked.category, k=asked.k))

    def search_by_id(self) -> dict[str, Any]:
        """What looks like a product."""
        return _answer(self._client.search(product_id=self._options.product_id, k=self._options.k))

    def embed_stream(self) -> list[dict[str, Any]]:
        """Every photo of a folder, over one stream."""
        left_out: list[EmbeddedPhoto] = []

        def leave_out(name: str, code: grpc.StatusCode, reason: str) -> None:
            left_out.append(EmbeddedPhoto(name, error=LookalikeError(code, f"{name}: {reason}")))

        def photos() -> Iterator[tuple[str, bytes]]:
            for path in sorted(self._options.folder.iterdir()):
                if path.name.startswith(".") or path.is_dir():
                    continue
                # a name may be of any bytes, and a message holds only UTF-8
                name = os.fsencode(path.name).decode(errors="replace")
                if path.exists() and not path.is_file():
                    # reading a pipe would wait for its writer
                    leave_out(name, grpc.StatusCode.NOT_FOUND, "is not a file")
                    continue
                try:
                    photo = path.read_bytes()
                except OSError as error:
                    leave_out(name, grpc.StatusCode.NOT_FOUND, str(error.strerror))
                    continue
                if len(photo) > MAX_PHOTO_BYTES:
                    leave_out(
                        name, grpc.StatusCode.INVALID_ARGUMENT, f"has {len(photo):,} bytes, too many for a message"
                    )
                    continue
                yield name, photo

        answers = self._client.embed_many(photos(), window=WINDOW, timeout=self._options.stream_deadline)
        return sorted(map(_embedded, [*answers, *left_out]), key=lambda each: each["id"].encode())

    def bad_image(self) -> dict[str, Any] | None:
        """What a refusal tells."""
        try:
            self._client.embed(self._options.bad_image)
        except LookalikeError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return _error(error)
        return None


def _answer(answer: SearchAnswer) -> dict[str, Any]:
    return {
        "neighbors": [
            {
                "id": each.product.id,
                "category": each.product.category,
                "title": each.product.title,
                "distance": each.distance,
                "similarity": each.similarity,
                "image_index": each.image_index,
            }
            for each in answer.neighbors
        ],
        "model_digest": answer.receipt.model_digest,
    }


def _embedded(photo: EmbeddedPhoto) -> dict[str, Any]:
    if photo.embedding is None:
        assert photo.error is not None  # noqa: S101 - one of the two is there
        return {"id": photo.id, "error": _error(photo.error)}
    values = photo.embedding.values.astype(np.float64)
    return {"id": photo.id, "dim": values.size, "norm": math.sqrt(values @ values), "first": values[:4].tolist()}


def _error(error: LookalikeError) -> dict[str, Any]:
    return {
        "code": error.code.name,
        "message": error.message,
        "violations": [{"field": each.field, "description": each.description} for each in error.violations],
        "retry_after_ms": None if error.retry_after is None else round(error.retry_after * 1000),
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(_complain(message, 2))


def _complain(message: str, status: int) -> int:
    print(f"tour: {' '.join(message.split())}", file=sys.stderr)
    return status


def _above(least: float, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above {least:g}")
        return value

    return number


def _options() -> argparse.Namespace:
    parser = _Parser("tour", description="One walk through what a backend asks a Lookalike server.", allow_abbrev=False)
    parser.add_argument("--server", metavar="HOST:PORT", default="127.0.0.1:50051")
    parser.add_argument("--token", default=os.environ.get("LOOKALIKE_CLIENT_TOKEN"))
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--product-id", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bad-image", type=Path, required=True)
    parser.add_argument("--k", type=_above(-1, int), default=5)
    parser.add_argument("--deadline", metavar="SECONDS", type=_above(0, float), default=10.0)
    parser.add_argument("--stream-deadline", metavar="SECONDS", type=_above(0, float), default=300.0)
    options = parser.parse_args()
    try:
        # read once, and to know it before the first call
        options.image, options.bad_image = options.image.read_bytes(), options.bad_image.read_bytes()
        next(options.folder.iterdir(), None)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    return options


def main() -> int:
    """Take the tour; the exit status."""
    # a KeyboardInterrupt may rise inside gRPC while it holds a lock; the default ends the process at once
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = _options()
    answer: dict[str, Any] = {}
    status = 0
    with Client(options.server, timeout=options.deadline, token=options.token) as client:
        for name, step in Tour(client, options).steps().items():
            try:
                answer[name] = step()
            except LookalikeError as error:
                answer["failed"] = {"step": name, "error": _error(error)}
                absent = error.code is grpc.StatusCode.UNAVAILABLE and error.request_id is None and name == "health"
                where = f"no server answers at {options.server} ({error})" if absent else str(error)
                status = _complain(f"{name}: {where}", 1)
                break
    print(json.dumps(answer, indent=2, ensure_ascii=False))
    return status


if __name__ == "__main__":
    sys.exit(main())
