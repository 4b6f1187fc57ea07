"""Runs the tests of a module that imports it over ONNX Runtime and over OpenVINO."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["cpu", "openvino"])
def provider(request: pytest.FixtureRequest) -> str:
    """Name what runs the model."""
    return str(request.param)
