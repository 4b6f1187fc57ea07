"""What the NVIDIA driver says about GPUs, by NVML; nothing where there is none, or `nvidia-ml-py` is not installed."""

from __future__ import annotations

from typing import Any, NamedTuple


class GpuState(NamedTuple):
    """A GPU at this moment.

    Attributes:
        gpu: Its index, as `nvidia-smi` counts.
        used_bytes: Memory that any process uses.
        total_bytes: Its memory.
        utilization: The share of the last second, or less, in which it computed, 0 to 1; None where it does not say.
    """

    gpu: str
    used_bytes: float
    total_bytes: float
    utilization: float | None


class Gpus:
    """Asks NVML, which is loaded with the first question."""

    def __init__(self) -> None:
        """Ask nothing yet."""
        self._nvml: Any = None
        self._is_missing = False

    def states(self) -> list[GpuState]:
        """Return every GPU that answers."""
        nvml = self._loaded()
        if nvml is None:
            return []
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:
            return []
        return [state for index in range(count) if (state := _state(nvml, index)) is not None]

    def _loaded(self) -> Any:
        if self._nvml is None and not self._is_missing:
            self._is_missing = True
            try:
                import pynvml
            except ImportError:
                return None
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError:  # no driver
                return None
            self._nvml = pynvml
        return self._nvml


def _state(nvml: Any, index: int) -> GpuState | None:
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
    except nvml.NVMLError:
        return None
    try:
        utilization = nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
    except nvml.NVMLError:  # a part of a GPU (MIG) does not say
        utilization = None
    return GpuState(str(index), memory.used, memory.total, utilization)
