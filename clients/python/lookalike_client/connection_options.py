"""The options of a connection as commands and programs take them: flags, or LOOKALIKE_CLIENT_... in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lookalike_client.channel import is_loopback
from lookalike_client.tls import Tls

PREFIX = "LOOKALIKE_CLIENT_"
DEFAULT_SERVER = "127.0.0.1:50051"

_WORDS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


class OptionError(ValueError):
    """An option that cannot be used; `str()` of it is one line for the user."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Where to connect, and how.

    Attributes:
        server: HOST:PORT, or any gRPC target.
        token: The bearer token, or None.
        tls: How to encrypt the connection, or None.
    """

    server: str = DEFAULT_SERVER
    token: str | None = None
    tls: Tls | None = None

    @property
    def warning(self) -> str | None:
        """A line for the user where the token can be read on the way; None where it cannot."""
        if not self.token or self.tls or is_loopback(self.server):
            return None
        return f"WARNING: the token is sent to {self.server} without encryption; use --tls or --ca FILE"


def connection_options(
    server: str | None = None,
    token: str | None = None,
    token_file: str | Path | None = None,
    *,
    tls: bool = False,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ConnectionOptions:
    """Complete flags with the environment: a flag overrides its variable, and an empty variable counts as absent.

    Raises:
        OptionError: A value cannot be used; a token and a file of one are given in the same place.
    """

    def variable(name: str) -> str | None:
        return environment.get(PREFIX + name) or None

    if token is None and token_file is None:
        token, token_file = variable("TOKEN"), variable("TOKEN_FILE")
    if token is not None and token_file is not None:
        raise OptionError("give the token or the file of a token, not both")
    if token_file is not None:
        token = _read_token(Path(token_file))
    if token and not (token.isascii() and token.isprintable()):
        raise OptionError("the token must be printable ASCII characters: it is sent as a header")
    if certificate is None and key is None:
        certificate, key = variable("CERT"), variable("KEY")
    if (certificate is None) != (key is None):
        raise OptionError("--cert and --key belong together: give both or neither")
    ca = variable("CA") if ca is None else ca
    encrypted = tls or ca is not None or certificate is not None or _flag("TLS", variable("TLS"))
    return ConnectionOptions(
        server or variable("SERVER") or DEFAULT_SERVER,
        token or None,
        Tls(ca, certificate, key) if encrypted else None,
    )


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise OptionError(f"the token file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"the token file {path} must hold one line of ASCII characters") from error
    if not token or not token.isprintable():
        raise OptionError(f"the token file {path} must hold one line, the token")
    return token


def _flag(name: str, value: str | None) -> bool:
    try:
        return _WORDS[(value or "").lower()]
    except KeyError:
        raise OptionError(f"{PREFIX}{name} must be 1 or 0, not {value!r}") from None
