"""The documentation is true: links lead somewhere, commands and settings exist, and the README's examples run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from tools.sample_catalog import write_sample

from lookalike_client import Client
from lookalike_client.cli import main as lookalike
from lookalike_server.__main__ import main as lookalike_server
from lookalike_server.config import PREFIX, Settings
from support.paths import MODELS, ROOT
from support.processes import server_process

LOOKALIKE = Path(sys.executable).parent / "lookalike"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language; those without a name are shell commands and output."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for name, block in fences if name == language]


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Every line of a fenced block that calls this program, as its page and its words."""
    lines = [(page.name, line) for page in PAGES for block in blocks(page) for line in block.splitlines()]
    return [(name, shlex.split(line, comments=True)) for name, line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is to a file or folder of the repository."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_make_targets_exist() -> None:
    """Every `make TARGET` that a page names is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert {"run", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize(("program", "group"), [("lookalike", lookalike), ("lookalike-server", lookalike_server)])
def test_commands_exist(program: str, group: click.Group) -> None:
    """Every command line that a page shows is understood by the program."""
    for page, words in commands(program):
        command = group.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{page}: {shlex.join(words)}"


def test_exporter_commands_are_understood() -> None:
    """Every exporter command line that a page shows has only options that the exporter has."""
    shown = commands("lookalike-exporter")
    assert shown
    exporter = ROOT / ".venv-exporter" / "bin" / "lookalike-exporter"
    for name in ("export", "verify", "repeat"):
        usage = subprocess.run([exporter, name, "--help"], capture_output=True, text=True, check=True).stdout
        used = {word for _, words in shown if words[1] == name for word in words if word.startswith("--")}
        assert used
        assert used <= set(re.findall(r"--[a-z-]+", usage))
    assert {words[1] for _, words in shown} == {"export", "verify", "repeat"}


def test_every_setting_is_documented() -> None:
    """docs/configuration.md has a row for every setting, with its default and its description, and for nothing else."""
    expected = []
    for name, field in Settings.model_fields.items():
        default = "needed" if field.is_required() else "none" if field.default is None else f"`{field.default}`"
        expected.append(
            f"| `--{name.replace('_', '-')}` | `{PREFIX}{name.upper()}` | {default} | {field.description} |"
        )
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("| `--")] == expected


def test_every_code_is_documented() -> None:
    """docs/errors.md names every code that the server answers with."""
    from lookalike_server.domain.errors import Code

    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    answered = {code.name for code in Code} - {"FAILED_PRECONDITION"}  # only ever said at start-up, by the command
    assert {name for name in answered if name not in page} == set()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with the sample catalog: its address, and a folder that looks like the checkout's."""
    folder = tmp_path_factory.mktemp("shop")
    write_sample(folder / "data" / "sample")
    with server_process(MODELS / "tiny", folder / "store") as server:
        subprocess.run(
            [
                Path(sys.executable).parent / "lookalike",
                "--server",
                server.address,
                "import",
                "data/sample/catalog.csv",
            ],
            cwd=folder,
            check=True,
            timeout=300,
        )
        yield server.address, folder


def test_readme_python_runs(shop: tuple[str, Path]) -> None:
    """The README's Python prints seven products, the image's own first."""
    address, folder = shop
    (code,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", code.replace("127.0.0.1:50051", address)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("1.000  S0001")


def test_readme_command_runs(shop: tuple[str, Path]) -> None:
    """The README's search with the command line client answers with seven products."""
    address, folder = shop
    words = next(words for page, words in commands("lookalike") if page == "README.md" and words[1] == "search")
    done = subprocess.run(
        [LOOKALIKE, "--server", address, "--json", *words[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert len(json.loads(done.stdout)["neighbors"]) == 7


def test_readme_grpcurl_call_works_by_reflection(shop: tuple[str, Path]) -> None:
    """The README's grpcurl call, made by another tool that knows no proto, answers what the client answers."""
    address, _ = shop
    (words,) = [words for page, words in commands("grpcurl") if page == "README.md"]
    body, method = words[words.index("-d") + 1], words[-1]
    done = subprocess.run(
        [
            *(ROOT / ".venv-proto" / "bin" / "buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge"),
            *("--data-dir", body, f"http://{address}/{method}"),
        ],
        env={key: value for key, value in os.environ.items() if "proxy" not in key.lower()},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    with Client(address) as client:
        expected = client.search(product_id="S0001", k=7)
    assert [neighbor["product"]["id"] for neighbor in answer["neighbors"]] == [
        neighbor.product.id for neighbor in expected.neighbors
    ]
