"""Certificates of a CA of a test's own, as the PEM files that servers and clients read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, and its key; both PEM.

    Attributes:
        certificate: The file of the certificate.
        key: The file of the key, which only its owner can read.
    """

    certificate: Path
    key: Path


class Authority:
    """A CA; `pem` is the file that trusts it.

    Args:
        folder: Where its files go; must exist.
        name: Of its file, unique in the folder.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.pem = folder / f"{name}.pem"
        self.pem.write_bytes(self._ca.cert_pem.bytes())

    def pair(self, name: str, *names: str, **dates: Any) -> Pair:
        """Issue a certificate for these host names, addresses or identities, into files of this name."""
        chain, key = issue(self._ca, *names, **dates)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(chain)
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(_pkcs8(key))
        return pair

    def expired(self, name: str, *names: str) -> Pair:
        """Issue a certificate that expired yesterday."""
        return self.pair(name, *names, **expired_dates())

    def future(self, name: str, *names: str) -> Pair:
        """Issue a certificate that is valid from tomorrow on."""
        today = datetime.now(UTC)
        return self.pair(name, *names, not_before=today + timedelta(days=1), not_after=today + timedelta(days=9))


def issue(ca: trustme.CA, *names: str, **dates: Any) -> tuple[bytes, bytes]:
    """Issue a certificate for these host names, addresses or identities; return its chain and its key, both PEM."""
    issued = ca.issue_cert(*names, **dates)
    return b"".join(each.bytes() for each in issued.cert_chain_pems), issued.private_key_pem.bytes()


def expired_dates() -> dict[str, datetime]:
    """Return the dates of a certificate that expired yesterday."""
    today = datetime.now(UTC)
    return {"not_before": today - timedelta(days=9), "not_after": today - timedelta(days=1)}


def _pkcs8(key: bytes) -> bytes:
    """Convert a key to PKCS #8, the one form that Java reads."""
    plain = serialization.NoEncryption()
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def server_credentials(pair: Pair, client_ca: Path | None = None) -> grpc.ServerCredentials:
    """Return credentials of a server; with a CA of clients it requires a certificate of each."""
    chain: Any = [(pair.key.read_bytes(), pair.certificate.read_bytes())]
    return grpc.ssl_server_credentials(chain, client_ca.read_bytes() if client_ca else None, client_ca is not None)
