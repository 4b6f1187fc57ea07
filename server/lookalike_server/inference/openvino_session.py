"""A model loaded into OpenVINO; the only module that imports `openvino`.

OpenVINO computes in bf16 where the processor does, several batches at once in streams of threads, and calls back when
one is done. Its telemetry is for its command line tools and off.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.failure_watch import Done, FailureWatch, Run
from lookalike_server.inference.manifest import ModelFolder

PROVIDER = "OpenVINO"

_HINTS = {"bf16": "bf16", "fp32": "f32"}
_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}  # by OpenVINO's names
_SPARE_REQUESTS = 1  # so that the next batch is started while the last one's result is read
_MAX_CAUSE = 300  # characters


class OpenVinoModel:
    """A graph that OpenVINO has read, from which sessions are compiled."""

    def __init__(self, folder: ModelFolder, inference_precision: str, *, openvino: Any = None) -> None:
        """Read the graph.

        Args:
            folder: The model folder, already checked.
            inference_precision: "bf16", which counts where the processor computes in it, or "fp32".
            openvino: The module `openvino`, which is imported by default.

        Raises:
            LookalikeError: FAILED_PRECONDITION when OpenVINO cannot be loaded, or not read the graph.
        """
        self._folder = folder
        self._precision = inference_precision
        self._openvino = openvino or import_openvino()
        try:
            self._core = self._openvino.Core()
            self._graph = self._core.read_model(str(folder.graph))
        except Exception as error:  # its exceptions share no base
            raise _unusable(f"OpenVINO cannot read {folder.graph}: {_cause(error)}") from error
        _check_input_and_output(self._graph, folder)

    def session(self, streams: int, threads: int, max_batch_size: int) -> OpenVinoSession:
        """Compile the graph.

        Args:
            streams: Batches that run at once.
            threads: Of all streams together.
            max_batch_size: The most images in a batch.

        Raises:
            LookalikeError: FAILED_PRECONDITION when OpenVINO lacks an operator.
        """
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": max(threads, streams),
            # Pinned threads wait for their own core while another one, on which no caller computes, is free.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = self._core.compile_model(self._graph, "CPU", options)
        except Exception as error:
            raise _unusable(f"OpenVINO cannot compile {self._folder.graph}: {_cause(error)}") from error
        return OpenVinoSession(self._openvino, compiled, self._folder, streams, max_batch_size)

    def close(self) -> None:
        """Free the graph; the sessions live on, but the threads of closed ones end only with it."""
        self._graph = self._core = None


class OpenVinoSession(Session):
    """A compiled graph with memory for the batches that run at once."""

    provider = PROVIDER
    fixed_shapes = False
    gains_from_concurrency = True
    asynchronous = True

    def __init__(self, openvino: Any, compiled: Any, folder: ModelFolder, streams: int, max_batch_size: int) -> None:
        """Take a compiled graph; `OpenVinoModel.session` makes one."""
        own = folder.model.precision
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self._library = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        self._precision = own if own != "fp32" else _PRECISIONS.get(hint, hint)
        self._compiled = compiled
        self._requests = [
            _Request(openvino, compiled, folder, max_batch_size) for _ in range(streams + _SPARE_REQUESTS)
        ]
        # First in, first out: the request whose callback starts the next batch is the last to be taken.
        self._idle: SimpleQueue[_Request | None] = SimpleQueue()
        for request in self._requests:
            self._idle.put(request)
        self._closed = False
        self._failures = FailureWatch()
        self._last = compiled.create_infer_request()
        self._last.set_input_tensor(openvino.Tensor(np.zeros((1, *self._requests[0].image_shape), dtype=np.uint8)))

    @property
    def library(self) -> str:
        """OpenVINO and its version."""
        return self._library

    @property
    def precision(self) -> str:
        """What the compiled graph says it computes in, whatever was asked for."""
        return self._precision

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3]: float32 [n, dim]; waits where every request runs."""
        finished = threading.Event()
        outcome: list[Floats | Exception] = []

        def done(result: Floats | Exception) -> None:
            outcome.append(result)
            finished.set()

        self._start(self._idle.get(), images, done)
        finished.wait()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def start(self, images: Sequence[Pixels], done: Done) -> None:
        """See `Session`. OpenVINO's own `start_async` would block where no request is idle."""
        try:
            request = self._idle.get_nowait()
        except Empty:
            raise RuntimeError("every request of the session runs already") from None
        self._start(request, images, done)

    def close(self) -> None:
        """Wait for the runs under way and free the graph; nothing may run afterwards."""
        if self._closed:
            return
        self._closed = True
        for _ in self._requests:
            self._idle.get()
        self._failures.close()
        # Freeing the graph joins OpenVINO's threads while this one has the GIL, so none of them may need it any more.
        # They end a run only after its callback: a run without one comes behind all of those.
        self._last.start_async()
        self._last.wait()
        for request in self._requests:
            request.close()
        self._requests.clear()
        self._last = self._compiled = None
        self._idle.put(None)  # whoever waits for a request learns that there is none

    def _start(self, request: _Request | None, images: Sequence[Pixels] | Pixels, done: Done) -> None:
        if request is None:
            self._idle.put(None)
            raise RuntimeError("the session is closed")

        def ended(result: Floats | Exception) -> None:
            self._idle.put(request)
            done(result)

        run = Run(request, ended)
        try:
            request.start(images, run.end)
        except BaseException:
            self._idle.put(request)
            raise
        self._failures.add(run)


