"""The tools, which learn the API by reflection: `make tools` builds them, and tests run them against their server."""

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
class Ended:
    """What a tool said, and its exit status."""

    status: int
    output: str
    errors: str


class Tool:
    """One of the tools; a test that makes one is skipped where it is not built."""

    def __init__(self, name: str, *always: str) -> None:
        if not (BUILT / name).exists():
            pytest.skip(f"{name} is not built: `make tools` does it where Go 1.25 or newer is installed")
        self._words = (str(BUILT / name), *always)

    async def run(self, *arguments: str, stdin: str = "", seconds: float = 120) -> Ended:
        """Run it to its end, which must come within these seconds."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._words, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(seconds):
                output, errors = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ended(process.returncode or 0, output.decode(), errors.decode())


def address(served: Served) -> str:
    """Where the tools find a server."""
    return f"127.0.0.1:{served.app.port}"


def json_values(text: str) -> list[Any]:
    """The JSON values that a tool printed one after the other."""
    decoder, values, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].lstrip()
    return values
