"""A model loaded into ONNX Runtime; the only module that imports `onnxruntime`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.cuda import CudaDevice
from lookalike_server.inference.device import Device
from lookalike_server.inference.gpu_problems import gpu_problem
from lookalike_server.inference.io_binding import RunBatch
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.providers import (
    ON_GPU,
    PROVIDERS,
    CudaOptions,
    ProviderOptions,
    cuda_runtime,
    failure_reason,
    provider_options,
    unavailable_reason,
)


class OnnxSession(Session):
    """An ONNX Runtime session on one provider. Several threads may run it at once, but not runs of a CUDA graph."""

    def __init__(
        self,
        folder: ModelFolder,
        provider: str,
        threads: int,
        *,
        cuda: CudaOptions | None = None,
        ort: Any = None,
        unavailable_reason: Callable[[Any, str], str | None] = unavailable_reason,
    ) -> None:
        """Load the model.

        Args:
            folder: The model folder, already checked.
            provider: "auto" or a key of `PROVIDERS`.
            threads: Threads per run; 0 lets ONNX Runtime use every core.
            cuda: How it runs on a GPU.
            ort: The module `onnxruntime`, which is imported by default.
            unavailable_reason: Returns why a provider is not available, or None.

        Raises:
            LookalikeError: FAILED_PRECONDITION when no provider is available, or the graph's input or output is not
                as described.
        """
        self.skipped: list[str] = []
        """The reasons why `auto` skipped the providers before the one that runs."""
        self._ort = ort or import_onnxruntime()
        self._folder = folder
        self._cuda = cuda or CudaOptions()
        names = list(PROVIDERS) if provider == "auto" else [provider]
        for name in names:
            problem = unavailable_reason(self._ort, name) or self._start(name, threads)
            if problem is None:
                self._provider = name
                break
            self.skipped.append(problem)
        else:
            raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot run the model: {'; '.join(self.skipped)}")

    @property
    def provider(self) -> str:
        """The provider that runs it, by ONNX Runtime's name."""
        return str(self._session.get_providers()[0])

    @property
    def library(self) -> str:
        """ONNX Runtime and its version."""
        return f"ONNX Runtime {self._ort.__version__}"

    @property
    def precision(self) -> str:
        """What the graph is in, which ONNX Runtime keeps to."""
        return self._folder.model.precision

    @property
    def fixed_shapes(self) -> bool:
        """Whether it runs on a GPU, where every shape has kernels, and a CUDA graph, of its own."""
        return self._provider in ON_GPU

    @property
    def gains_from_concurrency(self) -> bool:
        """Whether it runs on a CPU."""
        return self._provider == "cpu"

    @property
    def records_graphs(self) -> bool:
        """Whether a bound run is recorded as a CUDA graph the first time and replayed afterwards."""
        return self._provider == "cuda" and self._cuda.graphs

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3], n >= 1: float32 [n, dim]."""
        (embeddings,) = self._session.run([self._folder.output_name], {self._folder.input_name: images})
        return np.asarray(embeddings, dtype=np.float32)

    def _start(self, name: str, threads: int) -> str | None:
        """Load the model; return why this provider cannot run it, None where it does.

        Raises:
            LookalikeError: FAILED_PRECONDITION when no provider could.
        """
        try:
            self._session = _load(self._ort, self._folder, provider_options(name, self._folder, self._cuda), threads)
            # Without a GPU, ONNX Runtime falls back to the CPU with only a warning.
            if self._session.get_providers()[0] != PROVIDERS[name]:
                return f"{name}: {PROVIDERS[name]} did not start (no usable device)"
            _check_input_and_output(self._session, self._folder)
            if name in ON_GPU:
                self._try()
        except LookalikeError as error:
            # Any other provider loads every valid graph, where nothing is wrong with the GPU; TensorRT may fail to
            # build an engine of it.
            if name != "tensorrt" and gpu_problem(error.message) is None:
                raise
            problem = error.message
        else:
            return None
        self._session = None  # which may hold memory of the GPU
        return f"{name}: {failure_reason(self._ort, problem)}"

    def _try(self) -> None:
        """Run one image: whether a GPU has kernels for the model, and memory, shows in a run.

        Raises:
            LookalikeError: FAILED_PRECONDITION when it fails.
        """
        model, options = self._folder.model, self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", "-1")  # no graph is recorded of it
        image = np.zeros((1, model.height, model.width, 3), dtype=np.uint8)
        try:
            self._session.run([self._folder.output_name], {self._folder.input_name: image}, options)
        except Exception as error:  # ONNX Runtime's exceptions share no base
            raise LookalikeError(Code.FAILED_PRECONDITION, f"a run of {self._folder.graph} fails: {error}") from error

    def close(self) -> None:
        """Free the session and end its threads."""
        self._session = None

    def gpu(self) -> Device | None:
        """Return the GPU that runs it, or None.

        Raises:
            CudaError: When the CUDA runtime cannot be loaded.
        """
        return CudaDevice(cuda_runtime(self._ort)) if self._provider in ON_GPU else None

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> RunBatch:
        """See `Bindable`. ONNX Runtime then neither allocates nor copies input and output."""
        model = self._folder.model
        binding = self._session.io_binding()
        images, embeddings = (rows, model.height, model.width, 3), (rows, model.dim)
        binding.bind_input(self._folder.input_name, kind, 0, np.uint8, images, input_address)
        binding.bind_output(self._folder.output_name, kind, 0, np.float32, embeddings, output_address)
        options = self._ort.RunOptions()
        if self.records_graphs:
            options.add_run_config_entry("gpu_graph_id", str(graph))

        # By default it returns when the device is done.
        return lambda: self._session.run_with_iobinding(binding, options)


def import_onnxruntime() -> Any:
    """Import `onnxruntime`, without its telemetry.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it is not installed.
    """
    # ONNX Runtime would send telemetry and keep a file for it in the user's home directory.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            "ONNX Runtime is not installed: pip install 'lookalike-server[cpu]' (or [gpu])",
        ) from None
    return onnxruntime


def _load(ort: Any, folder: ModelFolder, providers: ProviderOptions, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning between operators makes a run faster; after it, spinning takes the cores from gRPC and concurrent runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors only: they are raised anyway, and the warnings are about graph rewriting
    try:
        return ort.InferenceSession(
            str(folder.graph),
            options,
            providers=[name for name, _ in providers],
            provider_options=[values for _, values in providers],
            enable_fallback=0,  # it would run on the CPU instead, with only a line on standard output
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base
        raise LookalikeError(Code.FAILED_PRECONDITION, f"ONNX Runtime cannot load {folder.graph}: {error}") from error


def _check_input_and_output(session: Any, folder: ModelFolder) -> None:
    model = folder.model
    expected = {
        "input": (folder.input_name, "tensor(uint8)", [model.height, model.width, 3]),
        "output": (folder.output_name, "tensor(float)", [model.dim]),
    }
    for kind, nodes in (("input", session.get_inputs()), ("output", session.get_outputs())):
        found = [(node.name, node.type, _image_shape(node.shape)) for node in nodes]
        if found != [expected[kind]]:
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                f"{folder.graph}: the {kind} is {found}, but model.json says {expected[kind]}; export the model again",
            )


def _image_shape(shape: Sequence[int | str]) -> list[int | str]:
    """Return all but the first dimension, which is the batch."""
    return list(shape[1:])
