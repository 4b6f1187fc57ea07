"""The GPU and its driver, as the driver says under /proc; no library is loaded for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lookalike_server.doctor import sizing
from lookalike_server.doctor.finding import Finding, error, ok, skipped, warning
from lookalike_server.doctor.processor import ROOT
from lookalike_server.domain.inference import Metric, Model
from lookalike_server.inference.providers import ON_GPU

_DRIVER = "proc/driver/nvidia"


def check_gpu(provider: str, packages: Mapping[str, str], files: Path = ROOT, search_device: str = "cpu") -> Finding:
    """Check that there is a GPU where one is wanted, and that one that is there is used.

    Args:
        provider: The setting.
        packages: Versions by name, of `installed_packages`.
        files: Where /proc is.
        search_device: The setting.
    """
    needs_gpu = f"--provider {provider}" if provider in ON_GPU else ""
    if search_device == "gpu":
        needs_gpu = "--search-device gpu"
    driver = driver_version(files)
    gpus = gpu_names(files)
    has_build = "onnxruntime-gpu" in packages
    facts = {"driver": driver, "gpus": len(gpus)}
    if driver is None or not gpus:
        missing = "there is no driver of NVIDIA's" if driver is None else f"driver {driver} has no GPU"
        if needs_gpu:
            return error(
                "gpu",
                f"{missing}, and {needs_gpu} needs one",
                "install the driver; in a container, give it the GPU (--gpus all, or the device plugin of Kubernetes)",
                **facts,
            )
        if has_build and provider == "auto":
            return warning(
                "gpu",
                f"{missing}, so the build for GPUs runs the model on the CPU",
                "give this machine its GPU, or pip uninstall onnxruntime-gpu and pip install 'lookalike-server[cpu]'",
                **facts,
            )
        return skipped("gpu", f"{missing}; the CPU runs the model")
    named = f"{', '.join(gpus)}, driver {driver}"
    if search_device == "gpu" and not has_build:
        return error(
            "gpu",
            f"{named}: --search-device gpu cannot use it, because the installed build of ONNX Runtime is for CPUs",
            "pip uninstall onnxruntime, then pip install 'lookalike-server[gpu]'; or set --search-device cpu",
            **facts,
        )
    if provider == "auto" and not has_build:
        return warning(
            "gpu",
            f"{named}: it is not used, because the installed build of ONNX Runtime is for CPUs",
            "pip uninstall onnxruntime, then pip install 'lookalike-server[gpu]'; or set --provider cpu",
            **facts,
        )
    unused = "" if provider in ON_GPU or provider == "auto" else f"; not used, because of --provider {provider}"
    return ok("gpu", named + unused, **facts)


def check_search_device(device: str, rows: int, model: Model | None, gpu_bytes: int | None) -> Finding:
    """Check that the GPU has the memory for the rows where it is to search them.

    Args:
        device: The setting `search_device`.
        rows: Embeddings in the catalog.
        model: What will be served; None where that cannot be read.
        gpu_bytes: Memory of the first GPU; None where that is not known.
    """
    if device == "cpu":
        return skipped("search_device", "searches run on the CPU")
    if model is None:
        return skipped("search_device", "the model cannot be read, so the length of its embeddings is not known")
    if model.metric is not Metric.COSINE:
        return warning(
            "search_device",
            f"the metric is {model.metric.value}, so that searches run on the CPU",
            "set --search-device cpu, or serve a model whose metric is cosine",
        )
    needed = sizing.device_bytes(rows, model.dim)
    facts = {"needed_bytes": needed, "gpu_bytes": gpu_bytes}
    says = f"{rows:,} embeddings of {model.dim:,} dimensions need {needed // sizing.MIB:,} MiB of the GPU"
    if gpu_bytes is None:
        return warning(
            "search_device",
            f"{says}, whose memory is not known",
            "pip install 'lookalike-server[gpu]', and see the check gpu",
            **facts,
        )
    says = f"{says}, which has {gpu_bytes // sizing.MIB:,} MiB"
    if gpu_bytes < needed:
        return warning(
            "search_device",
            f"{says}: what does not fit is searched by graphs on the CPU",
            "use a GPU with more memory, or a model with fewer dimensions; docs/sizing.md has the formula",
            **facts,
        )
    return ok("search_device", f"{says} for that and the model", **facts)


def driver_version(files: Path = ROOT) -> str | None:
    """Return the version of NVIDIA's kernel module; None where there is none."""
    try:
        text = (files / _DRIVER / "version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?(\d+(?:\.\d+)+)", text)
    return found[1] if found else "unknown"


def gpu_names(files: Path = ROOT) -> list[str]:
    """Return the models of the GPUs that the driver has."""
    names = []
    for path in sorted((files / _DRIVER / "gpus").glob("*/information")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
        names.append(found[1].strip() if found else "an unknown GPU")
    return names
