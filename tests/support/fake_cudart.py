"""A CUDA runtime without a GPU, compiled from `fake_cudart.cpp`, and a build of ONNX Runtime that uses it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

from lookalike_server.inference.onnx_session import import_onnxruntime
from support.paths import ROOT

SOURCE = ROOT / "tests/support/fake_cudart.cpp"
CUDA = 99
"""The version of CUDA that the fake is of, so that a real one is never loaded in its place."""
OUT_OF_MEMORY, INSUFFICIENT_DRIVER, DEVICES_UNAVAILABLE, NO_DEVICE = 2, 35, 46, 100
SYSTEM_NOT_READY, DRIVER_MISMATCH = 802, 803
GIB = 1 << 30


class FakeRuntime:
    """The compiled fake runtime, with a GPU that nobody else uses."""

    def __init__(self, path: Path) -> None:
        """Load it, so that the loader has it under its name."""
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self.set_gpu()

    def set_gpu(self, driver: int = 1000 * CUDA, free: int = 79 * GIB, total: int = 80 * GIB) -> None:
        """Set the version of CUDA that the driver supports (0: there is no driver), and the GPU's memory in bytes."""
        self._library.fake_gpu(ctypes.c_int(driver), ctypes.c_size_t(free), ctypes.c_size_t(total))

    def fail(self, name: str, code: int) -> None:
        """Make the next call of this name fail."""
        self._library.fake_fails(name.encode(), code)

    def last_error(self) -> int:
        """Return the last error of this thread that nobody has asked for, as ONNX Runtime does after a kernel."""
        return int(self._library.cudaGetLastError())

    def unfreed(self) -> int:
        """Count the streams and allocations that were not freed."""
        return int(self._library.fake_open())


def compile_runtime(folder: Path) -> FakeRuntime:
    """Compile the fake into a folder, and load it."""
    compiler = shutil.which("g++")
    assert compiler is not None  # hnswlib is compiled with it too
    path = folder / "libcudart.so"
    name = f"-Wl,-soname,libcudart.so.{CUDA}"
    subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", name, "-o", path, SOURCE], check=True, timeout=120)
    return FakeRuntime(path)


class GpuBuild:
    """ONNX Runtime's build for GPUs: its module, whose sessions on CUDA compute on the CPU.

    Attributes:
        fails_to_load: What a session on CUDA raises when it is created; nothing where it is empty.
        fails_to_run: What its runs raise.
        loads: The providers of the sessions that were created.
    """

    cuda_version = f"{CUDA}.0"

    def __init__(self, *, missing: str = "", fails_to_load: str = "", fails_to_run: str = "") -> None:
        """Take the failures, and what `preload_dlls` says is missing."""
        self._ort = import_onnxruntime()
        self.__version__ = self._ort.__version__
        self.SessionOptions, self.RunOptions = self._ort.SessionOptions, self._ort.RunOptions
        self.fails_to_load = fails_to_load
        self.fails_to_run = fails_to_run
        self.loads: list[str] = []
        self._missing = missing

    def get_available_providers(self) -> list[str]:
        """List what the build has."""
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        """Print what is missing, as ONNX Runtime does."""
        print(self._missing)

    def InferenceSession(self, path: str, options: Any, *, providers: list[str], **_: Any) -> Any:  # noqa: N802
        """Create a session; on CUDA it may fail, now or in its runs."""
        self.loads.append(providers[0])
        session = self._ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        if providers[0] == "CPUExecutionProvider":
            return session
        if self.fails_to_load:
            raise RuntimeError(self.fails_to_load)
        return _CudaSession(session, self.fails_to_run)


class _CudaSession:
    """A session that says that it runs on CUDA."""

    def __init__(self, session: Any, fails_to_run: str) -> None:
        self._session = session
        self._fails_to_run = fails_to_run
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self, *arguments: Any) -> Any:
        if self._fails_to_run:
            raise RuntimeError(self._fails_to_run)
        return self._session.run(*arguments)
