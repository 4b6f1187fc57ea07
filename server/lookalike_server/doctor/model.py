"""The model folder, and what will run it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from lookalike_server.config import Settings
from lookalike_server.doctor.finding import Fact, Finding, error, ok, skipped, warning
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.protocols import Session
from lookalike_server.engine.model_loading import load_model
from lookalike_server.inference.autotune_cache import FILE as AUTOTUNE_FILE
from lookalike_server.inference.gpu_problems import gpu_problem
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import import_onnxruntime
from lookalike_server.inference.openvino_session import OpenVinoModel, import_openvino
from lookalike_server.inference.processor import has_avx2
from lookalike_server.inference.providers import ON_GPU, PROVIDERS, unavailable_reason

_ON_CPU = "until then --provider auto runs the model on the CPU"


def check_model(path: Path) -> tuple[Finding, ModelFolder | None]:
    """Check the model folder: model.json, and the sha256 of the graph; returns it where it is good."""
    try:
        folder = read_model_folder(path)
    except LookalikeError as problem:
        return error("model", problem.message), None
    model = folder.model
    facts: dict[str, Fact] = {
        "name": model.name,
        "digest": model.digest,
        "dim": model.dim,
        "precision": model.precision,
    }
    if model.weights.startswith("random"):
        return (
            warning("model", f"{model.name} has random weights: its results mean nothing", "export real ones", **facts),
            folder,
        )
    named = f"{model.name} ({model.digest[:12]}), {model.dim} dimensions, {model.precision}; its graph has this digest"
    return ok("model", named, **facts), folder


def check_provider(provider: str, last_choice: str | None) -> tuple[Finding, str | None]:
    """Find out which provider will run the model; returns its name in the settings, None where none can.

    Args:
        provider: The setting.
        last_choice: What the last start chose for itself, of `last_choice`.
    """
    if provider == "openvino":
        why_not = _openvino_reason()
        if why_not:
            return error("provider", why_not, "pip install 'lookalike-server[cpu]', or --provider cpu"), None
        return ok("provider", "OpenVINO runs the model", provider=provider), provider
    try:
        ort = import_onnxruntime()
    except LookalikeError as problem:
        return error("provider", problem.message), None
    skipped_ones = []
    for name in PROVIDERS if provider == "auto" else (provider,):
        why_not = unavailable_reason(ort, name)
        if why_not is None:
            break
        skipped_ones.append(why_not)
    else:
        return error("provider", f"nothing can run the model: {'; '.join(skipped_ones)}"), None
    facts: dict[str, Fact] = {"provider": name, "onnxruntime": str(ort.__version__)}
    unusable = [why_not for why_not in skipped_ones if (found := gpu_problem(why_not)) and found.has_gpu]
    if unusable and name not in ON_GPU:
        return warning("provider", "; ".join(unusable), _ON_CPU, **facts), name
    if provider != "auto" or name in ON_GPU:
        return ok("provider", f"{PROVIDERS[name]} of ONNX Runtime {ort.__version__} runs the model", **facts), name
    why_not = _openvino_reason()
    if why_not:
        return ok("provider", f"ONNX Runtime {ort.__version__} runs the model on the CPU ({why_not})", **facts), name
    chosen = f" ({last_choice} at the last start)" if last_choice else ""
    text = f"on the CPU, ONNX Runtime {ort.__version__} or OpenVINO, whichever a start measures to be faster{chosen}"
    return ok("provider", text, **facts, last_choice=last_choice), name


def last_choice(data_dir: Path) -> str | None:
    """Return what the last start with this catalog chose to run the model; None where that is not known."""
    try:
        found = json.loads((data_dir / AUTOTUNE_FILE).read_bytes())["provider"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)[:64]


def check_model_run(folder: ModelFolder | None, provider: str | None, settings: Settings) -> Finding:
    """Load the model and run it once, on a black image.

    Args:
        folder: The model; None where it cannot be used.
        provider: What runs it, of `check_provider`.
        settings: How it runs.
    """
    if folder is None or provider is None:
        return skipped("model_run", "there is no model, or nothing to run it; see above")
    if provider == "tensorrt":
        return skipped("model_run", "TensorRT builds its engine for minutes, which the first start does")
    try:
        if provider == "openvino":
            openvino = OpenVinoModel(folder, settings.inference_precision)
            session: Session = openvino.session(1, 1, 1)
            openvino.close()
        else:
            # One image needs no room for a batch, and no recorded graph.
            session = load_model(
                folder,
                settings.model_copy(update={"provider": provider, "max_batch_size": 1, "cuda_graphs": False}),
            )
    except LookalikeError as problem:
        if settings.provider == "auto" and gpu_problem(problem.message):
            return warning("model_run", problem.message, _ON_CPU)
        return error("model_run", problem.message)
    try:
        image = np.zeros((1, folder.model.height, folder.model.width, 3), dtype=np.uint8)
        session.run(image)  # the first run also allocates
        began = time.perf_counter()
        embedding = session.run(image)
        seconds = time.perf_counter() - began
        ran = f"{session.library} ({session.provider}, {session.precision})"
    except Exception as problem:  # noqa: BLE001 - the runtimes' exceptions share no base
        return error("model_run", f"a run fails: {problem}", "export the model again, or choose another --provider")
    finally:
        session.close()
    if embedding.shape != (1, folder.model.dim) or not np.isfinite(embedding).all():
        return error("model_run", f"{ran} returns no valid embedding", "choose another --provider")
    milliseconds = round(1e3 * seconds, 3)
    return ok("model_run", f"{ran}: one image in {milliseconds} ms", library=session.library, milliseconds=milliseconds)


def _openvino_reason() -> str | None:
    """Say why OpenVINO cannot run a model; None where it can."""
    if not has_avx2():
        return "OpenVINO needs AVX2, which this processor lacks"
    try:
        import_openvino()
    except LookalikeError as problem:
        return problem.message
    return None
