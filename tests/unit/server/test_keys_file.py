"""The file of keys, and the commands that write it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lookalike_server.__main__ import main
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import CredentialsFileRejected, CredentialsFileReloaded
from lookalike_server.rpc.access.identity import Identity, Role
from lookalike_server.rpc.access.keys_file import read_keys
from lookalike_server.rpc.access.watched_file import CHECK_SECONDS, WatchedFile
from support.credentials import add_key, revoke_key
from support.fakes import RecordingObserver

TOKEN = r"lk_[0-9a-f]{12}_[0-9a-f]{64}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file of keys."""
    return tmp_path / "keys"


def keys(path: Path, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["keys", *arguments, "--auth-keys-file", str(path)])


def rejection(path: Path) -> str:
    """Return why this file cannot be used."""
    with pytest.raises(LookalikeError) as caught:
        read_keys(path)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def test_a_key_is_printed_once(path: Path) -> None:
    """`add` prints the key alone; neither the file, which only its owner can read, nor `list` has the secret."""
    added = keys(path, "add", "shop", "--role", "writer", "--category", "Men", "--category", "Women")
    assert added.exit_code == 0
    token = added.stdout.strip()
    assert re.fullmatch(TOKEN, token)
    assert token not in added.stderr
    secret = token.split("_")[2]
    assert secret not in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o600
    listed = keys(path, "list").stdout
    assert secret not in listed
    assert re.search(rf"{token.split('_')[1]} +writer +shop +\S+ +Men, Women\n", listed)
    assert read_keys(path).find(token) == Identity("shop", Role.WRITER, frozenset(("Men", "Women")))
    assert keys(path, "add", "shop", "--role", "writer").stdout.strip() != token


def test_revoke(path: Path) -> None:
    """A key is revoked by its id, or by its name where that has one key; others keep working."""
    first, second, other = add_key(path, name="shop"), add_key(path, name="shop"), add_key(path, name="web")
    ambiguous = keys(path, "revoke", "shop")
    assert ambiguous.exit_code == 1
    assert f"{first.split('_')[1]}, {second.split('_')[1]}" in ambiguous.stderr
    assert keys(path, "revoke", first.split("_")[1]).exit_code == 0
    assert keys(path, "revoke", "web").exit_code == 0
    table = read_keys(path)
    assert [table.find(token) for token in (first, other)] == [None, None]
    assert table.find(second)
    missing = keys(path, "revoke", "web")
    assert (missing.exit_code, "has no key 'web'" in missing.stderr) == (1, True)


def test_certificates(path: Path) -> None:
    """The name of a client certificate is added without a secret, once, and listed."""
    arguments = ("add", "web", "--role", "reader", "--certificate", "spiffe://shop/web")
    added = keys(path, *arguments)
    assert (added.exit_code, added.stdout) == (0, "")
    assert read_keys(path).find_certificate(["x", "spiffe://shop/web"]) == Identity("web", Role.READER)
    assert "spiffe://shop/web" in keys(path, "list").stdout
    assert keys(path, *arguments).exit_code == 1


@pytest.mark.parametrize(
    "arguments", [("", "--role", "reader"), (" a", "--role", "reader"), ("a",), ("a", "--role", "owner")]
)
def test_wrong_arguments_write_nothing(path: Path, arguments: tuple[str, ...]) -> None:
    """A name that is not printable text, and a role that does not exist, are usage errors."""
    assert keys(path, "add", *arguments).exit_code == 2
    assert not path.exists()


def test_a_file_that_others_can_read(path: Path) -> None:
    """It is rejected with the command that closes it, whoever of the others it is; `add` rejects it too."""
    add_key(path)
    for mode in (0o644, 0o640, 0o604, 0o660):
        path.chmod(mode)
        assert rejection(path) == f"{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`"
        assert "chmod 600" in keys(path, "add", "x", "--role", "reader").stderr
    path.chmod(0o400)
    assert read_keys(path).entries


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users")
def test_a_file_of_another_user_is_read_through_its_group(path: Path) -> None:
    """The group may read what the server does not own, never write it, nor may others; a change leaves it so."""
    add_key(path)
    os.chown(path, 4711, 4711)
    for mode in (0o644, 0o660, 0o444):
        path.chmod(mode)
        assert "is open to other users" in rejection(path)
    path.chmod(0o640)
    assert read_keys(path).entries
    assert keys(path, "add", "x", "--role", "reader").exit_code == 0
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (4711, 4711, 0o640)


