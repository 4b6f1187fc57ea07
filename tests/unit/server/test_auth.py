"""What a call may come with, what that allows, and who calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.access.api_keys import new_certificate
from lookalike_server.rpc.access.authorization_header import MAX_TOKEN
from lookalike_server.rpc.access.identity import Identity, Role
from lookalike_server.rpc.access.keys_file import changing
from lookalike_server.rpc.auth import WRITES, Authenticator
from support.credentials import add_key, revoke_key
from support.fakes import RecordingObserver

READ = "/lookalike.v1.SearchService/Search"
WRITE = "/lookalike.v1.CatalogService/UpsertProducts"


class Connection:
    """What gRPC knows of a connection."""

    def __init__(self, address: str = "ipv4:192.0.2.1:40000", *names: str) -> None:
        self._address = address
        self._names = names

    def peer(self) -> str:
        """Return the address."""
        return self._address

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return the names of the client's certificate."""
        return {"x509_subject_alternative_name": [name.encode() for name in self._names]} if self._names else {}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file of keys."""
    return tmp_path / "keys"


def outcome(
    authenticator: Authenticator, method: str, *metadata: tuple[str, str | bytes], peer: Connection | None = None
) -> Identity | LookalikeError:
    """Check a call with this metadata."""
    try:
        return authenticator.identify(method, metadata, peer or Connection())
    except LookalikeError as error:
        return error


def code(authenticator: Authenticator, method: str, *metadata: tuple[str, str | bytes]) -> Code | None:
    """Return the code of a call's error, None without one."""
    result = outcome(authenticator, method, *metadata)
    return result.code if isinstance(result, LookalikeError) else None


@pytest.mark.parametrize(
    ("header", "read", "write"),
    [
        ("Bearer {reader}", None, Code.PERMISSION_DENIED),
        ("Bearer {writer}", None, None),
        ("Bearer {admin}", None, None),
        ("bearer {reader}", None, Code.PERMISSION_DENIED),
        ("Bearer  {writer} ", None, None),
        ("Bearer {reader}0", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer {reader} {writer}", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer lk_", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer lk__", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer ", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Basic {writer}", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("{writer}", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer a.b.c", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer \N{SNOWMAN}", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
    ],
)
def test_what_a_key_allows(path: Path, header: str, read: Code | None, write: Code | None) -> None:
    """A reader may read, a writer and an admin may also write, and any other header is UNAUTHENTICATED."""
    tokens = {role.label: add_key(path, role.label) for role in Role}
    authenticator = Authenticator(RecordingObserver(), keys_file=path)
    sent = ("authorization", header.format(**tokens))
    assert code(authenticator, READ, sent) is read
    assert code(authenticator, WRITE, sent) is write


def test_parts_of_two_keys_are_no_key(path: Path) -> None:
    """The public id of one key with the secret of another is UNAUTHENTICATED, as are the salted hashes of the file."""
    one, two = add_key(path, "writer"), add_key(path, "writer")
    authenticator = Authenticator(RecordingObserver(), keys_file=path)
    with changing(path) as entries:
        hashes = [entry.sha256.hex() for entry in entries]
    mixed = [f"lk_{one.split('_')[1]}_{secret}" for secret in (two.split("_")[2], *hashes, "")]
    for token in mixed:
        assert code(authenticator, READ, ("authorization", f"Bearer {token}")) is Code.UNAUTHENTICATED
    assert code(authenticator, READ, ("authorization", f"Bearer {one}")) is None


def test_only_one_authorization_counts(path: Path) -> None:
    """A token elsewhere, none, two of them, or one that is too long is UNAUTHENTICATED, and the message says which."""
    token = add_key(path, "writer")
    authenticator = Authenticator(RecordingObserver(), keys_file=path)
    good = ("authorization", f"Bearer {token}")
    for metadata, expected in (
        ((), "the call has no token"),
        ((("x-api-key", token),), "`x-api-key` is not read"),
        ((("x-token", f"Bearer {token}"), ("user-agent", f"Bearer {token}")), "`x-token` is not read"),
        ((good, good), "more than one `authorization`"),
        ((good, ("authorization", "")), "more than one `authorization`"),
        ((("authorization", f"Bearer {token * 200}"),), f"at most {MAX_TOKEN}"),
        ((("authorization", f"Bearer {token}".encode()),), "is not text"),
    ):
        error = outcome(authenticator, READ, *metadata)
        assert isinstance(error, LookalikeError)
        assert error.code is Code.UNAUTHENTICATED
        assert expected in error.message
        assert token not in error.message


def test_every_change_needs_a_writer(path: Path) -> None:
    """No method that changes the catalog may be called by a reader."""
    reader, writer = (("authorization", f"Bearer {add_key(path, role)}") for role in ("reader", "writer"))
    authenticator = Authenticator(RecordingObserver(), keys_file=path)
    for method in WRITES:
        assert code(authenticator, method, reader) is Code.PERMISSION_DENIED
        assert code(authenticator, method, writer) is None


def test_without_credentials_everybody_may_call() -> None:
    """No file means no check."""
    authenticator = Authenticator(RecordingObserver())
    assert authenticator.is_open
    assert code(authenticator, WRITE) is None
    assert code(authenticator, WRITE, ("authorization", "Bearer lk_x_y"), ("authorization", "")) is None


def test_nobody_could_call(path: Path) -> None:
    """A file without any key is an error at the start that says how to add one; revoking the last is none later."""
    token = add_key(path)
    authenticator = Authenticator(RecordingObserver(), keys_file=path)
    revoke_key(path, token)
    authenticator.reload()
    assert code(authenticator, READ, ("authorization", f"Bearer {token}")) is Code.UNAUTHENTICATED
    with pytest.raises(LookalikeError, match=f"keys add NAME --role reader --auth-keys-file {path}"):
        Authenticator(RecordingObserver(), keys_file=path)


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "name"),
    [
        (Connection("ipv4:192.0.2.1:40000"), "198.51.100.7", False, "ipv4:192.0.2.1"),
        (Connection("ipv6:%5B2001:db8::1%5D:40000"), "", False, "ipv6:%5B2001:db8::1%5D"),
        (Connection("unix:/run/socket"), "", False, "unix:/run/socket"),
        (Connection("ipv4:192.0.2.1:40000"), "203.0.113.9, 198.51.100.7", True, "198.51.100.7"),
        (Connection("ipv4:192.0.2.1:40000"), "", True, "ipv4:192.0.2.1"),
        (Connection("ipv4:192.0.2.1:40000", "shop.example", "www.example"), "198.51.100.7", True, "shop.example"),
    ],
)
def test_callers_without_tokens(peer: Connection, forwarded: str, trusted: bool, name: str) -> None:
    """Where anybody may call, a caller is its certificate, its address without the port, or what a proxy has added."""
    metadata = (("x-forwarded-for", forwarded),) if forwarded else ()
    authenticator = Authenticator(RecordingObserver(), client_certificates=True, trust_forwarded_for=trusted)
    assert authenticator.identify(READ, metadata, peer).name == name


