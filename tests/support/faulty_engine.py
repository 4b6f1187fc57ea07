"""An engine whose every operation is a fault of the server, with the request in the frames of its traceback."""

from __future__ import annotations

from typing import Any, NoReturn

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import ItemFailed, Observer
from lookalike_server.domain.inference import Model, Runtime
from lookalike_server.engine.api import ArrivingCall, EngineApi, Work
from lookalike_server.inference.manifest import read_model_folder
from support.paths import MODELS


class _Arriving:
    def arrived(self) -> None:
        """Do nothing."""


class FaultyEngine(EngineApi):
    """Admits every call, and fails."""

    model: Model
    runtime = Runtime("CPUExecutionProvider", "none", "fp32", ())
    stream_window = 4

    def __init__(self, observer: Observer) -> None:
        self.model = read_model_folder(MODELS / "tiny").model
        self._observer = observer

    async def admit(self, work: Work, call: Any) -> ArrivingCall:
        """Admit it."""
        return _Arriving()

    async def embed(self, *request: Any, **options: Any) -> NoReturn:
        """Fail."""
        raise RuntimeError("a fault")

    search = upsert = delete = update_attributes = product = stored_image = page = export_page = categories = embed

    def report_internal_error(self, error: Exception) -> None:
        """Report it as the engine does."""
        if not isinstance(error, LookalikeError):
            self._observer(ItemFailed(error))
