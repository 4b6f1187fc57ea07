"""`python -m benchmarks.gpu --models DIR --out DIR`: measures the server on a GPU; see docs/gpu.md.

Only the standard library is imported here: wheels that are given are installed first, and the rest runs with them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.libraries import environment_with

_INSTALLED = "BENCH_GPU_INSTALLED"


def main() -> None:
    """Read the command line, install the wheels, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="a folder of model folders; each is measured")
    parser.add_argument("--out", type=Path, required=True, help="where gpu.json goes")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to install first, into a folder of their own")
    parser.add_argument("--provider", choices=("cuda", "tensorrt", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each result")
    parser.add_argument(
        "--budget", type=float, default=420.0, help="seconds in all; what does not fit is listed as skipped"
    )
    parser.add_argument(
        "--frontend-processes",
        default="",
        help="values of the server's --frontend-processes to try, such as 4,8; by default 2, 4 and 8",
    )
    parser.add_argument("--batches", default="", help="batch sizes to try, such as 1,8,32")
    parser.add_argument("--rows", type=int, default=4_000, help="products in each of the catalog's five categories")
    parser.add_argument("--search-rows", type=int, default=1_000_000, help="vectors of the exact search on the GPU")
    parser.add_argument("--search-dim", type=int, default=2_048, help="their dimensions")
    parser.add_argument("--generators", type=int, default=0, help="load processes; 0 means one for every four cores")
    parser.add_argument("--commit", default="", help="what is measured, where there is no git to ask")
    parser.add_argument("--runtime", type=Path, help="a folder with ONNX Runtime unpacked, to use with the wheels")
    parser.add_argument("--steps", default="smoke,bare,serve,frontends,search", help="which steps to run")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # a process of one step
    options = parser.parse_args()
    if options.wheels is not None and _INSTALLED not in os.environ:
        with tempfile.TemporaryDirectory(prefix="lookalike-gpu-") as site:
            environment = environment_with(options.wheels, options.runtime, Path(site)) | {_INSTALLED: site}
            again = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:]]
            done = subprocess.run(again, env=environment, check=False).returncode
        sys.exit(done)
    if options.step:
        from benchmarks.gpu.steps import run_step

        step = options.step
        run_step(step, options)
    else:
        from benchmarks.gpu.run import measure

        del options.step, options.wheels, options.runtime  # which a step has from its environment
        measure(options)


if __name__ == "__main__":
    main()
