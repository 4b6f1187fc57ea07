"""Certificates of a test's own authority, as PEM files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import trustme

from support.pem_files import expired_dates, issue

CLIENT = "checkout.shop.example"
"""The name of the client whose certificate `channel` presents."""


@dataclass(frozen=True)
class Files:
    """The files of a server."""

    certificate: Path
    key: Path
    client_ca: Path

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of a server with TLS."""
        return {"tls_certificate_file": self.certificate, "tls_key_file": self.key}

    @property
    def mutual(self) -> dict[str, Any]:
        """Return the settings of a server that asks for clients' certificates too."""
        return self.settings | {"tls_client_ca_file": self.client_ca}


class Authority:
    """Issues certificates."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def roots(self) -> bytes:
        """Return its own certificate."""
        return self._ca.cert_pem.bytes()

    def files(self, folder: Path, name: str = "127.0.0.1", *, expired: bool = False) -> Files:
        """Write a server's files; those that are there are replaced, each at once."""
        folder.mkdir(exist_ok=True)
        files = Files(folder / "server.pem", folder / "server.key", folder / "clients.pem")
        chain, key = issue(self._ca, name, **(expired_dates() if expired else {}))
        replace(files.client_ca, self.roots)
        replace(files.key, key)
        replace(files.certificate, chain)
        return files

    def channel(self, target: str, *, client: Authority | None = None, name: str = "") -> grpc.aio.Channel:
        """Open a channel of its own connection that trusts this authority.

        Args:
            target: HOST:PORT.
            client: Who issued the client's certificate; None for a client without one.
            name: What the server has to be called, where that is not the host.
        """
        chain, key = issue(client._ca, CLIENT) if client else (None, None)  # noqa: SLF001
        credentials = grpc.ssl_channel_credentials(self.roots, key, chain)
        options: list[tuple[str, Any]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            *([("grpc.ssl_target_name_override", name)] if name else []),
        ]
        return grpc.aio.secure_channel(target, credentials, options)


def replace(path: Path, data: bytes) -> None:
    """Put a new file in the place of an old one, as certificates are renewed; only its owner may read it."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.chmod(0o600)
    os.replace(new, path)  # noqa: PTH105
