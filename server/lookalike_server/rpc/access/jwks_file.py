"""The public keys of an issuer of tokens: a JWKS file (RFC 7517)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, Key, RSAKey

from lookalike_server.domain.errors import Code, LookalikeError

_MIN_RSA_BITS = 2048

ALGORITHMS = ("RS256", "ES256")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key.

    Attributes:
        key: The key.
        algorithm: The only algorithm that it verifies: "RS256" or "ES256".
        key_id: Its `kid`, None where it has none.
    """

    key: Key
    algorithm: str
    key_id: str | None


def read_jwks(path: Path) -> tuple[VerificationKey, ...]:
    """Read the keys that sign tokens; those for encryption (`use` is "enc") are left out.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it cannot be read, is not JSON, has no key, or one that is not for
            RS256 or ES256: a shared secret, a private key, a short RSA key.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _wrong(f"cannot read the JWKS: {error}") from None
    except (ValueError, RecursionError):
        raise _wrong(f"{path} is empty, or no JSON, or only half of it; write the issuer's JWKS to it") from None
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise _wrong(f"{path} is no JWKS: it must be an object with a list `keys`")
    keys = tuple(
        _key(each, f"{path}: keys[{position}]")
        for position, each in enumerate(listed)
        if not (isinstance(each, dict) and each.get("use") == "enc")
    )
    if not keys:
        raise _wrong(f"{path} has no key that signs; it needs one for {' or '.join(ALGORITHMS)}")
    return keys


def _key(value: Any, where: str) -> VerificationKey:
    if not isinstance(value, dict):
        raise _wrong(f"{where} must be an object")
    kind, given = value.get("kty"), value.get("alg")
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(kind) if isinstance(kind, str) else None
    if algorithm is None or (given is not None and given != algorithm):
        raise _wrong(
            f"{where} is not for {' or '.join(ALGORITHMS)}, which are the algorithms of tokens here; remove it"
        )
    if "d" in value:
        raise _wrong(f"{where} is a private key; write the issuer's public keys only, and replace this one")
    key_id = value.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise _wrong(f"{where}.kid must be text")
    public: RSAKey | ECKey
    try:
        if kind == "RSA":
            public = RSAKey.import_key(value)
            bits = public.public_key.key_size
        else:
            public = ECKey.import_key(value)
            bits = public.public_key.key_size
    except Exception:  # noqa: BLE001 - joserfc and cryptography have many
        raise _wrong(f"{where} is damaged: its parameters are no {kind} key") from None
    if kind == "RSA" and bits < _MIN_RSA_BITS:
        raise _wrong(f"{where} has {bits} bits; RS256 needs at least {_MIN_RSA_BITS}")
    if kind == "EC" and value.get("crv") != "P-256":
        raise _wrong(f"{where} is not on the curve P-256, which ES256 needs; remove it")
    return VerificationKey(public, algorithm, key_id)


def _wrong(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)
