"""The commands of docs/grpcurl.md, in a real shell with a real grpcurl."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

from e2e.tools.programs import BUILT, Tool, address, json_values
from support.paths import ROOT
from support.serving import Serve, encoded, noise

PAGE = (ROOT / "docs" / "grpcurl.md").read_text(encoding="utf-8")
DEFINE, *COMMANDS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_page_runs_from_top_to_bottom(tmp_path: Path, serve: Serve) -> None:
    """A product is stored with an image in base64, found by it, by half of it with filters, and read back the same."""
    Tool("grpcurl")  # skips where it is not built
    image = encoded(noise(1)).encoded
    (tmp_path / "shoe.jpg").write_bytes(image)
    printed = []
    async with serve(data_dir=tmp_path / "store") as served:
        for command in COMMANDS:
            script = "set -euo pipefail\n" + DEFINE + command.replace("127.0.0.1:50051", address(served))
            variables = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", script),
                cwd=tmp_path,
                env=variables | {"PATH": f"{BUILT}:{os.environ['PATH']}"},
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 120)
            assert process.returncode == 0, command
            printed.append(json_values(out.decode()))
    stored, found, filtered, nothing = printed
    assert stored[0]["results"] == [{"id": "P1", "status": {}}]
    assert [each["product"]["id"] for each in found[0]["neighbors"]] == ["P1"]
    assert [each["product"]["id"] for each in filtered[0]["neighbors"]] == ["P1"]
    assert nothing == []
    assert (tmp_path / "P1.jpg").read_bytes() == image


def test_bodies_are_json() -> None:
    """Each body on the page is JSON once an image is in it."""
    bodies = [body for command in COMMANDS for body in re.findall(r"'(\{.*?\})'", command, re.DOTALL)]
    assert len(bodies) == 4
    for body in bodies:
        json.loads(body.replace("%s", "aGVsbG8="))
