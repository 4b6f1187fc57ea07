"""Grafana's boards, written as JSON that can be imported: `python -m tools.boards` writes deploy/grafana again."""

from tools.boards.json_model import Board, Panel, Target, board_json
from tools.boards.panels import BOARDS

__all__ = ["BOARDS", "Board", "Panel", "Target", "board_json"]
