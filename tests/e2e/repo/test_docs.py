"""The documentation is true: links, commands, settings and code that it names exist, and the README's examples run."""

from __future__ import annotations

import ast
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
from lookalike_server.rpc.server import SERVICES
from support.paths import MODELS, ROOT
from support.processes import server_process

LOOKALIKE = Path(sys.executable).parent / "lookalike"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PROSE_WIDTH = 100
PACKAGES = [
    *(ROOT / "server" / "lookalike_server", ROOT / "exporter" / "lookalike_exporter"),
    *(ROOT / "clients" / "python" / "lookalike_client", ROOT / "clients" / "loadtest" / "lookalike_loadtest"),
]
MADE_BY_COMMANDS = {"models"}  # folders that the pages' commands write


def blocks(page: Path, language: str = "") -> list[str]:
    """Return the fenced blocks of a page in one language; those without one are shell commands and output."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for name, block in fences if name == language]


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Return every line of a fenced block that calls this program, as the page's name and the words."""
    continued = ((page.name, block.replace("\\\n", "")) for page in PAGES for block in blocks(page))
    lines = [(name, line) for name, block in continued for line in block.splitlines()]
    return [(name, shlex.split(line, comments=True)) for name, line in lines if line.startswith(f"{program} ")]


def prose(page: Path) -> str:
    """Return the text of a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that Git hosts give the headings of a page, of each title the first."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is to a file or folder of the repository, and its anchor to a heading there."""
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" not in link:
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_prose_is_wrapped(page: Path) -> None:
    """No line of a page is longer than 100 columns, except in tables and code; the targets of links do not count."""
    lines = [line for line in prose(page).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(re.sub(r"\]\(\S+\)", "]", line)) > PROSE_WIDTH] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_and_folders_named_exist(page: Path) -> None:
    """Every Python file and every folder within a package that a page names is in the repository."""
    named = re.findall(r"`([\w/]+(?:\.py|(?<=\w)/))`", prose(page))
    missing = [name for name in named if not any((folder / name).exists() for folder in (ROOT, *PACKAGES))]
    assert {name for name in missing if name.partition("/")[0] not in MADE_BY_COMMANDS} == set()


def definitions(path: Path) -> set[str]:
    """Return the functions, classes and `Class.method`s of a Python file."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"{node.name}.{each.name}" for each in inner}
    return names


def test_code_named_by_the_architecture_exists() -> None:
    """Every class, method and RPC that docs/architecture.md names exists, the former in the server."""
    spans = re.findall(r"`([^`]+)`", prose(ROOT / "docs" / "architecture.md"))
    named = {span for span in spans if re.fullmatch(r"[A-Z]\w*[a-z]\w*(\.\w+)?", span)}
    assert {"Writer._transact", "MicroBatcher.embed"} <= named
    classes = set().union(*(definitions(path) for path in PACKAGES[0].glob("**/*.py")))
    rpcs = set(re.findall(r"^##+ (\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for name in named - classes if not rpcs.issuperset(name.split("."))} == set()


def test_three_lines_are_where_the_architecture_says() -> None:
    """Each function that the table of three lines names is in its file, with the code that the table quotes."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| `([\w/]+\.py)` \| `([\w.]+)`(?:: `([^`]+)`)?", page, re.MULTILINE)
    assert len(rows) == 3
    for name, function, line in rows:
        path = PACKAGES[0] / name
        assert function in definitions(path)
        assert line.replace("...)", "") in path.read_text(encoding="utf-8")


def test_make_targets_exist() -> None:
    """Every `make TARGET` that a page names is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert {"run", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize(("program", "group"), [("lookalike", lookalike), ("lookalike-server", lookalike_server)])
def test_commands_exist(program: str, group: click.Group) -> None:
    """Every command line on a page has only options that the program has."""
    of_all = {option for parameter in group.params for option in parameter.opts}
    for page, words in commands(program):
        while words[1] in of_all:  # options of every command, each with its value, come first
            del words[1:3]
        command = group.get_command(click.Context(group), words[1])
        assert command, f"{page}: {program} has no command {words[1]}"
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words[2])
            assert command, f"{page}: {program} {words[1]} has no command {words[2]}"
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{page}: {shlex.join(words)}"


def test_exporter_commands_exist() -> None:
    """Every exporter command line on a page has only options that the exporter has."""
    shown = commands("lookalike-exporter")
    assert shown
    exporter = ROOT / ".venv-exporter" / "bin" / "lookalike-exporter"
    for name in ("export", "verify", "reproduce"):
        usage = subprocess.run([exporter, name, "--help"], capture_output=True, text=True, check=True).stdout
        used = {word for _, words in shown if words[1] == name for word in words if word.startswith("--")}
        assert used
        assert used <= set(re.findall(r"--[a-z-]+", usage))
    assert {words[1] for _, words in shown} == {"export", "verify", "reproduce"}


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
    """docs/errors.md names every code that the server returns."""
    from lookalike_server.domain.errors import Code

    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    returned = {code.name for code in Code} - {"FAILED_PRECONDITION"}  # printed by the command at startup only
    assert {name for name in returned if name not in page} == set()


@pytest.fixture(scope="module")
def sample_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve the sample catalog: the server's address, and a folder with the sample where the checkout has it."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder / "data" / "sample")
    with server_process(MODELS / "tiny", folder / "store", "--provider", "auto") as server:
        load = (LOOKALIKE, "--server", server.address, "import", "data/sample/catalog.csv")
        subprocess.run(load, cwd=folder, check=True, timeout=300)
        yield server.address, folder


def test_readme_python_runs(sample_server: tuple[str, Path]) -> None:
    """The README's Python prints seven products, the image's own product first."""
    address, folder = sample_server
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


def test_readme_command_runs(sample_server: tuple[str, Path]) -> None:
    """The README's search with the command line client returns seven products."""
    address, folder = sample_server
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


def test_readme_grpcurl_call_works_by_reflection(sample_server: tuple[str, Path]) -> None:
    """The README's grpcurl call, made by another tool that has no proto, returns what the client returns."""
    address, _ = sample_server
    (words,) = [words for page, words in commands("grpcurl") if page == "README.md"]
    body, method = words[words.index("-d") + 1], words[-1]
    done = subprocess.run(
        [
            *(ROOT / ".venv-proto" / "bin" / "buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge"),
            *("--data", body, f"http://{address}/{method}"),
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


def test_probes_have_the_names_of_services() -> None:
    """The page about probes names every service that health knows."""
    page = (ROOT / "docs" / "load-balancing.md").read_text(encoding="utf-8")
    assert [name for name in SERVICES if f"`{name}`" not in page] == []