def test_a_key_names_its_caller(path: Path) -> None:
    """With keys a caller has the name and the categories of its key, whatever its address is."""
    token = add_key(path, name="shop", categories=["Men"])
    authenticator = Authenticator(RecordingObserver(), keys_file=path, trust_forwarded_for=True)
    metadata = (("x-forwarded-for", "198.51.100.7"), ("authorization", f"Bearer {token}"))
    identity = authenticator.identify(READ, metadata, Connection("ipv4:192.0.2.1:40000", "shop.example"))
    assert identity == Identity("shop", Role.READER, frozenset(("Men",)))


def test_a_client_certificate_has_the_role_of_its_entry(path: Path) -> None:
    """Without a token the certificate's name counts; an unknown name, or a wrong token beside it, is rejected."""
    with changing(path) as entries:
        entries.append(new_certificate("spiffe://shop/web", "web", Role.READER, None, ""))
    authenticator = Authenticator(RecordingObserver(), keys_file=path, client_certificates=True)
    known, unknown = Connection("", "other.example", "spiffe://shop/web"), Connection("", "other.example")
    assert outcome(authenticator, READ, peer=known) == Identity("web", Role.READER)
    for peer, method, metadata, expected in (
        (known, WRITE, (), Code.PERMISSION_DENIED),
        (known, READ, (("authorization", "Bearer lk_a_b"),), Code.UNAUTHENTICATED),
        (unknown, READ, (), Code.UNAUTHENTICATED),
        (Connection(), READ, (), Code.UNAUTHENTICATED),
    ):
        error = outcome(authenticator, method, *metadata, peer=peer)
        assert isinstance(error, LookalikeError)
        assert error.code is expected


def test_certificates_that_nobody_verifies(path: Path) -> None:
    """Where the server does not require client certificates, their names count for nothing."""
    with changing(path) as entries:
        entries.append(new_certificate("spiffe://shop/web", "web", Role.READER, None, ""))
    sent = Connection("unix:/run/socket", "spiffe://shop/web")
    error = outcome(Authenticator(RecordingObserver(), keys_file=path), READ, peer=sent)
    assert isinstance(error, LookalikeError)
    assert error.code is Code.UNAUTHENTICATED
    assert Authenticator(RecordingObserver()).identify(READ, (), sent).name == "unix:/run/socket"


def test_a_stream_ends_when_its_key_is_revoked(path: Path) -> None:
    """What a stream calls at each message does nothing until its key is revoked, whatever else changes in the file."""
    token = add_key(path)
    authenticator = Authenticator(RecordingObserver(), keys_file=path)
    metadata = (("authorization", f"Bearer {token}"),)
    check = authenticator.stream_check(authenticator.identify(READ, metadata, Connection()), metadata, Connection())
    check()
    add_key(path, name="another")
    authenticator.reload()
    check()
    revoke_key(path, token)
    authenticator.reload()
    with pytest.raises(LookalikeError) as caught:
        check()
    assert caught.value.code is Code.UNAUTHENTICATED
