"""Asking the real server from a test."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from click.testing import CliRunner, Result
from PIL import Image

from lookalike_client.cli import main
from support.serving import Served, noise


def address(served: Served) -> str:
    """HOST:PORT of a server."""
    return f"127.0.0.1:{served.app.port}"


def png(seed: int) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    Image.fromarray(noise(seed)).save(buffer, "PNG")
    return buffer.getvalue()


async def command(served: Served, *arguments: str | Path) -> Result:
    """Run `lookalike` in a thread, because the server lives in this one's event loop."""
    return await asyncio.to_thread(CliRunner().invoke, main, ["--server", address(served), *map(str, arguments)])
