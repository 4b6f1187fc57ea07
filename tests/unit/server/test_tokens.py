"""The token file, what a token allows, and who calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.auth import WRITES, Authenticator, Key, Role, read_keys

READ = "/lookalike.v1.SearchService/Search"
WRITE = "/lookalike.v1.CatalogService/UpsertProducts"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "tokens"


def rejection(path: Path) -> str:
    """Return why this file cannot be used."""
    with pytest.raises(LookalikeError) as caught:
        read_keys(path)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def test_tokens_and_roles(path: Path) -> None:
    """Each line gives a token its role and a name; comments, empty lines and surrounding spaces are ignored."""
    text = "# shop\nreader abc\n\n  writer\tx-y_z.1~+/= shop\r\n   # reader old\nreader q#1 shop\n"
    path.write_text(text, encoding="utf-8")
    keys = read_keys(path)
    assert {token: key.role for token, key in keys.items()} == {
        "abc": Role.READER,
        "x-y_z.1~+/=": Role.WRITER,
        "q#1": Role.READER,
    }
    assert keys["q#1"].name == keys["x-y_z.1~+/="].name == "shop"
    assert keys["abc"].name not in ("", "shop", "abc")  # its own, and it does not tell the token


@pytest.mark.parametrize(
    "line", ["abc", "reader", "admin abc", "Reader abc", "reader a b c", "reader: abc", "abc reader"]
)
def test_an_invalid_line(path: Path, line: str) -> None:
    """A line that is not a role and a token is named by its number, and its token does not appear in the error."""
    path.write_text(f"reader good\n\n{line}\n", encoding="utf-8")
    assert rejection(path) == f"{path}:3: expected `reader TOKEN [NAME]` or `writer TOKEN [NAME]`"


@pytest.mark.parametrize("text", ["", "\n\n", "# reader abc\n"])
def test_no_token(path: Path, text: str) -> None:
    """A file without a token is an error."""
    path.write_text(text, encoding="utf-8")
    assert rejection(path) == f"{path} has no token, so nobody could call; add a `reader TOKEN` or `writer TOKEN` line"


def test_a_token_twice(path: Path) -> None:
    """A token that appears twice is an error, because its role would be ambiguous."""
    path.write_text("reader abc\nwriter abc\n", encoding="utf-8")
    assert rejection(path) == f"{path}:2: this token appears twice; remove one of its lines"


def test_unreadable(path: Path) -> None:
    """A file that is missing, is a folder or is not text is an error that names it or what is wrong with it."""
    assert str(path) in rejection(path)
    path.write_bytes(b"reader \xff\xfe\n")
    assert "cannot read the tokens" in rejection(path)
    assert str(path.parent) in rejection(path.parent)


def code(tokens: dict[str, Role] | None, method: str, *metadata: tuple[str, str | bytes]) -> Code | None:
    """Check a call with this metadata; return the code of its error, None without one."""
    keys = None if tokens is None else {token: Key(role, "shop") for token, role in tokens.items()}
    try:
        Authenticator(keys).identify(method, metadata, lambda: "ipv4:192.0.2.1:40000")
    except LookalikeError as error:
        return error.code
    return None


TOKENS = {"r1": Role.READER, "w1": Role.WRITER}


@pytest.mark.parametrize(
    ("header", "read", "write"),
    [
        ("Bearer r1", None, Code.PERMISSION_DENIED),
        ("Bearer w1", None, None),
        ("bearer r1", None, Code.PERMISSION_DENIED),
        ("Bearer  w1 ", None, None),
        ("Bearer R1", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer w", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer w1 r1", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Bearer ", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("Basic w1", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("w1", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        ("", Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
    ],
)
def test_what_a_token_allows(header: str, read: Code | None, write: Code | None) -> None:
    """A reader may read, a writer may also write, and any other header is UNAUTHENTICATED."""
    assert code(TOKENS, READ, ("authorization", header)) is read
    assert code(TOKENS, WRITE, ("authorization", header)) is write


def test_only_the_authorization_header_counts() -> None:
    """A token elsewhere in the metadata, or none at all, is UNAUTHENTICATED."""
    assert code(TOKENS, READ) is Code.UNAUTHENTICATED
    assert code(TOKENS, READ, ("x-token", "Bearer r1"), ("user-agent", "Bearer w1")) is Code.UNAUTHENTICATED


def test_every_change_needs_a_writer() -> None:
    """No method that changes the catalog may be called by a reader."""
    for method in WRITES:
        assert code(TOKENS, method, ("authorization", "Bearer r1")) is Code.PERMISSION_DENIED
        assert code(TOKENS, method, ("authorization", "Bearer w1")) is None


def test_without_a_file_everybody_may_call() -> None:
    """No token file means no check, which is not the same as a file without tokens."""
    assert code(None, WRITE) is None
    assert code({}, READ, ("authorization", "Bearer ")) is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "name"),
    [
        ("ipv4:192.0.2.1:40000", "198.51.100.7", False, "ipv4:192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:40000", "", False, "ipv6:%5B2001:db8::1%5D"),
        ("unix:/run/socket", "", False, "unix:/run/socket"),
        ("ipv4:192.0.2.1:40000", "203.0.113.9, 198.51.100.7", True, "198.51.100.7"),
        ("ipv4:192.0.2.1:40000", "", True, "ipv4:192.0.2.1"),
    ],
)
def test_callers_without_tokens_are_addresses(peer: str, forwarded: str, trusted: bool, name: str) -> None:
    """A caller is its address without the port, or the last one that a trusted proxy has added."""
    metadata = (("x-forwarded-for", forwarded),) if forwarded else ()
    assert Authenticator(None, trust_forwarded_for=trusted).identify(READ, metadata, lambda: peer) == name


def test_a_token_names_its_caller() -> None:
    """With keys a caller has the name of its key, whatever its address is."""
    authenticator = Authenticator({"r1": Key(Role.READER, "shop")}, trust_forwarded_for=True)
    metadata = (("x-forwarded-for", "198.51.100.7"), ("authorization", "Bearer r1"))
    assert authenticator.identify(READ, metadata, lambda: "ipv4:192.0.2.1:40000") == "shop"
