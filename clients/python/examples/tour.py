"""The tour in Python: the calls of a typical backend; clients/README.md documents what it prints."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np

from lookalike_client import Client, EmbeddedImage, LookalikeError, Neighbor, TlsError
from lookalike_client.channel import MAX_MESSAGE_BYTES
from lookalike_client.connection_options import ConnectionOptions, OptionError, connection_options

WINDOW = 32
"""At most this many images are in flight: sent, without a response yet."""

MAX_IMAGE_BYTES = MAX_MESSAGE_BYTES - 4096
"""A message also contains the file's name, at most 255 characters, and a few bytes of its own."""


class Tour:
    """The steps; each returns its part of the output or raises `LookalikeError`."""

    def __init__(self, client: Client, options: argparse.Namespace) -> None:
        self._client = client
        self._options = options

    def steps(self) -> dict[str, Callable[[], Any]]:
        """Return the steps by name, in order."""
        return {
            "health": self.health,
            "model": self.model,
            "search_by_image": self.search_by_image,
            "search_by_id": self.search_by_id,
            "embed_stream": self.embed_stream,
            "bad_image": self.bad_image,
        }

    def health(self) -> str:
        """Check that the server is SERVING."""
        status = self._client.health()
        if status != "SERVING":
            raise LookalikeError(grpc.StatusCode.UNAVAILABLE, f"the server's health is {status}")
        return status

    def model(self) -> dict[str, Any]:
        """Describe the model."""
        model = self._client.model()
        return {
            **{name: getattr(model, name) for name in ("name", "backbone", "weights", "dim")},
            "metric": f"METRIC_{model.metric.upper()}",
            **{name: getattr(model, name) for name in ("input_width", "input_height", "precision", "digest")},
        }

    def search_by_image(self) -> dict[str, Any]:
        """Search with an image."""
        options = self._options
        result = self._client.search(image=options.image, category=options.category, k=options.k)
        return _search_result(result.neighbors, result.stats.model_digest)

    def search_by_id(self) -> dict[str, Any]:
        """Search with a product."""
        result = self._client.search(product_id=self._options.product_id, k=self._options.k)
        return _search_result(result.neighbors, result.stats.model_digest)

    def embed_stream(self) -> list[dict[str, Any]]:
        """Embed every image of a folder over one stream."""
        skipped: list[EmbeddedImage] = []

        def skip(name: str, code: grpc.StatusCode, reason: str) -> None:
            skipped.append(EmbeddedImage(name, error=LookalikeError(code, f"{name}: {reason}")))

        def images() -> Iterator[tuple[str, bytes]]:
            for path in sorted(self._options.folder.iterdir()):
                if path.name.startswith(".") or path.is_dir():
                    continue
                # a name may be any bytes; a message allows only UTF-8
                name = os.fsencode(path.name).decode(errors="replace")
                if path.exists() and not path.is_file():
                    # reading a pipe would block until something is written to it
                    skip(name, grpc.StatusCode.NOT_FOUND, "is not a regular file")
                    continue
                try:
                    image = path.read_bytes()
                except OSError as error:
                    skip(name, grpc.StatusCode.NOT_FOUND, str(error.strerror))
                    continue
                if len(image) > MAX_IMAGE_BYTES:
                    reason = f"has {len(image):,} bytes; the maximum for a message is {MAX_IMAGE_BYTES:,}"
                    skip(name, grpc.StatusCode.INVALID_ARGUMENT, reason)
                    continue
                yield name, image

        embedded = self._client.embed_many(images(), window=WINDOW, timeout=self._options.stream_deadline)
        return sorted(map(_embed_result, [*embedded, *skipped]), key=lambda each: each["id"].encode())

    def bad_image(self) -> dict[str, Any] | None:
        """Embed a file that is not an image and return the error; None where the server accepts it."""
        try:
            self._client.embed(self._options.bad_image)
        except LookalikeError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return _error(error)
        return None


def _search_result(neighbors: Sequence[Neighbor], model_digest: str) -> dict[str, Any]:
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
            for each in neighbors
        ],
        "model_digest": model_digest,
    }


def _embed_result(image: EmbeddedImage) -> dict[str, Any]:
    if image.embedding is None:
        assert image.error is not None  # noqa: S101 - exactly one of the two is set
        return {"id": image.id, "error": _error(image.error)}
    values = image.embedding.values.astype(np.float64).tolist()
    squares = 0.0
    for value in values:  # one after the other, as the other languages do: sum() would round otherwise
        squares += value * value
    return {"id": image.id, "dim": len(values), "norm": math.sqrt(squares), "first": values[:4]}


