"""How much of which processor the model may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lookalike_server.inference.processor import available_cores, has_avx2, processor

CORES = len(os.sched_getaffinity(0))
CPUINFO = """processor\t: 0
model name\t: Some CPU
flags\t\t: fpu sse2 {flags}

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu
"""


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files under a folder that stands for the root of the file system."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, CORES),
        ({"proc/self/cgroup": "0::/\n"}, CORES),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, CORES),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/on/the/host\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99900000 100000\n"}, CORES),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "no number\n"}, CORES),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
            },
            CORES,
        ),
    ],
)
def test_quotas_count(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    """A control group's quota limits the cores, of our group or of one around it, rounded up to whole ones."""
    assert available_cores(write(tmp_path, files)) == cores


def test_instruction_sets_are_named(tmp_path: Path) -> None:
    """The name has the instruction sets that make one runtime faster than another, and no other flag."""
    write(tmp_path, {"proc/cpuinfo": CPUINFO.format(flags="avx2 avx512_bf16 amx_bf16 aes")})
    assert processor(tmp_path) == "Some CPU avx2 avx512_bf16 amx_bf16"
    assert has_avx2(tmp_path)


def test_without_avx2(tmp_path: Path) -> None:
    """A processor whose flags lack AVX2 has none; one whose flags are not known may have it."""
    assert has_avx2(tmp_path)
    assert processor(tmp_path)
    write(tmp_path, {"proc/cpuinfo": CPUINFO.format(flags="sse4_2")})
    assert not has_avx2(tmp_path)
