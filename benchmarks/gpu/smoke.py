"""The smoke test: a model computes on the GPU what it computes on the CPU, in every batch size and setting."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.environment import Model
from benchmarks.gpu.machine import gpu_memory_mib
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Result
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.inference.device import HostDevice
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.io_binding import IN_FLIGHT, BoundSession
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.parity import embed_in_batches, measure_parity, parity_images
from lookalike_server.inference.providers import CudaOptions

if TYPE_CHECKING:
    from benchmarks.gpu.steps import Step

_SECONDS = 1.0  # below which no model is begun
_LIMIT = 1 << 20  # bytes and pixels of the images that are compared
_MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999}
"""Least cosine with the CPU's embeddings, by precision; with TF32 off, rounding of sums alone differs in fp32."""


def smoke(step: Step, models: Sequence[Model], provider: str, batches: Sequence[int]) -> None:
    """Check each model whose weights are real; by random ones all embeddings are alike, so that they prove nothing."""
    real = [each for each in map(_folder, models) if not each.model.weights.startswith("random")]
    if not real:
        step.skipped["smoke"] = "no model has real weights, and embeddings by random ones are all alike"
    for folder in real:
        images = parity_images(ImageDecoder.of_model(folder.model, _LIMIT, _LIMIT))
        with closing(OnnxSession(folder, "cpu", 0)) as session:
            expected = embed_in_batches(session, images, 4)
        for graphs in (False, True) if provider == "cuda" else (False,):
            name = f"{folder.model.name}{', CUDA graphs' if graphs else ''}"
            options = CudaOptions(graphs=graphs, use_tf32=False, max_batch_size=max(batches))
            check = partial(_check, folder, provider, options, images, expected, batches)
            step.measure(f"smoke {name}", _SECONDS, check)


def _check(
    folder: ModelFolder, provider: str, options: CudaOptions, images: Pixels, expected: Floats, batches: Sequence[int]
) -> list[Result]:
    """Run every batch size, two at once, and compare with the CPU."""
    session = OnnxSession(folder, provider, 0, cuda=options)
    with (
        closing(session),
        closing(BoundSession(session, session.gpu() or HostDevice(), folder.model, rows=max(batches))) as bound,
        ThreadPoolExecutor(IN_FLIGHT) as threads,
    ):
        cosines = []
        for size in batches:
            # Each of the two in flight has another order of the images, so that one's rows in the other's would show.
            orders = [np.arange(size) % len(images), np.arange(size)[::-1] % len(images)]
            for order, found in zip(orders, threads.map(lambda order: bound.run(images[order]), orders), strict=True):
                cosines.append(measure_parity(expected[order], found, folder.parity_bounds).min_cosine)
        about = {
            "model": folder.model.name,
            "frontends": 0,
            "provider": session.provider,
            "cuda_graphs": options.graphs,
            "batches": list(batches),
            "cosines": cosines,
            "gpu_memory_mib": gpu_memory_mib(),
        }
    least = _MIN_COSINE.get(folder.model.precision, _MIN_COSINE["fp16"])
    met = min(cosines) >= least if provider != "cpu" else None  # which it is compared with
    return [Result("cosine with the CPU's embeddings", "", Spread.of(cosines), f">= {least}", met, about)]


def _folder(model: Model) -> ModelFolder:
    return read_model_folder(model.folder)
