"""The options of a connection: flags, the environment, and what is rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lookalike_client import Tls
from lookalike_client.connection_options import ConnectionOptions, OptionError, connection_options


def test_nothing_given() -> None:
    """Without options a server on this machine is called, in the clear and without a token."""
    assert connection_options(environment={}) == ConnectionOptions("127.0.0.1:50051", None, None)


def test_flags_override_the_environment(tmp_path: Path) -> None:
    """A flag counts, not its variable; a token's flag also overrides a variable that names a file, and so on."""
    file = tmp_path / "token"
    file.write_text("from-file\n")
    environment = {
        "LOOKALIKE_CLIENT_SERVER": "shop:1",
        "LOOKALIKE_CLIENT_TOKEN_FILE": str(file),
        "LOOKALIKE_CLIENT_CA": "env-ca.pem",
        "LOOKALIKE_CLIENT_CERT": "env.pem",
        "LOOKALIKE_CLIENT_KEY": "env.key",
    }
    assert connection_options(environment=environment) == ConnectionOptions(
        "shop:1", "from-file", Tls("env-ca.pem", "env.pem", "env.key")
    )
    flags: dict[str, Any] = {
        "server": "shop:2",
        "token": "flag",
        "ca": "ca.pem",
        "certificate": "c.pem",
        "key": "c.key",
    }
    assert connection_options(**flags, environment=environment) == ConnectionOptions(
        "shop:2", "flag", Tls("ca.pem", "c.pem", "c.key")
    )
    assert connection_options(token="", environment={"LOOKALIKE_CLIENT_TOKEN": "x"}).token is None


@pytest.mark.parametrize(
    ("variables", "tls"),
    [
        ({"TLS": "1"}, Tls()),
        ({"TLS": "true"}, Tls()),
        ({"TLS": "0"}, None),
        ({"TLS": ""}, None),
        ({"CA": ""}, None),
        ({"CA": "ca.pem"}, Tls("ca.pem")),
        ({"CERT": "c.pem", "KEY": "c.key"}, Tls(None, "c.pem", "c.key")),
    ],
)
def test_what_turns_tls_on(variables: dict[str, str], tls: Tls | None) -> None:
    """Any of its options turns TLS on, and empty variables are as none."""
    environment = {f"LOOKALIKE_CLIENT_{name}": value for name, value in variables.items()}
    assert connection_options(environment=environment).tls == tls


def test_what_is_rejected(tmp_path: Path) -> None:
    """A contradiction, half of a pair, and a token that cannot be sent are rejected with a line that says so."""
    two, empty = tmp_path / "two", tmp_path / "empty"
    two.write_text("one\ntwo\n")
    empty.touch()
    for options, variables, words in (
        ({"token": "a", "token_file": two}, {}, "not both"),
        ({}, {"TOKEN": "a", "TOKEN_FILE": "b"}, "not both"),
        ({"token_file": tmp_path / "none"}, {}, "none cannot be read: No such file"),
        ({"token_file": two}, {}, "must hold one line"),
        ({"token_file": empty}, {}, "must hold one line"),
        ({"token": "a\nb"}, {}, "printable ASCII"),
        ({"token": "schlüssel"}, {}, "printable ASCII"),
        ({"certificate": "c.pem"}, {}, "give both or neither"),
        ({}, {"KEY": "c.key"}, "give both or neither"),
        ({}, {"TLS": "maybe"}, "LOOKALIKE_CLIENT_TLS must be 1 or 0"),
    ):
        environment = {f"LOOKALIKE_CLIENT_{name}": value for name, value in variables.items()}
        given: dict[str, Any] = options
        with pytest.raises(OptionError, match=words) as caught:
            connection_options(**given, environment=environment)
        assert "schlüssel" not in str(caught.value)


@pytest.mark.parametrize(
    ("server", "token", "tls", "warns"),
    [
        ("shop.example:50051", "secret", None, True),
        ("shop.example:50051", "secret", Tls(), False),
        ("shop.example:50051", None, None, False),
        ("127.0.0.1:50051", "secret", None, False),
        ("unix:/run/lookalike.sock", "secret", None, False),
    ],
)
def test_a_token_in_the_clear(server: str, token: str | None, tls: Tls | None, *, warns: bool) -> None:
    """A token that others can read on the way is worth a warning, which does not contain it."""
    warning = ConnectionOptions(server, token, tls).warning
    assert bool(warning) is warns
    assert warning is None or (server in warning and "secret" not in warning)
