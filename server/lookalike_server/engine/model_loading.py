"""Loads the model into ONNX Runtime as the settings say, on a GPU with memory of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import structlog

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.cuda import CudaError
from lookalike_server.inference.gpu_errors import gpu_failure
from lookalike_server.inference.gpu_problems import explain
from lookalike_server.inference.io_binding import IN_FLIGHT, BoundSession
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.providers import CudaOptions

LoadSession = Callable[[ModelFolder, Settings], Session]


def load_onnx(folder: ModelFolder, settings: Settings) -> OnnxSession:
    """Load the model as the settings say, without device memory of its own.

    Args:
        folder: The model folder, already checked.
        settings: How it runs.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be loaded.
    """
    cuda = CudaOptions(
        graphs=settings.cuda_graphs,
        conv_algo_search=settings.cudnn_conv_algo_search,
        prefer_nhwc=settings.cuda_prefer_nhwc,
        use_tf32=settings.cuda_use_tf32,
        max_batch_size=settings.max_batch_size,
        engine_dir=settings.data_dir / "tensorrt",
    )
    return OnnxSession(folder, settings.provider, settings.intra_op_threads, cuda=cuda)


def load_model(
    folder: ModelFolder, settings: Settings, load: Callable[[ModelFolder, Settings], OnnxSession] = load_onnx
) -> Session:
    """Load the model as the settings say, and bind it to the GPU's memory where one runs it.

    A model that cannot be recorded as CUDA graphs runs without them, and the log says why.

    Args:
        folder: The model folder, already checked.
        settings: How it runs.
        load: Loads it into ONNX Runtime.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be loaded, or the GPU has too little memory.
    """
    if not settings.cuda_graphs:
        return _on_device(load(folder, settings), folder, settings)
    try:
        session = _on_device(load(folder, settings), folder, settings)
        if isinstance(session, BoundSession):
            _try(session, folder)
    except Exception as error:  # ONNX Runtime's exceptions share no base; without graphs it raises again
        if gpu_failure(error):
            raise  # not for the graphs' sake
        session = _on_device(load(folder, settings.model_copy(update={"cuda_graphs": False})), folder, settings)
        structlog.get_logger().warning("cuda_graphs_unavailable", reason=str(error))
    return session


def _on_device(session: OnnxSession, folder: ModelFolder, settings: Settings) -> Session:
    try:
        device = session.gpu()
        if device is None:
            return session
        in_flight = settings.max_concurrent_batches or IN_FLIGHT
        return BoundSession(session, device, folder.model, rows=settings.max_batch_size, in_flight=in_flight)
    except CudaError as error:
        raise LookalikeError(
            Code.FAILED_PRECONDITION, f"cannot run the model on the GPU: {explain(str(error))}"
        ) from error


def _try(session: BoundSession, folder: ModelFolder) -> None:
    """Run it once, which fails where it cannot be recorded; the session is closed then."""
    try:
        session.run(np.zeros((1, folder.model.height, folder.model.width, 3), dtype=np.uint8))
    except BaseException:
        session.close()
        raise
