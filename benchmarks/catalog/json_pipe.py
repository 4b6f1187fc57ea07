"""Both ends of a process that does one task at a time: a JSON object a line in, a JSON object a line out.

A task that fails is answered with its reason, and a process that dies costs only its own results.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT

Task = Callable[..., Mapping[str, Any]]

_ENVIRONMENT = {
    "GRPC_VERBOSITY": "NONE",  # milvus-lite's server rejects its own client's pings, and gRPC logs each
}


class TaskError(Exception):
    """A task that was not done; the message says why."""


class Worker:
    """The benchmark's end of such a process, which runs `work`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._number = 0
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, task: str, /, **arguments: Any) -> None:
        """Begin a task; `end` waits for it."""
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        self._number += 1
        request = {"task": task, "number": self._number, "arguments": arguments}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise TaskError(f"its process ended with status {self._process.wait()}") from None

    def end(self, seconds: float) -> Any:
        """Return the answer to the task begun last.

        Raises:
            TaskError: It failed, took longer than `seconds`, or its process died.
        """
        limit = time.monotonic() + seconds
        while True:
            try:
                line = self._answers.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                raise TaskError(f"not done within {seconds:.0f} s") from None
            if line is None:
                raise TaskError(f"its process ended with status {self._process.wait()}")
            answer = json.loads(line)
            if answer.pop("number") != self._number:
                continue  # of a task that was given up
            if "failed" in answer:
                raise TaskError(answer["failed"])
            return answer

    def do(self, task: str, patience: float = 120.0, /, **arguments: Any) -> Any:
        """Do a task within `patience` seconds, and return its answer."""
        self.begin(task, **arguments)
        return self.end(patience)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)


@contextmanager
def worker(module: str, *arguments: str, python: Path | str = sys.executable) -> Iterator[Worker]:
    """Run a process that does the module's tasks, for as long as the block runs."""
    command: Sequence[str] = [str(python), "-m", module, *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | _ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Worker(process)
    finally:
        process.kill()  # it holds nothing that could be lost
        process.communicate()


def work(tasks: Mapping[str, Task]) -> None:
    """Do tasks until the input ends; what else is printed goes to stderr, not into the answers."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer = dict(tasks[request["task"]](**request["arguments"]))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the reason
            traceback.print_exc()
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            answer = {"failed": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer | {"number": request["number"]}).encode() + b"\n")
        answers.flush()
