"""Opens the device that searches, where the settings ask for one."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Metric, Model
from lookalike_server.index.device import DeviceSearchError, SearchDevice
from lookalike_server.inference.onnx_session import import_onnxruntime

OpenSearchDevice = Callable[[Settings, Model], SearchDevice | None]


def open_search_device(settings: Settings, model: Model) -> SearchDevice | None:
    """Open the GPU for searches; None where the settings ask for none, or the model's metric has no bound there.

    Call it before the model runs: see `forbid_half_sums`.

    Raises:
        LookalikeError: FAILED_PRECONDITION when there is no GPU that can search.
    """
    if settings.search_device == "cpu":
        return None
    if model.metric is not Metric.COSINE:
        structlog.get_logger().warning(
            "device_search_unavailable", reason=f"it needs the metric cosine, and the model's is {model.metric.value}"
        )
        return None
    from lookalike_server.device_search.opening import OnnxSearchDevice  # for few servers, and every start would wait

    try:
        return OnnxSearchDevice.cuda(import_onnxruntime(), model.dim)
    except DeviceSearchError as error:
        raise LookalikeError(
            Code.FAILED_PRECONDITION, f"cannot search on the GPU: {error}; --search-device cpu searches without"
        ) from error