class _Request:
    """An infer request of OpenVINO with its own input, in which a batch is assembled."""

    def __init__(self, openvino: Any, compiled: Any, folder: ModelFolder, max_batch_size: int) -> None:
        model = folder.model
        self.image_shape = (model.height, model.width, 3)
        self._images = np.zeros((max_batch_size, *self.image_shape), dtype=np.uint8)
        # Over the same memory, so that nothing is copied between it and OpenVINO.
        self._inputs = [
            openvino.Tensor(self._images[:size], shared_memory=True) for size in range(1, max_batch_size + 1)
        ]
        self._dim = model.dim
        self._request = compiled.create_infer_request()

    def start(self, images: Sequence[Pixels] | Pixels, done: Done) -> None:
        """Copy the images and start; `done` is called unless OpenVINO fails, which `failure` finds."""
        size = len(images)
        if not 1 <= size <= len(self._inputs):
            raise ValueError(f"cannot run {size} images at once; there is memory for 1 to {len(self._inputs)}")
        np.stack(list(images), out=self._images[:size])
        self._request.set_input_tensor(self._inputs[size - 1])
        # For every run: OpenVINO takes a callback away while it calls it, and a run that started meanwhile and ended
        # before would call nothing.
        self._request.set_callback(partial(self._on_done, size, done), None)
        self._request.start_async()

    def failure(self) -> Exception | None:
        """Return what the run raised, None while it runs and where it succeeded."""
        try:
            self._request.wait_for(0)
        except RuntimeError as error:
            return error
        return None

    def close(self) -> None:
        """Free it."""
        self._request = None
        self._inputs.clear()

    def _on_done(self, size: int, done: Done, _: object) -> None:
        try:
            result: Floats | Exception = self._read(size)
        except Exception as error:  # noqa: BLE001 - the caller waits for an outcome, whatever it is
            result = error
        done(result)

    def _read(self, size: int) -> Floats:
        # Copied, because the next run overwrites it; once for the whole batch.
        embeddings: Floats = np.array(self._request.get_output_tensor().data, dtype=np.float32)
        if embeddings.shape != (size, self._dim):
            raise RuntimeError(f"the model returned {embeddings.shape} for {size} images")
        return embeddings


def import_openvino() -> Any:
    """Import `openvino`, without its telemetry.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be loaded.
    """
    # OpenVINO's tools would send usage figures; without this module they fall back to a stub that sends nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None makes its import fail
    try:
        import openvino
    except ImportError as error:
        raise _unusable(
            f"OpenVINO cannot be loaded; on x86-64, `pip install 'lookalike-server[cpu]'` installs it ({_cause(error)})"
        ) from error
    return openvino


def _check_input_and_output(graph: Any, folder: ModelFolder) -> None:
    model = folder.model
    for kind, ports, expected in (
        ("input", graph.inputs, (folder.input_name, "u8", [model.height, model.width, 3])),
        ("output", graph.outputs, (folder.output_name, "f32", [model.dim])),
    ):
        # A dimension that OpenVINO does not know before a run contradicts nothing; each result's shape is checked.
        found = [
            (port.get_any_name(), port.element_type.get_type_name(), _image_shape(port, expected[2])) for port in ports
        ]
        if found != [expected]:
            raise _unusable(f"{folder.graph}: OpenVINO reads its {kind} as {found}, but model.json says {expected}")


def _image_shape(port: Any, expected: list[int]) -> list[int]:
    """Return all but the first dimension, which is the batch; those that vary as they are expected."""
    sizes = [each.get_length() if each.is_static else -1 for each in list(port.partial_shape)[1:]]
    if len(sizes) != len(expected):
        return sizes
    return [known if size == -1 else size for size, known in zip(sizes, expected, strict=True)]


def _cause(error: Exception) -> str:
    """Shorten a message of OpenVINO, most of whose lines name its source files, to what they lead to."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    causes = [line for line in lines if line and not line.startswith(("Exception from ", "Check ", "Summary"))]
    return " ".join(causes or lines)[:_MAX_CAUSE]


def _unusable(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)