def entry(**changed: Any) -> dict[str, Any]:
    """Make an entry with these fields changed; None leaves one out."""
    usual = {"id": "a1", "name": "shop", "role": "reader", "salt": "00", "sha256": "ab" * 32} | changed
    return {name: value for name, value in usual.items() if value is not None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reader s3cret shop\n", "plain tokens"),
        ("# who\n\nwriter s3cret\n", "plain tokens"),
        ("", "not JSON, or only half of it"),
        ('{"format": 1, "keys": [', "not JSON, or only half of it"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no file of keys"),
        ('{"format": 2, "keys": []}', "no file of keys"),
        ([3], "keys[0] must be an object"),
        ([entry(), entry(id="a2", secret="s3cret")], "keys[1] has a field"),
        ([entry(id="")], "keys[0].id"),
        ([entry(name="a\nb")], "keys[0].name"),
        ([entry(role="owner")], "keys[0].role must be one of reader, writer, admin"),
        ([entry(role=["reader"])], "keys[0].role"),
        ([entry(categories=[])], "keys[0].categories"),
        ([entry(categories="Men")], "keys[0].categories"),
        ([entry(salt="s3cret")], "keys[0].salt"),
        ([entry(sha256="ab")], "keys[0].sha256"),
        ([entry(sha256=None)], "keys[0].sha256"),
        ([entry(certificate="x")], "keys[0].certificate"),
        ([entry(), entry()], "the same id twice"),
    ],
)
def test_a_file_that_cannot_be_used(path: Path, text: str | list[Any], expected: str) -> None:
    """It is an error that says where and what is wrong, and quotes nothing that could be a secret."""
    content = text if isinstance(text, str) else json.dumps({"format": 1, "keys": text})
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    message = rejection(path)
    assert expected in message
    assert str(path) in message
    assert "s3cret" not in message
    assert path.read_text(encoding="utf-8") == content  # and no command overwrites it
    assert keys(path, "add", "x", "--role", "reader").exit_code == 1
    assert path.read_text(encoding="utf-8") == content


def test_unreadable(path: Path) -> None:
    """A file that is missing, is a folder or is not text is an error, and a missing one says what makes it."""
    assert f"`lookalike-server keys add NAME --role reader --auth-keys-file {path}`" in rejection(path)
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    assert "is not text" in rejection(path)
    path.parent.chmod(0o700)
    assert "cannot read the keys" in rejection(path.parent)
    assert "cannot write the keys" in keys(path / "x" / "y", "add", "a", "--role", "reader").stderr


@pytest.mark.slow
def test_commands_at_once_lose_no_key(path: Path) -> None:
    """Processes that add keys at the same time wait for each other."""
    command = (sys.executable, "-m", "lookalike_server", "keys", "add", "shop", "--role", "reader")

    def add(_: int) -> str:
        return subprocess.run(
            [*command, "--auth-keys-file", str(path)], check=True, capture_output=True, text=True
        ).stdout.strip()

    with ThreadPoolExecutor(4) as pool:
        tokens = list(pool.map(add, range(8)))
    table = read_keys(path)
    assert all(table.find(token) for token in tokens)
    assert [each.name for each in path.parent.iterdir()] == ["keys"]


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path) -> None:
    """A change goes to the file that the link names."""
    path.symlink_to(tmp_path / "elsewhere")
    token = add_key(path)
    assert path.is_symlink()
    assert read_keys(tmp_path / "elsewhere").find(token)


def test_changes_are_seen_once_a_second(path: Path) -> None:
    """A change is in force at the first look after it; looks are a second apart, and `reload` does not wait for one."""
    first = add_key(path)
    now = 0.0
    observer = RecordingObserver()
    watched = WatchedFile(path, read_keys, observer, clock=lambda: now)
    revoke_key(path, first)
    now = CHECK_SECONDS / 2
    watched.refresh()
    assert watched.content.find(first)
    now = CHECK_SECONDS
    watched.refresh()
    assert watched.content.find(first) is None
    second = add_key(path)
    watched.reload()
    assert watched.content.find(second)
    assert observer.events == [CredentialsFileReloaded(str(path))] * 2


def test_a_broken_version_changes_nothing(path: Path) -> None:
    """While the file cannot be used the last usable one stays in force, and each broken one is reported once."""
    token = add_key(path)
    good = path.read_bytes()
    now = 0.0
    observer = RecordingObserver()
    watched = WatchedFile(path, read_keys, observer, clock=lambda: now)

    def looks() -> list[object]:
        nonlocal now
        observer.events.clear()
        for _ in range(3):
            now += CHECK_SECONDS
            watched.refresh()
        assert watched.content.find(token)
        return list(observer.events)

    assert looks() == []
    path.write_bytes(good[:-20])
    (rejected,) = looks()
    assert isinstance(rejected, CredentialsFileRejected)
    assert "only half of it" in rejected.reason
    path.unlink()
    (rejected,) = looks()
    assert isinstance(rejected, CredentialsFileRejected)
    path.write_bytes(good)
    path.chmod(0o644)
    (rejected,) = looks()
    assert isinstance(rejected, CredentialsFileRejected)
    assert "chmod 600" in rejected.reason
    path.chmod(0o600)  # changes nothing but the permissions
    assert looks() == [CredentialsFileReloaded(str(path))]
