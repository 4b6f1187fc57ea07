"""API keys: `lk_ID_SECRET`. The file has a salted hash of each secret, and the ID finds it.

The secret is 256 random bits, which nobody can guess however fast a guess is, so that the hash is SHA-256 and not one
that is slow on purpose: those are for passwords (ADR 31).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lookalike_server.rpc.access.identity import Identity, Role

PREFIX = "lk_"

_ID_BYTES = 6
_SECRET_BYTES = 32
_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One entry of the keys file: a key, or a client certificate's name.

    Attributes:
        id: Public; 12 hexadecimal digits.
        identity: Whom it stands for.
        created: When it was added, in ISO 8601.
        salt: Before the secret in what is hashed; empty for a certificate.
        sha256: Of salt and secret; empty for a certificate.
        certificate: The subject alternative name of the client certificate that it stands for; empty for a key.
    """

    id: str
    identity: Identity
    created: str
    salt: bytes = b""
    sha256: bytes = b""
    certificate: str = ""


class KeyTable:
    """The entries of a keys file, by what calls come with."""

    def __init__(self, entries: Iterable[ApiKey]) -> None:
        self.entries = tuple(entries)
        self._by_id: Mapping[str, ApiKey] = {entry.id: entry for entry in self.entries if not entry.certificate}
        self._by_certificate = {entry.certificate: entry.identity for entry in self.entries if entry.certificate}

    def find(self, token: str) -> Identity | None:
        """Return whom a token stands for; None where it is unknown, revoked or no key at all."""
        key_id, _, secret = token[len(PREFIX) :].partition("_")
        key = self._by_id.get(key_id)
        if key is None or not token.startswith(PREFIX):
            return None
        return key.identity if hmac.compare_digest(_hash(key.salt, secret), key.sha256) else None

    def find_certificate(self, names: Iterable[str]) -> Identity | None:
        """Return whom the first known of a client certificate's names stands for; None where none is known."""
        return next((self._by_certificate[name] for name in names if name in self._by_certificate), None)


def new_key(name: str, role: Role, categories: frozenset[str] | None, created: str) -> tuple[ApiKey, str]:
    """Make a random key; return its entry, and the token, which nobody can recover from it."""
    key_id, secret, salt = (
        secrets.token_hex(_ID_BYTES),
        secrets.token_hex(_SECRET_BYTES),
        secrets.token_bytes(_SALT_BYTES),
    )
    entry = ApiKey(key_id, Identity(name, role, categories), created, salt, _hash(salt, secret))
    return entry, f"{PREFIX}{key_id}_{secret}"


def new_certificate(certificate: str, name: str, role: Role, categories: frozenset[str] | None, created: str) -> ApiKey:
    """Make the entry of a client certificate with this subject alternative name."""
    return ApiKey(secrets.token_hex(_ID_BYTES), Identity(name, role, categories), created, certificate=certificate)


def _hash(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()
