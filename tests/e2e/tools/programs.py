"""Runs the tools, which `make tools` builds, against a test's server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from support.paths import ROOT
from support.serving import Served

BUILT = ROOT / ".tools" / "bin"


@dataclass(frozen=True)
class ToolResult:
    """A tool's exit status and output."""

    status: int
    stdout: str
    stderr: str


class Tool:
    """One of the tools; skips the test where it is not built."""

    def __init__(self, name: str, *arguments: str) -> None:
        if not (BUILT / name).exists():
            pytest.skip(f"{name} is not built: `make tools` does it where Go 1.25 or newer is installed")
        self._command = (str(BUILT / name), *arguments)

    async def run(self, *arguments: str, stdin: str = "", seconds: float = 120) -> ToolResult:
        """Run it to its end, within these seconds."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._command, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(seconds):
                stdout, stderr = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return ToolResult(process.returncode or 0, stdout.decode(), stderr.decode())


def address(served: Served) -> str:
    """Return HOST:PORT of a server."""
    return f"127.0.0.1:{served.app.port}"


def json_values(text: str) -> list[Any]:
    """Parse consecutive JSON values."""
    decoder, values, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].lstrip()
    return values
