"""What several suites begin with."""

from __future__ import annotations

import asyncio

import pytest

from crash.graphs import GraphCatalog
from crash.segment_building import before_sealing


@pytest.fixture(scope="session")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> GraphCatalog:
    """A catalog that seals in every category at its next start; only copies of it are served."""
    return asyncio.run(before_sealing(tmp_path_factory.mktemp("unsealed") / "data"))
