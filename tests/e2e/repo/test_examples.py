"""The examples of every command's `--help`."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lookalike_client import Client
from lookalike_client.cli import examples
from lookalike_client.cli import main as lookalike
from lookalike_server.__main__ import main as lookalike_server
from lookalike_server.commands.examples import EXAMPLES as SERVER_EXAMPLES
from support.paths import MODELS
from support.processes import server_process

PROGRAMS: dict[str, click.Group] = {"lookalike": lookalike, "lookalike-server": lookalike_server}
LONG = "load"  # takes half a minute and more


def shown(program: str, command: str) -> list[list[str]]:
    """Return the examples at the end of a command's help, as words."""
    text = CliRunner().invoke(PROGRAMS[program], [command, "--help"], prog_name=program).output
    lines = text.partition("\n  Examples:\n")[2].replace("\\\n", "").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(f"      {program} ")]


def parse(program: str, words: list[str]) -> None:
    """Parse a command line as the program does before it does anything."""
    group = PROGRAMS[program]
    at = next(at for at, word in enumerate(words) if word in group.list_commands(click.Context(group)))
    context, rest = group.make_context(program, words[: at + 1]), words[at + 1 :]
    command = group.get_command(context, words[at])
    if isinstance(command, click.Group):
        command, rest = command.get_command(context, rest[0]), rest[1:]
    assert command
    command.make_context(str(command.name), rest, parent=context)


def write_files(folder: Path) -> None:
    """Write the files that examples name."""
    (folder / "images").mkdir()
    rows = ["product_id,gender,color,pattern,price,title,image"]
    for number, color in enumerate(("red", "blue", "green", "red", "blue"), start=1):
        Image.new("RGB", (64, 64), color).save(folder / "images" / f"{number}.jpg")
        rows.append(
            f"S000{number},{'Men' if number < 4 else 'Women'},{color},plain,{20 * number},Shirt,images/{number}.jpg"
        )
    (folder / "catalog.csv").write_text("\n".join(rows), encoding="utf-8")
    shutil.copy(folder / "images" / "1.jpg", folder / "shoe.jpg")
    for name in ("vectors.npy", "ids.npy", "lookalike.toml", "token"):
        (folder / name).touch()


def test_every_command_has_examples() -> None:
    """Each command of `lookalike`, and each of the server that has some, shows its examples as they are written."""
    assert set(examples.EXAMPLES) == set(lookalike.list_commands(click.Context(lookalike)))
    for program, table in (("lookalike", examples.EXAMPLES), ("lookalike-server", SERVER_EXAMPLES)):
        for command, written in table.items():
            assert shown(program, command) == [shlex.split(line.replace("\\\n", "")) for _, line in written]


def test_examples_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example has options and values that its command takes."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    tables = [*examples.EXAMPLES.values(), *SERVER_EXAMPLES.values(), examples.PROGRAM]
    for line in (line for table in tables for _, line in table):
        program, *words = shlex.split(line.replace("\\\n", ""))
        parse(program, [word for word in words if word != "--help"])


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of `lookalike` do what they say, one after the other, on a small catalog."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    with server_process(MODELS / "tiny", tmp_path / "store") as server:
        with Client(server.address) as client:
            np.save("vectors.npy", np.eye(2, client.model().dim, dtype=np.float32))
        np.save("ids.npy", np.array(["V1", "V2"]))
        for command, table in examples.EXAMPLES.items():
            for _, line in table if command != LONG else ():
                done = CliRunner().invoke(lookalike, ["--server", server.address, *shlex.split(line)[1:]])
                assert done.exit_code == 0, f"{line}: {done.output}"
    assert np.load("vector.npy").shape[0] == 1
    assert (tmp_path / "S0001.jpg").read_bytes() == (tmp_path / "shoe.jpg").read_bytes()
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {"vectors.npy", "ids.npy", "products.csv"}
