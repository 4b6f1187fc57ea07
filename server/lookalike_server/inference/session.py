"""A model loaded into ONNX Runtime; the only place that imports `onnxruntime`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lookalike_server.domain import Floats, Pixels
from lookalike_server.errors import Code, LookalikeError
from lookalike_server.inference.manifest import ModelFolder

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Settings' names for ONNX Runtime's providers, in the order in which `auto` tries them."""

_INSTALL = {"cuda": "gpu", "openvino": "openvino", "cpu": "cpu"}
_OPENVINO_PRECISIONS = {"bf16": "bf16", "fp32": "f32"}


class OnnxSession:
    """One ONNX Runtime session on one provider. Several threads may run it at once."""

    def __init__(
        self, folder: ModelFolder, provider: str, threads: int, openvino_precision: str = "bf16", *, ort: Any = None
    ) -> None:
        """Load the model.

        Args:
            folder: The model folder, already checked.
            provider: "auto" or a key of `PROVIDERS`.
            threads: Threads of one run; 0 lets ONNX Runtime take every core.
            openvino_precision: "bf16" or "fp32", what OpenVINO computes in; the graph and its ends stay float32.
            ort: The module `onnxruntime`, or what stands for it; imported without it.

        Raises:
            LookalikeError: FAILED_PRECONDITION when no provider can be had or the graph's ends are not as described.
        """
        self.skipped: list[str] = []
        """Why `auto` passed over the providers before the one that runs."""
        ort = ort or _onnxruntime()
        names = list(PROVIDERS) if provider == "auto" else [provider]
        for name in names:
            problem = _unavailable(ort, name)
            if problem is None:
                options = _openvino_options(openvino_precision, threads) if name == "openvino" else {}
                self._session = _load(ort, folder, PROVIDERS[name], options, threads)
                # ONNX Runtime falls back to the CPU with only a warning when a card is missing.
                if self._session.get_providers()[0] == PROVIDERS[name]:
                    break
                problem = f"{name}: {PROVIDERS[name]} did not start (no usable device)"
            self.skipped.append(problem)
        else:
            raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot run the model: {'; '.join(self.skipped)}")
        self._input, self._output = folder.input_name, folder.output_name
        _check_ends(self._session, folder)

    @property
    def provider(self) -> str:
        """The provider that runs it, by ONNX Runtime's name."""
        return str(self._session.get_providers()[0])

    @property
    def fixed_shapes(self) -> bool:
        """Whether batches are padded: CUDA searches for its kernels anew for every shape."""
        return self.provider == PROVIDERS["cuda"]

    @property
    def gains_from_lanes(self) -> bool:
        """Whether runs side by side can pay: where the model runs on the cores, and not all of them share a run.

        OpenVINO keeps every core busy with one run of any size, and lets others wait for it.
        """
        return self.provider == PROVIDERS["cpu"]

    def run(self, photos: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3], n >= 1: float32 [n, dim]."""
        (embeddings,) = self._session.run([self._output], {self._input: photos})
        return np.asarray(embeddings, dtype=np.float32)


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


def _unavailable(ort: Any, name: str) -> str | None:
    if PROVIDERS[name] in ort.get_available_providers():
        return None
    # The builds have one import name: installed side by side, one's files are the other's.
    install = f"pip uninstall onnxruntime, then pip install 'lookalike-server[{_INSTALL[name]}]'"
    return f"{name}: this build of ONNX Runtime lacks {PROVIDERS[name]} ({install})"


def _openvino_options(precision: str, threads: int) -> dict[str, str]:
    """What OpenVINO is told: to run on the processor, in one stream, and in which precision."""
    settings = {"INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision], "NUM_STREAMS": "1"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": settings})}


def _load(ort: Any, folder: ModelFolder, provider: str, provider_options: dict[str, str], threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning between operators makes a run faster; after the run it would take the cores from gRPC and other lanes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # its warnings are about graph rewriting; errors are raised anyway
    try:
        return ort.InferenceSession(
            str(folder.graph), options, providers=[provider], provider_options=[provider_options]
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
