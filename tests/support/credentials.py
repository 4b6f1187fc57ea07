"""Credentials for tests: keys in a file of keys, and an issuer of JSON web tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from lookalike_server.rpc.access.api_keys import new_key
from lookalike_server.rpc.access.identity import Role
from lookalike_server.rpc.access.keys_file import changing

AUDIENCE = "lookalike-tests"


def add_key(path: Path, role: str = "reader", name: str = "shop", categories: Sequence[str] = ()) -> str:
    """Add a key to a file of keys, as the command does, and return the token."""
    chosen = Role.named(role)
    assert chosen is not None
    entry, token = new_key(name, chosen, frozenset(categories) or None, "2026-01-01T00:00:00+00:00")
    with changing(path) as entries:
        entries.append(entry)
    return token


def revoke_key(path: Path, token: str) -> None:
    """Remove a key from a file of keys, as the command does."""
    with changing(path) as entries:
        entries[:] = [entry for entry in entries if entry.id != token.split("_")[1]]


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with this token."""
    return (("authorization", f"Bearer {token}"),)


class Issuer:
    """Signs tokens, and writes its public keys to a JWKS file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: dict[str, RSAKey | ECKey] = {
            "RS256": RSAKey.generate_key(2048, {"kid": "r1"}),
            "ES256": ECKey.generate_key("P-256", {"kid": "e1"}),
        }
        self.publish()

    def publish(self) -> None:
        """Write the public keys."""
        keys = [{**key.as_dict(private=False), "alg": name, "use": "sig"} for name, key in self.keys.items()]
        self.path.write_text(json.dumps({"keys": keys}), encoding="utf-8")

    def token(self, algorithm: str = "ES256", **claims: Any) -> str:
        """Sign a token for our audience that is valid for an hour, with these claims; None leaves one out."""
        now = int(time.time())
        usual: dict[str, Any] = {"sub": "web", "aud": AUDIENCE, "iat": now, "exp": now + 3600, "roles": ["reader"]}
        kept = {name: value for name, value in (usual | claims).items() if value is not None}
        key = self.keys[algorithm]
        return jwt.encode({"alg": algorithm, "kid": key.kid}, kept, key)
