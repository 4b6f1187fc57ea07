"""The audit log's file: lines, sizes, and files that others move."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import AuditLogFailed
from lookalike_server.rpc.audit_log import AuditLog
from support.fakes import RecordingObserver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the log."""
    return tmp_path / "audit.jsonl"


def numbers(path: Path) -> list[int]:
    """Return what is in all files, the oldest first."""
    files = sorted(path.parent.glob("audit.jsonl*"), key=lambda each: int(each.suffix[1:]) if each != path else 0)
    return [json.loads(line)["n"] for each in reversed(files) for line in each.read_text(encoding="utf-8").splitlines()]


def test_files_of_bounded_size(path: Path) -> None:
    """No file is larger than the bound, no line is split, and of the oldest lines as many are gone as files are."""
    log = AuditLog(path, 1024, 3, RecordingObserver())
    for number in range(1000):
        log.write({"n": number})
    log.close()
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all((path.parent / name).stat().st_size <= 1024 for name in files)
    kept = numbers(path)
    assert kept == list(range(1000 - len(kept), 1000))
    assert len(kept) > 2 * 1024 // 12
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_file(path: Path) -> None:
    """With one file only, a full one is deleted; a line above the bound is written nevertheless."""
    log = AuditLog(path, 1024, 1, RecordingObserver())
    for number in range(200):
        log.write({"n": number})
    log.write({"n": 200, "long": "x" * 5000})
    log.close()
    assert numbers(path) == [200]
    assert [each.name for each in path.parent.iterdir()] == ["audit.jsonl"]


def test_a_new_start_appends(path: Path) -> None:
    """Lines of an earlier run stay, and a write after the end of the server is not lost."""
    for number in range(2):
        earlier = AuditLog(path, 1024, 2, RecordingObserver())
        earlier.write({"n": number})
        earlier.close()
    log = AuditLog(path, 1024, 2, RecordingObserver())
    log.write({"n": 2})
    log.close()
    log.write({"n": 3})
    log.close()
    assert numbers(path) == [0, 1, 2, 3]


def test_a_moved_file(path: Path) -> None:
    """After others have moved or deleted the file, lines go to a new one of its name."""
    log = AuditLog(path, 1024, 2, RecordingObserver())
    log.write({"n": 0})
    path.rename(path.parent / "elsewhere")
    log.write({"n": 1})
    assert numbers(path) == [1]
    path.unlink()
    log.write({"n": 2})
    log.close()
    assert numbers(path) == [2]


def test_writers_at_once(path: Path) -> None:
    """Several writers of one file, each with its own handle as processes have, lose no line when it is rotated."""
    logs = [AuditLog(path, 2048, 1000, RecordingObserver()) for _ in range(4)]

    def write(writer: int) -> None:
        for number in range(500):
            logs[writer].write({"n": writer * 500 + number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for log in logs:
        log.close()
    assert sorted(numbers(path)) == list(range(2000))
    assert len(list(path.parent.iterdir())) > 5


def test_a_file_that_cannot_be_written(path: Path) -> None:
    """It is an error at the start, and later one that is reported and fails nothing."""
    with pytest.raises(LookalikeError, match="cannot write the audit log"):
        AuditLog(path / "x", 1024, 2, RecordingObserver())
    observer = RecordingObserver()
    folder = path.parent / "folder"
    folder.mkdir()
    log = AuditLog(folder / "audit.jsonl", 1024, 2, observer)
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    log.write({"n": 1})
    (failed,) = observer.of(AuditLogFailed)
    assert failed.file == str(folder / "audit.jsonl")
    folder.mkdir()
    log.write({"n": 2})
    log.close()
    assert numbers(folder / "audit.jsonl") == [2]
