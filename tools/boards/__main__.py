"""Writes the boards into deploy/grafana, or says which of those there are stale."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tools.boards import BOARDS, board_json

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where a file is not what would be written.")
def main(check: bool) -> None:
    """Write every board."""
    stale = []
    for board in BOARDS:
        path, text = FOLDER / f"{board.uid}.json", board_json(board)
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"{', '.join(stale)}: stale; run python -m tools.boards")


if __name__ == "__main__":
    main()
