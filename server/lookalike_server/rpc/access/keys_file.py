"""The file of keys: JSON, written by `lookalike-server keys`, for the server's user only."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.access.api_keys import ApiKey, KeyTable
from lookalike_server.rpc.access.identity import ROLES, Identity, Role, is_name

_FORMAT = 1
_ADD = "lookalike-server keys add NAME --role reader --auth-keys-file"

_FIELDS = frozenset(("id", "name", "role", "categories", "created", "salt", "sha256", "certificate"))


def read_keys(path: Path) -> KeyTable:
    """Read a file of keys, which may have none.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it cannot be read, others may read it, or it is not such a file. The
            message quotes nothing that could be a secret.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            # One who does not own the file can be given it through its group alone, as PostgreSQL's keys are.
            if mode & (0o077 if status.st_uid == os.geteuid() else 0o037):
                raise _wrong(f"{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`")
            data = file.read()
    except OSError as error:
        raise _wrong(f"cannot read the keys: {error}; `{_ADD} {path}` makes the file") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _wrong(f"{path} is not text; `{_ADD} {path}` makes a file of keys") from None
    if _has_plain_tokens(text):
        raise _wrong(
            f"{path} has `reader TOKEN` lines, plain tokens, which the server takes no longer: delete it, and make new"
            f" keys by `{_ADD} {path}`"
        )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(f"{path} is not JSON, or only half of it; `{_ADD} {path}` makes a file of keys") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT or not isinstance(content.get("keys"), list):
        raise _wrong(f"{path} is no file of keys of format {_FORMAT}; `{_ADD} {path}` makes one")
    entries = [_entry(each, f"{path}: keys[{position}]") for position, each in enumerate(content["keys"])]
    for what, values in (
        ("id", [entry.id for entry in entries]),
        ("certificate", [entry.certificate for entry in entries if entry.certificate]),
    ):
        if len(set(values)) < len(values):
            raise _wrong(f"{path} has the same {what} twice; remove one of the entries")
    return KeyTable(entries)


@contextmanager
def changing(path: Path) -> Iterator[list[ApiKey]]:
    """Read the keys for a change (a missing file has none), and write them in one step when the block ends.

    Commands that run at once wait for each other. A file keeps its owner and mode; a new one is its writer's alone.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it cannot be read or written.
    """
    path = path.resolve()  # a symbolic link stays one
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _wrong(f"cannot write the keys: {error}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        entries = list(read_keys(path).entries) if path.exists() else []
        yield entries
        try:
            _write(path, entries)
            os.fsync(folder)
        except OSError as error:
            raise _wrong(f"cannot write the keys: {error}") from None
    finally:
        os.close(folder)


def _write(path: Path, entries: Sequence[ApiKey]) -> None:
    content = {"format": _FORMAT, "keys": [_object(entry) for entry in entries]}
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                before = path.stat()
                # Else root's command would take the file from the server's user.
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _object(entry: ApiKey) -> dict[str, object]:
    identity = entry.identity
    known: dict[str, object] = {"id": entry.id, "name": identity.name, "role": identity.role.label}
    if identity.categories is not None:
        known["categories"] = sorted(identity.categories)
    known["created"] = entry.created
    if entry.certificate:
        return known | {"certificate": entry.certificate}
    return known | {"salt": entry.salt.hex(), "sha256": entry.sha256.hex()}


def _entry(value: Any, where: str) -> ApiKey:
    if not isinstance(value, dict):
        raise _wrong(f"{where} must be an object")
    for name in value:
        if name not in _FIELDS:
            raise _wrong(f"{where} has a field that is not known; there are {', '.join(sorted(_FIELDS))}")
    key_id = value.get("id")
    if not isinstance(key_id, str) or not key_id.isalnum():
        raise _wrong(f"{where}.id must be letters and digits")
    if not is_name(value.get("name")):
        raise _wrong(f"{where}.name must be printable text of 1 to 128 characters")
    role = Role.named(value.get("role"))
    if role is None:
        raise _wrong(f"{where}.role must be one of {ROLES}")
    identity = Identity(value["name"], role, _categories(value, where))
    created = str(value.get("created", ""))
    certificate = value.get("certificate")
    if certificate is not None:
        if not isinstance(certificate, str) or not certificate or "salt" in value or "sha256" in value:
            raise _wrong(f"{where}.certificate must be a name, without salt and sha256")
        return ApiKey(key_id, identity, created, certificate=certificate)
    salt, digest = _bytes(value, "salt", where), _bytes(value, "sha256", where)
    if len(digest) != 32 or not salt:
        raise _wrong(f"{where}.sha256 must have 64 hexadecimal digits, and salt some")
    return ApiKey(key_id, identity, created, salt, digest)


def _categories(value: dict[str, Any], where: str) -> frozenset[str] | None:
    if "categories" not in value:
        return None
    categories = value["categories"]
    if (
        not isinstance(categories, list)
        or not categories
        or not all(isinstance(each, str) and each for each in categories)
    ):
        raise _wrong(f"{where}.categories must be a list of names; leave it out for all categories")
    return frozenset(categories)


def _bytes(value: dict[str, Any], name: str, where: str) -> bytes:
    try:
        return bytes.fromhex(value[name])
    except (KeyError, TypeError, ValueError):
        raise _wrong(f"{where}.{name} must be hexadecimal digits") from None


def _has_plain_tokens(text: str) -> bool:
    """Whether this is a file of before: its first line that is no comment begins with a role."""
    for line in text.splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            return words[0] in ("reader", "writer")
    return False


def _wrong(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)
