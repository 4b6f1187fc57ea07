"""The unmodified `tritonclient` from the registry, sync and aio, against a real server."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.v1 import embedding_service_pb2
from lookalike_server import __version__
from support.credentials import add_key
from support.oip_requests import images
from support.paths import ROOT
from support.processes import output_of
from support.serving import HeldModel, Serve, Served, encoded, raw, until

PYTHON = ROOT / ".venv-triton" / "bin" / "python"
CALLS = Path(__file__).with_name("calls.py")
KINDS = ["sync", "aio"]
INVALID = "StatusCode.INVALID_ARGUMENT"
DEAD = "http://127.0.0.1:1"
"""A proxy that does not exist."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixteen images, as pixels and as files."""
    np.save(tmp_path / "images.npy", images(16))
    for number, pixels in enumerate(images(16)):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(pixels, "JPEG").encoded)
    return tmp_path


async def triton(address: str, kind: str, folder: Path, *names: str, **environment: str) -> dict[str, Any]:
    """Return the results of calls with Triton's client, by name; without the environment's proxies."""
    out = await output_of(
        str(PYTHON), "-W", "error", str(CALLS), address, kind, str(folder), *names, environment=environment
    )
    outcomes: dict[str, Any] = json.loads(out)
    assert list(outcomes) == list(names)
    return outcomes


def at(served: Served) -> str:
    """Return HOST:PORT of a server."""
    return f"127.0.0.1:{served.app.port}"


async def embedded(served: Served, image: Any) -> np.ndarray[Any, Any]:
    """Embed an image with `Embed`."""
    response = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=image))
    return np.array(response.embedding)


@pytest.mark.parametrize("kind", KINDS)
async def test_metadata(served: Served, folder: Path, kind: str) -> None:
    """The client gets the health, the model's name, and its inputs and outputs."""
    names = ("live", "ready", "model_ready", "unknown model ready", "server metadata", "model metadata")
    outcomes = await triton(at(served), kind, folder, *names)
    assert [outcomes[name]["value"] for name in names[:4]] == [True, True, True, False]
    assert outcomes["server metadata"]["value"] == {"name": "lookalike", "version": __version__}
    assert outcomes["model metadata"]["value"] == {
        "name": "tiny",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": ["-1", "32", "32", "3"]},
            {"name": "encoded", "datatype": "BYTES", "shape": ["-1"]},
        ],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": ["-1", "48"]}],
    }