def _error(error: LookalikeError) -> dict[str, Any]:
    return {
        "code": error.code.name,
        "message": error.message,
        "violations": [{"field": each.field, "description": each.description} for each in error.violations],
        "retry_after_ms": None if error.retry_after is None else round(error.retry_after * 1000),
    }


def to_json(value: Any, indent: str = "") -> str:
    """Write JSON byte for byte as the tours in other languages do, where 0.0 is 0 and 1e-05 is 0.00001.

    Args:
        value: Dicts, lists, strings, numbers, booleans and None.
        indent: The indentation of the line on which the value begins.
    """
    inner = f"{indent}  "
    if isinstance(value, dict):
        parts = [f"{to_json(name)}: {to_json(each, inner)}" for name, each in value.items()]
        return _block("{", parts, "}", indent)
    if isinstance(value, list):
        return _block("[", [to_json(each, inner) for each in value], "]", indent)
    if isinstance(value, float):
        if 1e-6 <= abs(value) < 1e21:
            return f"{Decimal(repr(value)).normalize():f}"
        return repr(value).replace("e-0", "e-") if value else "0"
    return json.dumps(value, ensure_ascii=False).replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def _block(opening: str, parts: list[str], closing: str, indent: str) -> str:
    if not parts:
        return f"{opening}{closing}"
    lines = ",\n".join(f"{indent}  {part}" for part in parts)
    return f"{opening}\n{lines}\n{indent}{closing}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(_fail(message, 2))


def _fail(message: str, status: int) -> int:
    print(f"tour: {' '.join(message.split())}", file=sys.stderr)
    return status


def _above(minimum: float, kind: Callable[[str], Any], expected: str) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not minimum < value < math.inf:
            raise argparse.ArgumentTypeError(f"must be {expected}, not {text!r}")
        return value

    return number


def _options() -> argparse.Namespace:
    parser = _Parser(
        "tour",
        description="Make the calls of a typical backend to a Lookalike server and print the results as JSON.",
        allow_abbrev=False,
    )
    seconds = _above(0, float, "a number of seconds above 0")
    parser.add_argument("--server", metavar="HOST:PORT", default="127.0.0.1:50051")
    parser.add_argument("--token")
    parser.add_argument("--token-file", metavar="FILE")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--ca", metavar="FILE")
    parser.add_argument("--cert", metavar="FILE")
    parser.add_argument("--key", metavar="FILE")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--product-id", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bad-image", type=Path, required=True)
    parser.add_argument("--k", type=_above(-1, int, "a whole number, 0 or more"), default=5)
    parser.add_argument("--deadline", metavar="SECONDS", type=seconds, default=10.0)
    parser.add_argument("--stream-deadline", metavar="SECONDS", type=seconds, default=300.0)
    options = parser.parse_args()
    try:
        # a missing file is an error before the first call
        options.image, options.bad_image = options.image.read_bytes(), options.bad_image.read_bytes()
        next(options.folder.iterdir(), None)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    try:
        # what the options do not say, the environment may
        options.connection = connection_options(
            options.server,
            options.token,
            options.token_file,
            tls=options.tls,
            ca=options.ca,
            certificate=options.cert,
            key=options.key,
        )
    except OptionError as error:
        parser.error(str(error))
    return options


def main() -> int:
    """Run the tour and return the exit status."""
    # KeyboardInterrupt may be raised inside gRPC while it holds a lock; the default ends the process at once
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = _options()
    connection: ConnectionOptions = options.connection
    server = connection.server
    try:
        client = Client(server, timeout=options.deadline, token=connection.token, tls=connection.tls)
    except TlsError as error:
        return _fail(str(error), 2)
    if connection.warning:
        print(f"tour: {connection.warning}", file=sys.stderr)
    results: dict[str, Any] = {}
    status = 0
    with client:
        for name, step in Tour(client, options).steps().items():
            try:
                results[name] = step()
            except LookalikeError as error:
                results["failed"] = {"step": name, "error": _error(error)}
                unavailable = error.code is grpc.StatusCode.UNAVAILABLE and error.request_id is None
                unreachable = unavailable and name == "health"
                reason = f"no server responds at {server} ({error})" if unreachable else str(error)
                status = _fail(f"{name}: {reason}", 1)
                break
    print(to_json(results))
    return status


if __name__ == "__main__":
    sys.exit(main())
