"""Servers under mixed load for long keep nothing of a call; `make soak`, for SOAK_SECONDS (an hour).

Three servers run beside each other with the same calls: with the embedding cache, without it, and with a planted leak.
The same judge must find that one: where it does not, it could not have found another.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

import pytest

from support.paths import ROOT
from support.soak import leaky_server
from support.soak.judge import HOUR, Verdict
from support.soak.report import table, write_json
from support.soak.run import CACHE_OFF, CACHE_ON, Soaked, soak

SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
REPORT = ROOT / "dist" / "soak.json"

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(SECONDS < 120, reason="make soak, with SOAK_SECONDS of 120 or more"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(SECONDS + 600),
]


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory, report: list[str]) -> Mapping[str, Soaked]:
    """Soak all servers at once."""
    folder = tmp_path_factory.mktemp("soak")

    async def soak_all() -> tuple[Soaked, ...]:
        return await asyncio.gather(
            soak("cache", folder / "cache", SECONDS, *CACHE_ON),
            soak("no cache", folder / "no-cache", SECONDS, *CACHE_OFF),
            soak("leaky", folder / "leaky", SECONDS, *CACHE_ON, command=leaky_server.COMMAND),
        )

    found = asyncio.run(soak_all())
    write_json(found, REPORT)
    report += [*table(found), f"all samples are in {REPORT.relative_to(ROOT)}"]
    return {one.name: one for one in found}


@pytest.mark.parametrize("name", ["cache", "no cache"])
def test_nothing_grows(soaked: Mapping[str, Soaked], name: str) -> None:
    """Memory, files, threads and the catalog's files stay as they are, and in an hour the slope itself is in bounds."""
    one = soaked[name]
    assert [found for found in one.findings if found.verdict is Verdict.GROWS] == []
    memory = one.finding("rss")
    assert SECONDS < HOUR or memory.estimate <= memory.limit


def test_planted_leak_is_found(soaked: Mapping[str, Soaked]) -> None:
    """The judge finds the memory and the files that the leaky server keeps, and nothing else."""
    grown = {found.quantity for found in soaked["leaky"].findings if found.verdict is Verdict.GROWS}
    assert grown == {"rss", "descriptors"}


@pytest.mark.parametrize("name", ["cache", "no cache", "leaky"])
def test_calls_end_as_they_should(soaked: Mapping[str, Soaked], name: str) -> None:
    """No call ends with a code that it must not have, and the server counts no fault."""
    one = soaked[name]
    assert one.unexpected == []
    assert one.metrics["lookalike_faults_total"] == 0
    assert one.metrics["grpc_server_handled_total"] > 10 * SECONDS


def test_load_uses_the_cache_where_there_is_one(soaked: Mapping[str, Soaked]) -> None:
    """The cache is looked up where there is one, and the metrics' memory is what /proc says, so they show leaks too."""
    lookups = "lookalike_embedding_cache_lookups_total"
    assert soaked["cache"].metrics[lookups] > SECONDS
    assert soaked["no cache"].metrics[lookups] == 0
    for one in soaked.values():
        assert one.metrics["process_resident_memory_bytes"] == pytest.approx(one.samples[-1].rss, rel=0.05)