@pytest.mark.parametrize("kind", KINDS)
async def test_embeddings_are_those_of_embed(served: Served, folder: Path, kind: str) -> None:
    """For 1 and 16 images, as pixels and as files, the client gets in their order the embeddings of `Embed`."""
    pixels = [await embedded(served, raw(each)) for each in images(16)]
    files = [await embedded(served, encoded(each, "JPEG")) for each in images(16)]
    expected = {
        "1 image": pixels[:1],
        "16 images": pixels,
        "16 files": files,
        "a column of files": files,
        "compressed": pixels[:1],
        "in the background": pixels[:1],
    }
    outcomes = await triton(at(served), kind, folder, *expected)
    for name, vectors in expected.items():
        result = outcomes[name]["value"]
        found = np.array(result["embedding"])
        assert (result["dtype"], found.shape) == ("float32", (len(vectors), 48))
        assert np.einsum("ij,ij->i", found, np.stack(vectors)).min() > 1 - 1e-6
        assert result["id"] == ("mine" if name == "16 images" else "")
        assert result["version"] == "1"
        assert {"model_digest", "batch_size", "total_us"} <= set(result["parameters"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_errors(served: Served, folder: Path, kind: str) -> None:
    """Each error has Triton's status, and a message with what was sent and what is expected."""
    expected = {
        "wrong shape": (INVALID, "inputs[0].shape: of input 'image' is [1,3,32,32]; expected [-1,32,32,3]"),
        "wrong datatype": (INVALID, "inputs[0].datatype: of input 'image' is 'FP32'; expected UINT8"),
        "wrong length": (INVALID, "raw_input_contents[0]: has 3072 bytes; UINT8 [2,32,32,3] needs 6144"),
        "unknown model": ("StatusCode.NOT_FOUND", "Request for unknown model: there is no 'other' here, only 'tiny'"),
        "unknown version": ("StatusCode.NOT_FOUND", "Request for unknown model: there is no 'tiny' in version '7'"),
        "unknown model metadata": ("StatusCode.NOT_FOUND", "Request for unknown model: there is no 'other' here"),
        "unknown input": (INVALID, "inputs[0].name: is 'INPUT__0'; the inputs of this model are 'image' and 'encoded'"),
        "unknown output": (INVALID, "outputs[0].name: is 'logits'; the only output of this model is 'embedding'"),
        "shared memory": (INVALID, "inputs[0].parameters['shared_memory_region']: is not supported"),
        "model config": ("StatusCode.UNIMPLEMENTED", ""),
        "repository": ("StatusCode.UNIMPLEMENTED", ""),
        "load": ("StatusCode.UNIMPLEMENTED", ""),
    }
    outcomes = await triton(at(served), kind, folder, *expected)
    for name, (status, message) in expected.items():
        assert outcomes[name]["status"] == status, outcomes[name]
        assert outcomes[name]["message"].startswith(message)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_timeouts(serve: Serve, folder: Path, kind: str) -> None:
    """A call without a response in time ends, by the client's deadline or by the request's `timeout`."""
    model = HeldModel()
    async with serve(load_session=model, default_deadline_seconds=86_400) as served:
        model.session.hold()
        outcomes = await triton(at(served), kind, folder, "timeout", "timeout of the request")
        for outcome in outcomes.values():
            assert outcome["status"] == "StatusCode.DEADLINE_EXCEEDED"
        assert "deadline passed" in outcomes["timeout of the request"]["message"]
        await until(lambda: "Queued: 0 " in repr(served.app.batcher))
        model.session.let_go()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_full_queue(serve: Serve, folder: Path, kind: str) -> None:
    """A full queue rejects with RESOURCE_EXHAUSTED and asks to retry."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=1) as served:
        model.session.hold()
        first = asyncio.create_task(embedded(served, raw(images(1)[0])))
        await model.caught()
        running = asyncio.create_task(embedded(served, raw(images(1)[0])))
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
        outcome = (await triton(at(served), kind, folder, "1 image"))["1 image"]
        assert outcome["status"] == "StatusCode.RESOURCE_EXHAUSTED"
        assert "try again later" in outcome["message"]
        model.session.let_go()
        await asyncio.gather(first, running)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_token(serve: Serve, folder: Path, kind: str) -> None:
    """A token is sent in the client's headers; without one only the probes succeed."""
    (folder / "token").write_text(add_key(folder / "tokens"))
    async with serve(auth_keys_file=folder / "tokens") as served:
        outcomes = await triton(at(served), kind, folder, "ready", "model_ready", "1 image", "with a token")
        assert [outcomes[name]["value"] for name in ("ready", "model_ready")] == [True, True]
        assert outcomes["1 image"]["status"] == "StatusCode.UNAUTHENTICATED"
        assert len(outcomes["with a token"]["value"]["embedding"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_draining(serve: Serve, folder: Path, kind: str) -> None:
    """A server that is to drain is live and not ready, and serves who comes nevertheless."""
    async with serve() as served:
        announced = asyncio.create_task(served.app.server.announce_drain(60))
        outcomes = await triton(at(served), kind, folder, "live", "ready", "model_ready", "1 image")
        assert [outcomes[name]["value"] for name in ("live", "ready", "model_ready")] == [True, False, False]
        assert len(outcomes["1 image"]["value"]["embedding"]) == 1
        announced.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_no_server(folder: Path, kind: str) -> None:
    """Where nothing listens the status is UNAVAILABLE."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound without listening, so that no other process can listen
        outcomes = await triton(f"127.0.0.1:{unused.getsockname()[1]}", kind, folder, "live", "1 image")
    assert {outcome["status"] for outcome in outcomes.values()} == {"StatusCode.UNAVAILABLE"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_proxy_in_the_environment(served: Served, folder: Path, kind: str) -> None:
    """The client uses the environment's proxy for this machine too, unless `channel_args` disables it."""
    by_proxy = await triton(at(served), kind, folder, "ready", http_proxy=DEAD)
    assert by_proxy["ready"]["status"] == "StatusCode.UNAVAILABLE"
    direct = await triton(at(served), f"{kind}-direct", folder, "ready", "16 images", http_proxy=DEAD)
    assert direct["ready"]["value"] is True
    assert len(direct["16 images"]["value"]["embedding"]) == 16
