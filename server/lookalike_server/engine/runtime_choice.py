"""Chooses the runtime that runs the model and measures how it runs best, for `serve` and `reembed`.

On a GPU that is ONNX Runtime. On a CPU ONNX Runtime and OpenVINO are measured, and the faster one runs the model if its
embeddings are those of ONNX Runtime, within bounds; the other one is unloaded. Where memory is short, batches are made
smaller.
"""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import structlog

from lookalike_server import __version__
from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Floats, Parity, Pixels, Runtime
from lookalike_server.domain.protocols import Session
from lookalike_server.engine.model_loading import LoadSession, load_model
from lookalike_server.inference.autotune import LoadConcurrent, measure_plan, warm_up
from lookalike_server.inference.autotune_cache import Measured, cache_key, read_measured, write_measured
from lookalike_server.inference.gpu_errors import GpuFailure, gpu_failure
from lookalike_server.inference.gpu_problems import explain, gpu_problem
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.openvino_session import PROVIDER as OPENVINO
from lookalike_server.inference.openvino_session import OpenVinoModel
from lookalike_server.inference.parity import embed_in_batches, measure_parity, parity_images
from lookalike_server.inference.plan import Plan
from lookalike_server.inference.processor import available_cores, has_avx2, processor

_MAX_PARITY_IMAGE = 1024 * 1024  # bytes and pixels
_PARITY_BATCH = 4


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A loaded model: how its batches are run, and what runs it."""

    plan: Plan
    runtime: Runtime


def plan_model(folder: ModelFolder, settings: Settings, load_session: LoadSession | None = None) -> PlannedModel:
    """Load the model and measure how it runs best; takes seconds, unless the last start measured the same.

    Where a GPU has too little memory, `max_batch_size` is halved until it suffices.

    Args:
        folder: The model folder, already checked.
        settings: How it runs.
        load_session: Loads it instead of the runtimes that the settings allow.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be loaded as the settings say, the runtime that they name
            computes other embeddings, memory is short even for a single image, or the GPU fails.
    """
    smaller = settings
    while True:
        try:
            return _plan_model(folder, smaller, load_session)
        except Exception as error:
            failure, reason = gpu_failure(error), str(error)
            if failure is not GpuFailure.OUT_OF_MEMORY or smaller.max_batch_size == 1:
                if failure is None or isinstance(error, LookalikeError):
                    raise
                raise LookalikeError(
                    Code.FAILED_PRECONDITION, f"cannot run the model on the GPU: {explain(reason)}"
                ) from error
        gc.collect()  # after the exception, whose frames have the sessions and with them the memory
        smaller = smaller.model_copy(update={"max_batch_size": smaller.max_batch_size // 2})
        structlog.get_logger().warning(
            "max_batch_size_reduced", max_batch_size=smaller.max_batch_size, reason=explain(reason)
        )


def _plan_model(folder: ModelFolder, settings: Settings, load_session: LoadSession | None) -> PlannedModel:
    choice = _Choice(folder, settings)
    try:
        return choice.of_session(load_session) if load_session else choice.make()
    finally:
        choice.close()


class _Choice:
    """One choice, and what it holds until it is made."""

    def __init__(self, folder: ModelFolder, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._cores = settings.intra_op_threads or available_cores()
        self._blank = np.zeros((folder.model.height, folder.model.width, 3), dtype=np.uint8)
        self._skipped: list[str] = []
        self._openvino: OpenVinoModel | None = None
        self._log = structlog.get_logger()

    @cached_property
    def _images(self) -> Pixels:
        """The images that are compared; decoded only where something is."""
        return parity_images(ImageDecoder.of_model(self._folder.model, _MAX_PARITY_IMAGE, _MAX_PARITY_IMAGE))

    def of_session(self, load_session: LoadSession) -> PlannedModel:
        """Measure sessions of the caller's."""
        return self._planned(self._measure(partial(self._load_onnx, load_session)), None)

    def make(self) -> PlannedModel:
        """Take what the last start measured, or compare the runtimes."""
        # A build for GPUs may find one that was not there at the last start.
        key = self._cache_key() if self._settings.autotune_cache and not _version("onnxruntime-gpu") else None
        measured = read_measured(self._settings.data_dir, key) if key else None
        if measured:
            try:
                return self._restored(measured)
            except LookalikeError as error:
                self._log.warning("autotune_cache_unusable", reason=str(error))
        plan, parity = self._openvino_only() if self._settings.provider == "openvino" else self._compare()
        planned = self._planned(plan, parity)
        if key and not plan.throughput_session.fixed_shapes:
            try:
                write_measured(self._settings.data_dir, key, plan, parity, planned.runtime.skipped)
            except OSError as error:
                self._log.warning("autotune_cache_failed", reason=str(error))
        return planned

    def close(self) -> None:
        """Free the graph that OpenVINO read: its threads end where it was not chosen."""
        if self._openvino:
            self._openvino.close()

    def _compare(self) -> tuple[Plan, Parity | None]:
        """Measure ONNX Runtime, and OpenVINO beside it where `auto` finds no GPU."""
        onnx = self._load_onnx(load_model, 1)
        for reason in getattr(onnx, "skipped", ()):
            self._skipped.append(reason)
            problem = gpu_problem(reason)
            if problem and problem.has_gpu:
                self._log.warning("gpu_unusable", reason=reason)
        # Further sessions are on the CPU where the first one is, whatever becomes of a GPU meanwhile.
        load = _load_reference if onnx.gains_from_concurrency else load_model
        loads = [self._reusing(onnx, partial(self._load_onnx, load))]
        if self._settings.provider != "auto" or not onnx.gains_from_concurrency:
            return self._measure(*loads), None
        try:
            openvino, parity = self._checked_openvino(onnx)
        except LookalikeError as error:
            self._skipped.append(f"openvino: {error.message}")
            return self._measure(*loads), None
        plan = self._measure(*loads, self._reusing(openvino, self._load_openvino))
        return plan, parity if plan.throughput_session.provider == OPENVINO else None

    def _openvino_only(self) -> tuple[Plan, Parity | None]:
        """Measure OpenVINO, which the settings name, and compare its embeddings where ONNX Runtime is installed."""
        parity = None
        try:
            reference = self._load_onnx(_load_reference, 1)
        except LookalikeError as error:
            self._skipped.append(f"cpu: embeddings are not compared: {error.message}")
            openvino = self._load_openvino(1)
        else:
            openvino, parity = self._checked_openvino(reference)
            reference.close()
        return self._measure(self._reusing(openvino, self._load_openvino)), parity

    def _checked_openvino(self, reference: Session) -> tuple[Session, Parity]:
        """Load the model into OpenVINO and compare its embeddings with the reference's.

        Raises:
            LookalikeError: FAILED_PRECONDITION when OpenVINO cannot run the model or computes other embeddings.
        """
        session = self._load_openvino(1)
        try:
            bounds = self._folder.parity_bounds
            parity = measure_parity(self._embed(reference), self._embed(session), bounds)
        except Exception as error:
            session.close()
            raise LookalikeError(
                Code.FAILED_PRECONDITION, f"a run fails, so that embeddings cannot be compared: {error}"
            ) from error
        if not parity.within_bounds:
            session.close()
            reason = (
                f"{session.library} in {session.precision} computes other embeddings than ONNX Runtime: {parity}, where"
                f" at least {bounds.min_cosine} and {bounds.min_overlap} are needed to share a catalog;"
                " set --provider cpu or --inference-precision fp32"
            )
            self._log.warning("runtime_parity_failed", reason=reason)
            raise LookalikeError(Code.FAILED_PRECONDITION, reason)
        return session, parity

    def _restored(self, measured: Measured) -> PlannedModel:
        """Load what the last start chose and warm it up."""
        load = self._load_openvino if measured.provider == OPENVINO else partial(self._load_onnx, _load_reference)
        latency = load(1)
        profiles = measured.batch_profiles
        concurrency = profiles[-1].concurrency
        plan = Plan(
            latency_session=latency,
            throughput_session=latency if concurrency == 1 else load(concurrency),
            max_concurrent_batches=concurrency,
            preferred_batch_size=profiles[-1].batch_size,
            profiles=profiles,
            idle=measured.idle_profile,
            inline=measured.inline,
        )
        warm_up(plan, self._blank)
        self._skipped += measured.skipped
        return self._planned(plan, measured.known_parity)

    def _measure(self, *loads: LoadConcurrent) -> Plan:
        settings = self._settings
        return measure_plan(
            loads,
            self._blank,
            cores=self._cores,
            max_batch_size=settings.max_batch_size,
            max_concurrent_batches=settings.max_concurrent_batches,
            preferred_batch_size=settings.preferred_batch_size,
        )

    def _planned(self, plan: Plan, parity: Parity | None) -> PlannedModel:
        session = plan.throughput_session
        skipped = (*self._skipped, *plan.slower)
        if skipped:
            # not at info, where it reads like faults on every start without a GPU; `serving` has what runs
            self._log.debug("providers_skipped", reasons=list(skipped))
        return PlannedModel(
            plan, Runtime(session.provider, session.library, session.precision, plan.batch_profiles, parity, skipped)
        )

    def _load_onnx(self, load: LoadSession, concurrency: int) -> Session:
        """Load a session with its share of the cores; 0 threads, where all are ours, lets the runtime choose."""
        threads = self._settings.intra_op_threads
        if concurrency > 1:
            threads = max(1, self._cores // concurrency)
        elif not threads and self._cores < (os.cpu_count() or 1):
            threads = self._cores
        return load(self._folder, self._settings.model_copy(update={"intra_op_threads": threads}))

    def _load_openvino(self, concurrency: int) -> Session:
        if self._openvino is None:
            if not has_avx2():
                raise LookalikeError(
                    Code.FAILED_PRECONDITION,
                    "OpenVINO needs AVX2, which this processor lacks; --provider cpu runs without",
                )
            self._openvino = OpenVinoModel(self._folder, self._settings.inference_precision)
        return self._openvino.session(concurrency, self._cores, self._settings.max_batch_size)

    def _embed(self, session: Session) -> Floats:
        return embed_in_batches(session, self._images, min(_PARITY_BATCH, self._settings.max_batch_size))

    @staticmethod
    def _reusing(session: Session, load: LoadConcurrent) -> LoadConcurrent:
        """Load sessions, but for a concurrency of 1 take this one."""
        return lambda concurrency: session if concurrency == 1 else load(concurrency)

    def _cache_key(self) -> str:
        """Identify what the measurement depends on."""
        settings = self._settings
        return cache_key(
            self._folder.model.digest,
            self._folder.parity_bounds,
            *(__version__, _version("onnxruntime"), _version("openvino")),
            *(processor(), self._cores),
            *(settings.provider, settings.inference_precision, settings.intra_op_threads),
            *(settings.max_batch_size, settings.max_concurrent_batches, settings.preferred_batch_size),
        )


def _load_reference(folder: ModelFolder, settings: Settings) -> Session:
    """Load the model into ONNX Runtime on the CPU."""
    return load_model(folder, settings.model_copy(update={"provider": "cpu"}))


def _version(distribution: str) -> str:
    """Return the version of a package, empty where it is not installed; importing it would take longer."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
