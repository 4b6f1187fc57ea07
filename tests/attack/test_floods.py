"""Floods of HTTP/2 frames: the server's memory stays bounded, and honest callers are served behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.attack.floods import FLOODS
from support.attack.honest import HonestCaller
from support.attack.memory import growth
from support.attack.proxies import proxy
from support.attack.scene import CALLS, MAX_GROWTH, SECONDS, attacked_server, flooded
from support.processes import ServerProcess

# Honest callers would be late beside the attacks of another test.
pytestmark = [pytest.mark.slow, pytest.mark.serial]

BEHIND_PROXY = tuple(FLOODS) if SECONDS else ("rapid_reset", "hpack_bomb", "continuation")
HONEST_SHARE = 0.99 if SECONDS else 0.9  # of fifteen calls one may be late on a busy machine
# What the core itself ends, or rejects at so little cost that honest callers notice nothing.
BOUNDED_BY_CORE = ("ping", "settings", "window_update", "priority", "empty_data", "idle_streams")


def attacker(flood: str) -> str:
    """Return an address for each flood, because a proxy shuts one out for some time."""
    return f"127.0.1.{1 + list(FLOODS).index(flood)}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server for all floods."""
    with attacked_server(tmp_path_factory.mktemp("floods") / "data") as started:
        yield started


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, str, list[int]]]:
    """Run a server behind a proxy; return it, the proxy's address and its processes."""
    folder = tmp_path_factory.mktemp(request.param)
    with attacked_server(folder / "data") as started, proxy(request.param, started.address, folder) as (address, pids):
        yield started, address, pids


@pytest.mark.parametrize("flood", FLOODS)
def test_flood_costs_bounded_memory(server: ServerProcess, flood: str) -> None:
    """A flood costs at most 200 MiB, and when it is over the server serves as before."""
    with HonestCaller(server.address) as honest:
        with growth(server.process.pid) as grown, flooded(flood, server.address, connections=2) as counts:
            honest.made(CALLS)
        during = repr(honest)
        assert counts["sent"]
        assert grown.peak <= MAX_GROWTH, f"{grown} {during}"
        if flood in BOUNDED_BY_CORE:
            assert honest.share >= HONEST_SHARE, during
        honest.made(1)  # it may have begun during the flood
        honest.forget()
        honest.made(5)
        assert honest.share == 1, repr(honest)


@pytest.mark.parametrize("flood", BEHIND_PROXY)
def test_flood_behind_a_proxy_disturbs_nobody(proxied: tuple[ServerProcess, str, list[int]], flood: str) -> None:
    """Behind the shipped proxy honest callers are served during a flood, and neither process grows."""
    server, address, proxy_pids = proxied
    with (
        ExitStack() as stack,
        HonestCaller(address) as honest,
        growth(server.process.pid) as grown,
        flooded(flood, address, source=attacker(flood)) as counts,
    ):
        proxy_grown = [stack.enter_context(growth(pid)) for pid in proxy_pids]
        honest.made(CALLS)
        assert honest.share >= HONEST_SHARE, repr(honest)
    assert counts["sent"]
    assert grown.peak <= MAX_GROWTH
    assert sum(each.peak for each in proxy_grown) <= MAX_GROWTH


@pytest.mark.nightly
def test_flood_without_limits_is_what_the_limits_prevent(tmp_path: Path) -> None:
    """The control: with streams unlimited, a rapid reset takes the calls of honest callers or far more memory."""
    with (
        attacked_server(tmp_path / "data", "--max-streams-per-connection", "65536") as server,
        HonestCaller(server.address) as honest,
        growth(server.process.pid) as grown,
        flooded("rapid_reset", server.address),
    ):
        honest.made(CALLS)
    assert honest.share < HONEST_SHARE or grown.peak > MAX_GROWTH
