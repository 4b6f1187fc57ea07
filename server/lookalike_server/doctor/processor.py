"""The processor: its instruction sets, and how much of it this process may use."""

from __future__ import annotations

from pathlib import Path

from lookalike_server.doctor.finding import Finding, error, ok, warning
from lookalike_server.inference.processor import available_cores, cpu_quotas, has_avx2, processor

ROOT = Path("/")


def check_processor(provider: str, graph_library: str, files: Path = ROOT) -> Finding:
    """Check the instruction sets.

    Args:
        provider: The setting.
        graph_library: The setting.
        files: Where /proc is.
    """
    name = processor(files)
    if has_avx2(files):
        return ok("processor", name, processor=name, avx2=True)
    if provider == "openvino":
        return error(
            "processor",
            f"{name}: OpenVINO needs AVX2, which it lacks",
            "choose --provider cpu, or a machine with AVX2",
            processor=name,
            avx2=False,
        )
    also = " and hnswlib may end the process" if graph_library == "hnswlib" else ""
    return warning(
        "processor",
        f"{name}: it has no AVX2, so the model runs slowly, without OpenVINO{also}",
        "choose a machine with AVX2" + (", or --graph-library faiss" if also else ""),
        processor=name,
        avx2=False,
    )


def check_cores(intra_op_threads: int, files: Path = ROOT) -> Finding:
    """Check how many cores there are, and whether a control group's quota takes some of the time away.

    Args:
        intra_op_threads: The setting.
        files: Where /proc and /sys are.
    """
    cores = available_cores(files)
    quota = min(cpu_quotas(files), default=None)
    facts = {"cores": cores, "quota": quota}
    if quota is not None and quota < 1:
        return warning(
            "cores",
            f"the control group allows {quota:g} of a core, so every call waits for its next period",
            "give the container at least one whole core",
            **facts,
        )
    if intra_op_threads > cores:
        return warning(
            "cores",
            f"{intra_op_threads} threads run the model on {cores} cores",
            f"set --intra-op-threads to {cores} at most, or leave it out",
            **facts,
        )
    limited = f", limited to {quota:g} by the control group" if quota is not None else ""
    return ok("cores", f"{cores} cores may be used{limited}", **facts)
