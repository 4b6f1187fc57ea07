"""What the doctor says about a machine: processor, packages, GPU, limits, clock."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lookalike_server.doctor.clock import check_clock, is_synchronized
from lookalike_server.doctor.finding import Finding, Status
from lookalike_server.doctor.gpu import check_gpu, check_search_device
from lookalike_server.doctor.limits import (
    LEAST_FILES,
    OWN_FILES,
    check_memory,
    check_open_files,
    check_threads,
    memory_limit,
    thread_limit,
)
from lookalike_server.doctor.packages import check_packages, installed_packages
from lookalike_server.doctor.processor import check_cores, check_processor
from lookalike_server.domain.inference import Metric, Model
from support.file_trees import write_tree
from support.store_fixtures import MODEL

MIB = 1 << 20
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def cpuinfo(flags: str) -> dict[str, str]:
    """Return the file of a processor with these flags."""
    return {"proc/cpuinfo": f"model name\t: Some CPU\nflags\t\t: fpu {flags}\n\n"}


@pytest.mark.parametrize(
    ("flags", "provider", "status"),
    [
        ("avx2", "auto", Status.OK),
        ("avx2", "openvino", Status.OK),
        ("sse4_2", "auto", Status.WARNING),
        ("sse4_2", "cpu", Status.WARNING),
        ("sse4_2", "openvino", Status.ERROR),
    ],
)
def test_processor(tmp_path: Path, flags: str, provider: str, status: Status) -> None:
    """Without AVX2 the model runs slowly, and not at all where OpenVINO has to run it."""
    finding = check_processor(provider, "faiss", write_tree(tmp_path, cpuinfo(flags)))
    assert finding.status is status
    assert finding.facts["avx2"] is (flags == "avx2")
    assert bool(finding.remedy) is (status is not Status.OK)


def test_processor_for_hnswlib(tmp_path: Path) -> None:
    """A library whose build needs AVX2 is named where the processor has none, and only where it is chosen."""
    write_tree(tmp_path, cpuinfo("sse4_2"))
    assert "--graph-library faiss" in check_processor("cpu", "hnswlib", tmp_path).remedy
    assert "--graph-library" not in check_processor("cpu", "faiss", tmp_path).remedy


@pytest.mark.parametrize(
    ("quota", "threads", "status"),
    [
        ("max 100000\n", 0, Status.OK),
        ("200000 100000\n", 1, Status.OK),
        ("50000 100000\n", 0, Status.WARNING),
        ("max 100000\n", 4096, Status.WARNING),
    ],
)
def test_cores(tmp_path: Path, quota: str, threads: int, status: Status) -> None:
    """Less than a core, and more threads of the model than cores, are warnings."""
    files = write_tree(tmp_path, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": quota})
    finding = check_cores(threads, files)
    assert finding.status is status
    assert finding.facts["quota"] == {"m": None, "2": 2.0, "5": 0.5}[quota[0]]


CPU, GPU, OPENVINO = {"onnxruntime": "1.0"}, {"onnxruntime-gpu": "1.0"}, {"openvino": "2.0"}


@pytest.mark.parametrize(
    ("provider", "packages", "status", "says"),
    [
        ("auto", CPU | OPENVINO, Status.OK, "onnxruntime 1.0, openvino 2.0"),
        ("cuda", GPU, Status.OK, "onnxruntime-gpu 1.0"),
        ("openvino", OPENVINO, Status.OK, "openvino 2.0"),
        ("auto", CPU | GPU, Status.ERROR, "pip uninstall onnxruntime onnxruntime-gpu"),
        ("auto", OPENVINO, Status.ERROR, "lookalike-server[cpu]"),
        ("auto", {}, Status.ERROR, "lookalike-server[cpu]"),
        ("cuda", {}, Status.ERROR, "lookalike-server[gpu]"),
        ("tensorrt", CPU, Status.ERROR, "lookalike-server[gpu]"),
        ("openvino", CPU, Status.ERROR, "pip install openvino"),
    ],
)
def test_packages(provider: str, packages: dict[str, str], status: Status, says: str) -> None:
    """One build of ONNX Runtime, and the one that the provider needs; two of them overwrite each other."""
    finding = check_packages(provider, packages)
    assert finding.status is status
    assert says in finding.line()


def test_packages_that_are_installed() -> None:
    """Of what this environment has, each package is found with its version."""
    assert check_packages("auto", installed_packages()).facts["onnxruntime"]


DRIVER = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23\n",
    "proc/driver/nvidia/gpus/0000:05:00.0/information": "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 1\n",
}


@pytest.mark.parametrize(
    ("provider", "packages", "files", "status", "says"),
    [
        ("auto", GPU, DRIVER, Status.OK, "NVIDIA H100 80GB HBM3, driver 580.95.05"),
        ("cuda", GPU, DRIVER, Status.OK, "driver 580.95.05"),
        ("cpu", CPU, DRIVER, Status.OK, "not used, because of --provider cpu"),
        ("auto", CPU, DRIVER, Status.WARNING, "is for CPUs"),
        ("auto", CPU, {}, Status.SKIPPED, "the CPU runs the model"),
        ("auto", GPU, {}, Status.WARNING, "runs the model on the CPU"),
        ("cuda", GPU, {}, Status.ERROR, "--gpus all"),
        ("cuda", GPU, {"proc/driver/nvidia/version": DRIVER["proc/driver/nvidia/version"]}, Status.ERROR, "no GPU"),
    ],
)
def test_gpu(
    tmp_path: Path, provider: str, packages: dict[str, str], files: dict[str, str], status: Status, says: str
) -> None:
    """A GPU that is needed must be there, and one that is there is used, or somebody said that it need not be."""
    finding = check_gpu(provider, packages, write_tree(tmp_path, files))
    assert finding.status is status
    assert says in finding.line()


@pytest.mark.parametrize(
    ("packages", "files", "status", "says"),
    [
        (GPU, DRIVER, Status.OK, "driver 580.95.05"),
        (GPU, {}, Status.ERROR, "--search-device gpu needs one"),
        (CPU, DRIVER, Status.ERROR, "--search-device gpu cannot use it"),
    ],
)
def test_gpu_that_searches(
    tmp_path: Path, packages: dict[str, str], files: dict[str, str], status: Status, says: str
) -> None:
    """A server that is to search on a GPU needs one, and the build that uses it."""
    finding = check_gpu("auto", packages, write_tree(tmp_path, files), search_device="gpu")
    assert finding.status is status
    assert says in finding.line()


COSINE = replace(MODEL, dim=2048, metric=Metric.COSINE)


@pytest.mark.parametrize(
    ("device", "model", "gpu_bytes", "status", "says"),
    [
        ("cpu", COSINE, None, Status.SKIPPED, "on the CPU"),
        ("gpu", None, 80 << 30, Status.SKIPPED, "cannot be read"),
        ("gpu", replace(COSINE, metric=Metric.EUCLIDEAN), 80 << 30, Status.WARNING, "the metric is euclidean"),
        ("gpu", COSINE, None, Status.WARNING, "whose memory is not known"),
        ("gpu", COSINE, 4 << 30, Status.WARNING, "searched by graphs"),
        ("gpu", COSINE, 80 << 30, Status.OK, "1,000,000 embeddings of 2,048 dimensions need 5,443 MiB of the GPU"),
    ],
)
def test_the_search_device(device: str, model: Model | None, gpu_bytes: int | None, status: Status, says: str) -> None:
    """A GPU that searches should have the memory for the catalog; what does not fit is searched on the CPU."""
    finding = check_search_device(device, 1_000_000, model, gpu_bytes)
    assert finding.status is status
    assert says in finding.line()


@pytest.mark.parametrize(
    ("soft", "hard", "status"),
    [
        (-1, -1, Status.OK),
        (100 + OWN_FILES, -1, Status.OK),
        (99 + OWN_FILES, 100_000, Status.WARNING),
        (LEAST_FILES, 100_000, Status.WARNING),
        (LEAST_FILES - 1, 100_000, Status.ERROR),
    ],
)
def test_open_files(soft: int, hard: int, status: Status) -> None:
    """Every connection needs an open file, and so does the server itself."""
    assert check_open_files(soft, hard, 100).status is status


def test_open_files_that_only_root_can_raise() -> None:
    """A hard limit below what is needed is named, and one above it is not."""
    assert "the hard limit is 300" in check_open_files(300, 300, 1000).remedy
    assert "hard limit" not in check_open_files(300, 4096, 1000).remedy


@pytest.mark.parametrize(
    ("limit", "status"),
    [(None, Status.OK), (900 * MIB, Status.OK), (899 * MIB, Status.WARNING), (299 * MIB, Status.ERROR)],
)
def test_memory(limit: int | None, status: Status) -> None:
    """Too little for an idle server is an error, too little for what the settings allow a warning."""
    assert check_memory(limit, needed=900 * MIB, least=300 * MIB).status is status


GROUPS = {
    "proc/meminfo": "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/memory.max": "536870912\n",
    "sys/fs/cgroup/a/b/memory.max": "max\n",
    "sys/fs/cgroup/a/b/pids.max": "100\n",
}
OLD_GROUPS = {
    "proc/self/cgroup": "5:cpu:/x\n4:memory:/x\n3:pids:/y\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1048576\n",
    "sys/fs/cgroup/pids/y/pids.max": "7\n",
}


def test_limits_of_control_groups(tmp_path: Path) -> None:
    """The lowest limit of the machine, the control group and those around it counts, of both versions."""
    new, old = write_tree(tmp_path / "new", GROUPS), write_tree(tmp_path / "old", OLD_GROUPS)
    bare = write_tree(tmp_path / "bare", {"proc/meminfo": GROUPS["proc/meminfo"]})
    assert [memory_limit(each) for each in (new, old, bare)] == [512 * MIB, MIB, 8_000_000 * 1024]
    assert [thread_limit(each, own=50_000) for each in (new, old, bare)] == [100, 7, 50_000]
    assert thread_limit(bare, own=-1) is None
    assert memory_limit(tmp_path / "none") is None


def test_threads() -> None:
    """Too few threads are an error, because a pool that cannot start one fails its calls."""
    assert check_threads(None, 40).status is Status.OK
    assert check_threads(40, 40).status is Status.OK
    assert check_threads(39, 40).status is Status.ERROR


def _clock(year: int, *, synchronized: bool | None, tokens: bool = True) -> Finding:
    return check_clock(NOW.replace(year=year), synchronized=synchronized, judges_tokens=tokens)


@pytest.mark.parametrize("year", [1970, 2024, 2100])
def test_a_clock_that_cannot_be_right(year: int) -> None:
    """A year before this software, or long after it, is an error, whatever NTP says."""
    assert _clock(year, synchronized=True).status is Status.ERROR


def test_a_clock_without_ntp() -> None:
    """A clock that nothing keeps right is a warning where tokens are judged by it; one that is kept right never is."""
    assert _clock(2026, synchronized=True).status is Status.OK
    assert _clock(2026, synchronized=None).status is Status.OK
    assert _clock(2026, synchronized=False).status is Status.WARNING
    assert _clock(2026, synchronized=False, tokens=False).status is Status.OK


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="Linux only")  # noqa: PTH110
def test_the_kernel_is_asked() -> None:
    """The kernel's answer about NTP is one of three, and asking changes nothing and needs no right."""
    assert is_synchronized() in (True, False, None)
