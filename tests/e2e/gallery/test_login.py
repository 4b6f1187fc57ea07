"""The login of a gallery that others can reach, without a browser: the app as Streamlit's own test runner runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from e2e.gallery.shop import SERVE, TINY, WEB
from lookalike_client.connection_options import ConnectionOptions, OptionError
from lookalike_gallery.login import KEY_FILE, gallery_key, needs_login, server_knows
from support.processes import server_process

READER, WRITER = "a-reader-of-the-shop", "the-writer-of-the-shop"
OWN = "the-gallery's-own-key"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Run a server that asks for tokens, and return its address."""
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(f"reader {READER}\nwriter {WRITER}\n", encoding="utf-8")
    flags = ("--intra-op-threads", "1", "--max-concurrent-batches", "1", "--auth-keys-file", str(keys))
    with server_process(TINY, tmp_path / "data", *flags, command=SERVE) as running:
        yield running.address


@pytest.fixture
def app(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """Return the app of a gallery with a key of its own, which others can reach; nothing listens for the test."""
    own = tmp_path / "own"
    own.write_text(f"{OWN}\n", encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_CLIENT_SERVER", server)
    monkeypatch.setenv("LOOKALIKE_CLIENT_TOKEN", WRITER)
    monkeypatch.setenv(KEY_FILE, str(own))
    before = config.get_option("server.address")
    config.set_option("server.address", "0.0.0.0")  # noqa: S104
    yield AppTest.from_file(str(WEB / "run.py"), default_timeout=60)
    config.set_option("server.address", before)


def log_in(app: AppTest, key: str) -> AppTest:
    """Fill the form."""
    app.text_input[0].input(key)
    app.button[0].click()
    return app.run()


def headings(app: AppTest) -> list[str]:
    """Return the page's headings."""
    return [each.value for each in app.header]


def test_a_login_with_the_gallerys_key(app: AppTest) -> None:
    """Without a login there is the form and nothing of the catalog; a wrong key changes nothing, the right one does."""
    assert (headings(app.run()), len(app.text_input), len(app.sidebar)) == (["Lookalike"], 1, 0)
    assert [each.value for each in log_in(app, OWN[:-1]).error] == [
        "Neither the gallery nor the server knows this key."
    ]
    assert headings(app) == ["Lookalike"]
    log_in(app, OWN)
    assert not app.exception
    assert headings(app) != ["Lookalike"]
    assert app.session_state["logged-in"]
    assert "token" not in app.session_state


def test_a_login_with_a_callers_token(app: AppTest) -> None:
    """A caller's own token is what the gallery calls the server with from then on, not the gallery's."""
    log_in(app.run(), READER)
    assert not app.exception
    assert headings(app) != ["Lookalike"]
    assert app.session_state["token"] == READER


def test_on_loopback_there_is_no_login(app: AppTest) -> None:
    """A gallery for the users of this machine shows its page at once."""
    config.set_option("server.address", "127.0.0.1")
    assert headings(app.run()) != ["Lookalike"]


def test_a_server_without_tokens_proves_nothing(tmp_path: Path) -> None:
    """Where the server lets anybody in, no token is a login; where it asks for tokens, only its own are."""
    with server_process(
        TINY, tmp_path / "data", "--intra-op-threads", "1", "--max-concurrent-batches", "1", command=SERVE
    ) as open_server:
        assert not server_knows(ConnectionOptions(open_server.address), READER)


def test_tokens_that_the_server_knows(server: str) -> None:
    """Each of the server's tokens is a login, whatever the gallery's is; no other is, nor what no header can hold."""
    options = ConnectionOptions(server, WRITER)
    known = [server_knows(options, key) for key in (READER, WRITER, "unknown", "two\nlines", "schlüssel")]
    assert known == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("address", "asks"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("::", True), ("", True)],  # noqa: S104
)
def test_who_needs_a_login(address: str, *, asks: bool) -> None:
    """Every address but loopback is for others too."""
    assert needs_login(address) is asks
    assert needs_login(None)


def test_the_gallerys_key(tmp_path: Path) -> None:
    """A key comes from a file; a short one, which can be guessed, and a missing file are rejected."""
    short = tmp_path / "short"
    short.write_text("0123456789abcde\n", encoding="utf-8")
    assert gallery_key({}) is None
    with pytest.raises(OptionError, match="16 characters or more"):
        gallery_key({KEY_FILE: str(short)})
    with pytest.raises(OptionError, match="cannot be read"):
        gallery_key({KEY_FILE: str(tmp_path / "none")})
    short.write_text("0123456789abcdef\n", encoding="utf-8")
    assert gallery_key({KEY_FILE: str(short)}) == "0123456789abcdef"
