"""What a log writes: each write by itself, as an unbuffered pipe has them."""

from __future__ import annotations

import json
from typing import Any


class WrittenLines:
    """Stands for a stream and keeps every write."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        """Keep a write."""
        self.writes.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def read(self) -> list[dict[str, Any]]:
        """Return the lines of a JSON log so far."""
        return [json.loads(line) for line in self.writes]
