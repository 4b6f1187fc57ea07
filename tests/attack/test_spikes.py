"""Very many calls at once from ordinary clients end well, or learn when to try again."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.attack.memory import growth
from support.attack.scene import MAX_GROWTH, SECONDS, attacked_server
from support.attack.spike import upserts_at_once

pytestmark = pytest.mark.slow

SPIKES = ((3_000, 1), (3_000, 20), (10_000, 1), (10_000, 20)) if SECONDS else ((3_000, 1), (3_000, 20))


@pytest.mark.parametrize(("calls", "channels"), SPIKES)
async def test_upserts_at_once_never_end_without_a_word(tmp_path: Path, calls: int, channels: int) -> None:
    """Upserts at once end OK, or RESOURCE_EXHAUSTED with RetryInfo; never CANCELLED, and without 200 MiB more."""
    with attacked_server(tmp_path / "data") as server:
        with growth(server.process.pid) as grown:
            endings = await upserts_at_once(server.address, calls, channels)
        assert set(endings) <= {"OK", "RESOURCE_EXHAUSTED"}, endings
        assert endings["OK"]
        assert grown.peak <= MAX_GROWTH
