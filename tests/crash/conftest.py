"""Fixtures of several suites."""

from __future__ import annotations

import asyncio

import pytest

from crash.graphs import GraphCatalog
from crash.segment_building import before_building


@pytest.fixture(scope="session")
def unbuilt(tmp_path_factory: pytest.TempPathFactory) -> GraphCatalog:
    """Return a catalog whose next start extends a segment in every category; only copies of it are served."""
    return asyncio.run(before_building(tmp_path_factory.mktemp("unbuilt") / "data"))
