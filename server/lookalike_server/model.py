"""How the model of the settings is loaded and run; for serving and for a rebuild alike."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import structlog

from lookalike_server.config import Settings
from lookalike_server.inference.ladder import Plan, measure_plan
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.session import OnnxSession
from lookalike_server.protocols import Session

LoadSession = Callable[[ModelFolder, Settings], Session]


def load_onnx(folder: ModelFolder, settings: Settings) -> OnnxSession:
    """Load the model as the settings say."""
    return OnnxSession(folder, settings.provider, settings.threads, settings.openvino_precision)


def plan_model(folder: ModelFolder, settings: Settings, load_session: LoadSession | None = None) -> Plan:
    """Load the model (by ONNX Runtime, unless told otherwise) and measure how it is best run; takes seconds.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be loaded as the settings say.
    """
    chosen = load_session or load_onnx

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
    if isinstance(plan.wide, OnnxSession):
        for reason in plan.wide.skipped:
            structlog.get_logger().info("provider skipped", reason=reason)
    return plan
