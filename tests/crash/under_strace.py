"""The real server, whose calls fail from its start on: `under_strace.py STRACE... -- serve ...`.

Before `serve` there may be a script that changes the server, and its arguments. The server attaches strace to itself,
so that the process that a test starts and ends is the server.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

from lookalike_server.__main__ import main

if __name__ == "__main__":
    end = sys.argv.index("--")
    tracer = subprocess.Popen((*sys.argv[1:end], f"-p{os.getpid()}"), stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    line = tracer.stderr.readline().decode()
    assert "attached" in line, line
    sys.argv[1 : end + 1] = []
    if sys.argv[1] == "serve":
        main()
    else:
        runpy.run_path(sys.argv.pop(1), run_name="__main__")
