"""A model loaded into ONNX Runtime; the only place that imports `onnxruntime`."""

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
from lookalike_server.inference.io_binding import Act
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.providers import ON_CARD, PROVIDERS, Card, Options, cuda_runtime, options_of, why_not


class OnnxSession(Session):
    """One ONNX Runtime session on one provider. Several threads may run it at once, but for a CUDA graph's."""

    def __init__(
        self,
        folder: ModelFolder,
        provider: str,
        threads: int,
        inference_precision: str = "bf16",
        *,
        card: Card | None = None,
        ort: Any = None,
        missing: Callable[[Any, str], str | None] = why_not,
    ) -> None:
        """Load the model.

        Args:
            folder: The model folder, already checked.
            provider: "auto" or a key of `PROVIDERS`.
            threads: Threads of one run; 0 lets ONNX Runtime take every core.
            inference_precision: "bf16" or "fp32", what OpenVINO computes in; the graph and its ends stay float32.
            card: How it is run on a CUDA card.
            ort: The module `onnxruntime`, or what stands for it; imported without it.
            missing: Says why a provider cannot be had, or None.

        Raises:
            LookalikeError: FAILED_PRECONDITION when no provider can be had or the graph's ends are not as described.
        """
        self.skipped: list[str] = []
        """Why `auto` passed over the providers before the one that runs."""
        self._ort = ort or _onnxruntime()
        self._folder = folder
        self._card = card or Card()
        names = list(PROVIDERS) if provider == "auto" else [provider]
        for name in names:
            problem = missing(self._ort, name)
            if problem is None:
                options = options_of(name, folder, threads, inference_precision, self._card)
                try:
                    self._session = _load(self._ort, folder, options, threads)
                except LookalikeError as error:
                    # The others load every sound graph; TensorRT has to build an engine of it first.
                    if name != "tensorrt":
                        raise
                    problem = f"{name}: {error.message}"
                else:
                    # ONNX Runtime falls back to the CPU with only a warning when a card is missing.
                    if self._session.get_providers()[0] == PROVIDERS[name]:
                        self._name = name
                        break
                    problem = f"{name}: {PROVIDERS[name]} did not start (no usable device)"
            self.skipped.append(problem)
        else:
            raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot run the model: {'; '.join(self.skipped)}")
        _check_ends(self._session, folder)

    @property
    def provider(self) -> str:
        """The provider that runs it, by ONNX Runtime's name."""
        return str(self._session.get_providers()[0])

    @property
    def fixed_shapes(self) -> bool:
        """Whether batches are padded: on a card every shape has kernels, and a graph, of its own."""
        return self._name in ON_CARD

    @property
    def gains_from_lanes(self) -> bool:
        """Whether runs side by side can pay: where the model runs on the cores, and not all of them share a run.

        OpenVINO keeps every core busy with one run of any size, and lets others wait for it.
        """
        return self._name == "cpu"

    @property
    def records_graphs(self) -> bool:
        """Whether a bound run is recorded the first time and replayed after that."""
        return self._name == "cuda" and self._card.graphs

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3], n >= 1: float32 [n, dim]."""
        (embeddings,) = self._session.run([self._folder.output_name], {self._folder.input_name: images})
        return np.asarray(embeddings, dtype=np.float32)

    def card(self) -> Device | None:
        """The card that runs it, where one does."""
        return CudaDevice(cuda_runtime(self._ort)) if self._name in ON_CARD else None

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> Act:
        """See `Bindable`. ONNX Runtime's own copies and allocations are left out: both ends are where they are said."""
        model = self._folder.model
        binding = self._session.io_binding()
        ends = (rows, model.height, model.width, 3), (rows, model.dim)
        binding.bind_input(self._folder.input_name, kind, 0, np.uint8, ends[0], input_address)
        binding.bind_output(self._folder.output_name, kind, 0, np.float32, ends[1], output_address)
        options = self._ort.RunOptions()
        if self.records_graphs:
            options.add_run_config_entry("gpu_graph_id", str(graph))

        # It returns when the device is done, unless it is told otherwise.
        return lambda: self._session.run_with_iobinding(binding, options)


def _onnxruntime() -> Any:
    # Its packages report what is run to their maker, and keep a file for that in the user's home, unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            "ONNX Runtime is not installed: pip install 'lookalike-server[cpu]' (or [gpu], [openvino])",
        ) from None
    return onnxruntime


def _load(ort: Any, folder: ModelFolder, providers: Options, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning between operators makes a run faster; after the run it would take the cores from gRPC and other lanes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # its warnings are about graph rewriting; errors are raised anyway
    try:
        return ort.InferenceSession(
            str(folder.graph),
            options,
            providers=[name for name, _ in providers],
            provider_options=[told for _, told in providers],
            enable_fallback=0,  # to the CPU, with a line on the standard output
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base
        raise LookalikeError(Code.FAILED_PRECONDITION, f"ONNX Runtime cannot load {folder.graph}: {error}") from error


def _check_ends(session: Any, folder: ModelFolder) -> None:
    model = folder.model
    expected = {
        "input": (folder.input_name, "tensor(uint8)", [model.height, model.width, 3]),
        "output": (folder.output_name, "tensor(float)", [model.dim]),
    }
    for end, nodes in (("input", session.get_inputs()), ("output", session.get_outputs())):
        found = [(node.name, node.type, _fixed(node.shape)) for node in nodes]
        if found != [expected[end]]:
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                f"{folder.graph}: {end} is {found}, model.json says {expected[end]}; export the model again",
            )


def _fixed(shape: Sequence[int | str]) -> list[int | str]:
    """All but the first dimension, which is the batch."""
    return list(shape[1:])
