"""The examples of docs/open-inference-protocol.md, unchanged, against a real server."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from support.oip_requests import files
from support.paths import ROOT
from support.processes import output_of
from support.serving import Serve

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "open-inference-protocol.md").read_text(encoding="utf-8")
PYTHON = ROOT / ".venv-triton" / "bin" / "python"
BUF = ROOT / ".venv-proto" / "bin" / "buf"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PROGRAMS = [block for language, block in BLOCKS if language == "python"]
(COMMANDS,) = [block for language, block in BLOCKS if not language]


def here(text: str, address: str) -> str:
    """Adapt an example to the server under test: its address, its model, and the model's input size."""
    return text.replace("127.0.0.1:50051", address).replace("squeezenet-imagenet", "tiny").replace("224", "32")


async def run(folder: Path, *command: str) -> str:
    """Return what a command prints in a folder with the sample's first image, without the environment's proxies."""
    images = folder / "data" / "sample" / "images"
    images.mkdir(parents=True, exist_ok=True)
    (images / "S0001.jpg").write_bytes(files(1, "JPEG")[0])
    return await output_of(*command, cwd=folder)


@pytest.mark.parametrize(("program", "shapes"), [(0, ["(2, 48)", "(1, 48)"]), (1, ["(8, 1, 48)"])])
async def test_python(serve: Serve, tmp_path: Path, program: int, shapes: list[str]) -> None:
    """The programs with Triton's client run and print the shapes of their embeddings."""
    async with serve() as served:
        code = here(PROGRAMS[program], f"127.0.0.1:{served.app.port}")
        assert (await run(tmp_path, str(PYTHON), "-c", code)).split("\n")[:-1] == shapes
    assert len(PROGRAMS) == 2


async def test_commands(serve: Serve, tmp_path: Path) -> None:
    """The command lines, made with another tool without the proto, print the metadata and an embedding."""
    curl = shlex.join([str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data"])
    async with serve() as served:
        address = f"127.0.0.1:{served.app.port}"
        lines = here(COMMANDS, address).replace("grpcurl -plaintext -d @ ", f"{curl} @- ")
        lines = lines.replace("grpcurl -plaintext -d ", f"{curl} ").replace(f"{address} ", f"http://{address}/")
        out = await run(tmp_path, "bash", "-euc", lines)
        assert '"platform":"onnxruntime_onnx"' in out.replace(" ", "")
        assert '"rawOutputContents"' in out
