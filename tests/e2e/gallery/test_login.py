"""The login of a gallery that others can reach, without a browser: the app as Streamlit's own test runner runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from e2e.gallery.shop import SERVE, TINY, WEB
from lookalike_client.connection_options import ConnectionOptions, OptionError
from lookalike_gallery.login import KEY_FILE, gallery_key, needs_login, server_knows
from support.processes import server_process

OWN = "the-gallery's-own-key"


@dataclass(frozen=True)
class Shop:
    """A server that asks for tokens, and two that it knows."""

    address: str
    reader: str
    writer: str


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Run the server."""
    file = ("--auth-keys-file", str(tmp_path / "keys.json"))
    add = partial(subprocess.check_output, text=True, stderr=subprocess.DEVNULL)
    reader, writer = (
        add((*SERVE[:-1], "keys", "add", role, "--role", role, *file)).strip() for role in ("reader", "writer")
    )
    flags = ("--intra-op-threads", "1", "--max-concurrent-batches", "1", *file)
    with server_process(TINY, tmp_path / "data", *flags, command=SERVE) as running:
        yield Shop(running.address, reader, writer)


@pytest.fixture
def app(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """Return the app of a gallery with a key of its own, which others can reach; nothing listens for the test."""
    own = tmp_path / "own"
    own.write_text(f"{OWN}\n", encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_CLIENT_SERVER", shop.address)
    monkeypatch.setenv("LOOKALIKE_CLIENT_TOKEN", shop.writer)
    monkeypatch.setenv(KEY_FILE, str(own))
    before = config.get_option("server.address")
    config.set_option("server.address", "0.0.0.0")  # noqa: S104
    yield AppTest.from_file(str(WEB / "page.py"), default_timeout=60)
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


def test_a_login_with_a_callers_token(shop: Shop, app: AppTest) -> None:
    """A caller's own token is what the gallery calls the server with from then on, not the gallery's."""
    log_in(app.run(), shop.reader)
    assert not app.exception
    assert headings(app) != ["Lookalike"]
    assert app.session_state["token"] == shop.reader


def test_on_loopback_there_is_no_login(app: AppTest) -> None:
    """A gallery for the users of this machine shows its page at once."""
    config.set_option("server.address", "127.0.0.1")
    assert headings(app.run()) != ["Lookalike"]


def test_a_server_without_tokens_proves_nothing(tmp_path: Path) -> None:
    """Where the server lets anybody in, no token is a login; where it asks for tokens, only its own are."""
    with server_process(
        TINY, tmp_path / "data", "--intra-op-threads", "1", "--max-concurrent-batches", "1", command=SERVE
    ) as open_server:
        assert not server_knows(ConnectionOptions(open_server.address), OWN)


def test_tokens_that_the_server_knows(shop: Shop) -> None:
    """Each of the server's tokens is a login, whatever the gallery's is; no other is, nor what no header can hold."""
    options = ConnectionOptions(shop.address, shop.writer)
    known = [server_knows(options, key) for key in (shop.reader, shop.writer, "unknown", "two\nlines", "schlüssel")]
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
