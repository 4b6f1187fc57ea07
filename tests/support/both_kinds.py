"""Runs the tests of a module that imports it with sessions that block, and with sessions that call back."""

from __future__ import annotations

import pytest

from support.fakes import Wrapped


@pytest.fixture(autouse=True, params=["blocking", "asynchronous"])
def both_kinds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fake sessions one kind."""
    monkeypatch.setattr(Wrapped, "asynchronous", request.param == "asynchronous")
