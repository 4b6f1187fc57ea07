"""How the model of the settings is loaded and run; for serving and for a rebuild alike."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import structlog

from lookalike_server.config import Settings
from lookalike_server.errors import Code, LookalikeError
from lookalike_server.inference.bound import IN_FLIGHT, BoundSession
from lookalike_server.inference.cuda import CudaError
from lookalike_server.inference.ladder import Plan, measure_plan
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.providers import Card
from lookalike_server.inference.session import OnnxSession
from lookalike_server.protocols import Session

LoadSession = Callable[[ModelFolder, Settings], Session]


def load_onnx(folder: ModelFolder, settings: Settings) -> OnnxSession:
    """Load the model as the settings say, without memory of its own on a card."""
    card = Card(
        graphs=settings.cuda_graphs,
        search=settings.cuda_search,
        nhwc=settings.cuda_nhwc,
        tf32=settings.cuda_tf32,
        rows=settings.max_batch,
        engines=settings.data / "tensorrt",
    )
    return OnnxSession(folder, settings.provider, settings.threads, settings.openvino_precision, card=card)


def load_model(
    folder: ModelFolder, settings: Settings, load: Callable[[ModelFolder, Settings], OnnxSession] = load_onnx
) -> Session:
    """Load the model as the settings say, and bind it to the card's memory where one runs it.

    A model that cannot be recorded as CUDA graphs is run without them, and the log says why.

    Args:
        folder: The model folder, already checked.
        settings: How it is run.
        load: Loads it into ONNX Runtime.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be loaded, or the card has too little memory.
    """
    if not settings.cuda_graphs:
        return _on_device(load(folder, settings), folder, settings)
    try:
        session = _on_device(load(folder, settings), folder, settings)
        if isinstance(session, BoundSession):
            _try(session, folder)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base; without graphs it raises again
        session = _on_device(load(folder, settings.model_copy(update={"cuda_graphs": False})), folder, settings)
        structlog.get_logger().warning("CUDA graphs cannot be recorded; running without them", reason=str(error))
    return session


def _on_device(session: OnnxSession, folder: ModelFolder, settings: Settings) -> Session:
    try:
        device = session.card()
        if device is None:
            return session
        in_flight = settings.lanes or IN_FLIGHT
        return BoundSession(session, device, folder.model, rows=settings.max_batch, in_flight=in_flight)
    except CudaError as error:
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot run the model on the card: {error}") from error


def _try(session: BoundSession, folder: ModelFolder) -> None:
    """Run it once: what cannot be recorded shows then."""
    try:
        session.run(np.zeros((1, folder.model.height, folder.model.width, 3), dtype=np.uint8))
    except BaseException:
        session.close()
        raise


def plan_model(folder: ModelFolder, settings: Settings, load_session: LoadSession | None = None) -> Plan:
    """Load the model (by ONNX Runtime, unless told otherwise) and measure how it is best run; takes seconds.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be loaded as the settings say.
    """
    chosen = load_session or load_model

    def load(threads: int) -> Session:
        return chosen(folder, settings.model_copy(update={"threads": threads}) if threads else settings)

    plan = measure_plan(
        load,
        np.zeros((folder.model.height, folder.model.width, 3), dtype=np.uint8),
        cores=settings.threads or len(os.sched_getaffinity(0)),
        max_batch=settings.max_batch,
        lanes=settings.lanes,
        lane_batch=settings.lane_batch,
    )
    if isinstance(plan.wide, OnnxSession | BoundSession):
        for reason in plan.wide.skipped:
            structlog.get_logger().info("provider skipped", reason=reason)
    return plan
