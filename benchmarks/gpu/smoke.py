"""The smoke test: a model computes on the GPU what it computes on the CPU, in every batch size and setting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.environment import Model
from benchmarks.gpu.machine import gpu_memory_mib
from benchmarks.gpu.ways import ALTERNATIVES
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Result
from lookalike_server.domain.inference import Floats, Parity, Pixels
from lookalike_server.inference.device import HostDevice
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.io_binding import IN_FLIGHT, BoundSession
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.parity import embed_in_batches, measure_parity, parity_images
from lookalike_server.inference.providers import CudaOptions

if TYPE_CHECKING:
    from benchmarks.gpu.step import Step

_SECONDS = 1.0  # below which no model is begun
_LIMIT = 1 << 20  # bytes and pixels of the images that are compared
_MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999}
"""Least cosine with the CPU's embeddings, by precision; with TF32 off, rounding of sums alone differs in fp32."""

_STRICT: tuple[Mapping[str, Any], ...] = ({"use_tf32": False}, {"use_tf32": False, "graphs": True})
"""Judged by `_MIN_COSINE`, in every batch size and two batches at a time."""

_SETTINGS: tuple[Mapping[str, Any], ...] = ({}, *({name: value} for name, value in ALTERNATIVES.items()))
"""Judged by the model's own bounds of parity, which say whether a catalog may hold such embeddings."""


def smoke(step: Step, models: Sequence[Model], provider: str, batches: Sequence[int]) -> None:
    """Check each model whose weights are real; by random ones all embeddings are alike, so that they prove nothing."""
    real = [each for each in map(_folder, models) if not each.model.weights.startswith("random")]
    if not real:
        step.skipped["smoke"] = "no model has real weights, and embeddings by random ones are all alike"
    for folder in real:
        images = parity_images(ImageDecoder.of_model(folder.model, _LIMIT, _LIMIT))
        with closing(OnnxSession(folder, "cpu", 0)) as session:
            expected = embed_in_batches(session, images, 4)
        for variant in _STRICT:
            check = partial(_check_strictly, folder, provider, variant, images, expected, batches)
            step.measure(f"smoke {folder.model.name} {json.dumps(variant)}, strict", _SECONDS, check)
        for variant in _SETTINGS:
            check = partial(_check_parity, folder, provider, variant, images, expected, min(max(batches), len(images)))
            step.measure(f"smoke {folder.model.name} {json.dumps(variant)}", _SECONDS, check)


def _check_strictly(
    folder: ModelFolder,
    provider: str,
    variant: Mapping[str, Any],
    images: Pixels,
    expected: Floats,
    batches: Sequence[int],
) -> list[Result]:
    """Run every batch size, two at once, and compare with the CPU."""
    bounds = folder.parity_bounds
    with _bound(folder, provider, variant, max(batches)) as bound, ThreadPoolExecutor(IN_FLIGHT) as threads:
        found = []
        for size in batches:
            # Each of the two in flight has another order of the images, so that one's rows in the other's would show.
            orders = [np.arange(size) % len(images), np.arange(size)[::-1] % len(images)]
            for order, vectors in zip(orders, threads.map(lambda order: bound.run(images[order]), orders), strict=True):
                found.append(measure_parity(expected[order], vectors, bounds))
        least = _MIN_COSINE.get(folder.model.precision, _MIN_COSINE["fp16"])
        met = min(each.min_cosine for each in found) >= least
        return [_result(folder, bound, variant, found, least, met, batches=list(batches), strict=True)]


def _check_parity(
    folder: ModelFolder, provider: str, variant: Mapping[str, Any], images: Pixels, expected: Floats, size: int
) -> list[Result]:
    """Run all images once and judge them as the server judges a runtime."""
    bounds = folder.parity_bounds
    with _bound(folder, provider, variant, size) as bound:
        found = measure_parity(expected, embed_in_batches(bound, images, size), bounds)
        return [_result(folder, bound, variant, [found], bounds.min_cosine, found.within_bounds, strict=False)]


@contextmanager
def _bound(folder: ModelFolder, provider: str, variant: Mapping[str, Any], rows: int) -> Iterator[BoundSession]:
    session = OnnxSession(folder, provider, 0, cuda=CudaOptions(**variant, max_batch_size=rows))
    with closing(session):
        bound = BoundSession(session, session.gpu() or HostDevice(), folder.model, rows=rows)
        with closing(bound):
            yield bound


def _result(
    folder: ModelFolder,
    bound: BoundSession,
    variant: Mapping[str, Any],
    found: Sequence[Parity],
    least: float,
    met: bool,
    **details: Any,
) -> Result:
    about = {
        "model": folder.model.name,
        "precision": folder.model.precision,
        "frontends": 0,
        "provider": bound.provider,
        "variant": dict(variant),
        "parity": [asdict(each) for each in found],
        "gpu_memory_mib": gpu_memory_mib(),
    }
    return Result(
        f"cosine with the CPU's embeddings, {json.dumps(dict(variant))}",
        "",
        Spread.of([each.min_cosine for each in found]),
        f">= {least}",
        met if bound.provider != "CPUExecutionProvider" else None,  # which it is compared with
        about | details,
    )


def _folder(model: Model) -> ModelFolder:
    return read_model_folder(model.folder)
