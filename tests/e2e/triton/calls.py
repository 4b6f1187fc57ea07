"""Makes calls with Triton's client; runs in .venv-triton, which has none of our packages.

`calls.py ADDRESS sync|aio FOLDER NAME...` makes the named calls one after another and prints a JSON object with the
result of each: {"value": ...}, or the client's exception as {"status": ..., "message": ...}. FOLDER holds images.npy
(uint8 [n, height, width, 3]) and the same images as 0.jpg, 1.jpg ...
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

NO_PROXY = [("grpc.enable_http_proxy", 0)]


def image(images: np.ndarray[Any, Any], datatype: str = "UINT8") -> InferInput:
    """Return pixels as an input."""
    tensor = InferInput("image", images.shape, datatype)
    tensor.set_data_from_numpy(images)
    return tensor


def encoded(folder: Path, *shape: int) -> InferInput:
    """Return the image files as an input."""
    paths = sorted(folder.glob("*.jpg"), key=lambda path: int(path.stem))
    array = np.array([path.read_bytes() for path in paths], dtype=np.object_).reshape(shape or -1)
    tensor = InferInput("encoded", array.shape, "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


def to_dict(result: Any) -> dict[str, Any]:
    """Convert a result to JSON types."""
    response = result.get_response(as_json=True)
    return {
        "embedding": result.as_numpy("embedding").tolist(),
        "dtype": str(result.as_numpy("embedding").dtype),
        "id": response.get("id", ""),
        "version": response["model_version"],
        "parameters": sorted(response["parameters"]),
    }


def callback(client: Any, tensor: InferInput) -> Any:
    """Call with a callback, which only the sync client has."""
    if not hasattr(client, "async_infer"):
        return client.infer("tiny", [tensor])
    done, outcome = threading.Event(), []

    def on_done(result: Any, error: InferenceServerException | None) -> None:
        outcome.append(error or result)
        done.set()

    client.async_infer("tiny", [tensor], on_done)
    done.wait(60)
    if isinstance(outcome[0], InferenceServerException):
        raise outcome[0]
    return outcome[0]


def calls(client: Any, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return every call by name."""
    images = np.load(folder / "images.npy")
    one, all_of_them = image(images[:1]), image(images)
    unknown = InferInput("INPUT__0", [1], "UINT8")
    unknown.set_data_from_numpy(np.zeros(1, np.uint8))
    shared = InferInput("image", [1, 32, 32, 3], "UINT8")
    shared.set_shared_memory("region", 3072)
    token_file = folder / "token"
    token = {"authorization": f"Bearer {token_file.read_text() if token_file.exists() else ''}"}
    return {
        "live": client.is_server_live,
        "ready": client.is_server_ready,
        "model_ready": lambda: client.is_model_ready("tiny"),
        "unknown model ready": lambda: client.is_model_ready("other"),
        "server metadata": lambda: client.get_server_metadata(as_json=True),
        "model metadata": lambda: client.get_model_metadata("tiny", as_json=True),
        "1 image": lambda: client.infer("tiny", [one]),
        "16 images": lambda: client.infer("tiny", [all_of_them], request_id="mine"),
        "16 files": lambda: client.infer("tiny", [encoded(folder)], outputs=[InferRequestedOutput("embedding")]),
        "a column of files": lambda: client.infer("tiny", [encoded(folder, 16, 1)], model_version="1"),
        "compressed": lambda: client.infer("tiny", [one], compression_algorithm="gzip", priority=1),
        "in the background": lambda: callback(client, one),
        "with a token": lambda: client.infer("tiny", [one], headers=token),
        "timeout": lambda: client.infer("tiny", [one], client_timeout=0.5),
        "timeout of the request": lambda: client.infer("tiny", [one], timeout=100_000),
        "wrong shape": lambda: client.infer("tiny", [image(images[:1].transpose(0, 3, 1, 2))]),
        "wrong datatype": lambda: client.infer("tiny", [image(images[:1].astype(np.float32), "FP32")]),
        "wrong length": lambda: client.infer("tiny", [image(images[:1]).set_shape([2, 32, 32, 3])]),
        "unknown model": lambda: client.infer("other", [one]),
        "unknown version": lambda: client.infer("tiny", [one], model_version="7"),
        "unknown model metadata": lambda: client.get_model_metadata("other"),
        "unknown input": lambda: client.infer("tiny", [unknown]),
        "unknown output": lambda: client.infer("tiny", [one], outputs=[InferRequestedOutput("logits")]),
        "shared memory": lambda: client.infer("tiny", [shared]),
        "model config": lambda: client.get_model_config("tiny"),
        "repository": client.get_model_repository_index,
        "load": lambda: client.load_model("tiny"),
    }


def plain(value: Any) -> Any:
    """Convert a value to JSON types."""
    return to_dict(value) if isinstance(value, tritonclient.grpc.InferResult) else value


def failure(error: InferenceServerException) -> dict[str, Any]:
    """Convert an exception to JSON types."""
    return {"status": error.status(), "message": error.message()}


async def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """Make a call and return its result or its exception."""
    try:
        value = call()
        if inspect.isawaitable(value):
            value = await value
    except InferenceServerException as error:
        return failure(error)
    return {"value": plain(value)}


async def main(address: str, kind: str, folder: str, *names: str) -> None:
    """Make the calls and print their results."""
    module = tritonclient.grpc if kind.startswith("sync") else tritonclient.grpc.aio
    client = module.InferenceServerClient(address, channel_args=NO_PROXY if kind.endswith("-direct") else None)
    known = calls(client, Path(folder))
    print(json.dumps({name: await outcome(known[name]) for name in names}))
    closing = client.close()
    if inspect.isawaitable(closing):
        await closing


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
