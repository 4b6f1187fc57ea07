"""Who calls, and what they may do: bearer tokens from a file, each of a reader or a writer.

The file has one `reader TOKEN [NAME]` or `writer TOKEN [NAME]` per line; empty lines and lines that begin with # are
ignored. Quotas and fair shares are by name: tokens with the same name are one caller, and a token without a name is one
by itself. Without a file everybody may do everything, and callers are distinguished by their address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from lookalike_server.domain.errors import Code, LookalikeError

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


class Role(Enum):
    """What a token allows."""

    READER = "reader"
    WRITER = "writer"


WRITES = frozenset(
    f"/lookalike.v1.CatalogService/{method}"
    for method in ("UpsertProducts", "UpdateAttributes", "ImportProducts", "DeleteProducts")
)
"""The methods that a reader may not call."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a token stands for: a role, and the name of its owner."""

    role: Role
    name: str


class Authenticator:
    """Checks calls against the known tokens, kept as digests: comparing those leaks nothing by its timing."""

    def __init__(self, keys: Mapping[str, Key] | None, *, trust_forwarded_for: bool = False) -> None:
        """Accept these tokens; with None every call is accepted.

        Args:
            keys: The keys by token.
            trust_forwarded_for: Whether an address is the last one in `x-forwarded-for`, which a proxy has set.
        """
        self._keys = None if keys is None else {_digest(token): key for token, key in keys.items()}
        self._trust_forwarded_for = trust_forwarded_for

    def identify(self, method: str, metadata: Metadata, peer: Callable[[], str]) -> str:
        """Check a call, and return the name of its caller.

        Args:
            method: The call's full method name.
            metadata: What it came with.
            peer: Returns its address as gRPC writes it.

        Raises:
            LookalikeError: UNAUTHENTICATED without a known token, PERMISSION_DENIED where its role may not call this.
        """
        if self._keys is None:
            return self._address(metadata, peer)
        header = next((value for key, value in metadata if key == "authorization"), "")
        scheme, _, token = str(header).partition(" ")
        key = self._keys.get(_digest(token.strip())) if scheme.lower() == "bearer" else None
        if key is None:
            raise LookalikeError(
                Code.UNAUTHENTICATED,
                "the call has no known token; send one in the metadata, as `authorization: Bearer TOKEN`",
            )
        if key.role is not Role.WRITER and method in WRITES:
            raise LookalikeError(
                Code.PERMISSION_DENIED, f"this token is a reader's; {method.rpartition('/')[2]} needs a writer's"
            )
        return key.name

    def _address(self, metadata: Metadata, peer: Callable[[], str]) -> str:
        if self._trust_forwarded_for:
            forwarded = next((str(value) for key, value in metadata if key == "x-forwarded-for"), "")
            if forwarded:
                return forwarded.rpartition(",")[2].strip()[:64]
        # "ipv4:192.0.2.1:40000", "ipv6:%5B2001:db8::1%5D:40000", "unix:/path"
        address = peer()
        return address.rpartition(":")[0] if address.startswith("ip") else address


def read_keys(path: Path) -> dict[str, Key]:
    """Read a file of tokens.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be read, has a line that is not as above, or has no token.
    """
    keys = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot read the tokens: {error}") from None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3) or words[0] not in (role.value for role in Role):
            raise LookalikeError(
                Code.FAILED_PRECONDITION, f"{path}:{number}: expected `reader TOKEN [NAME]` or `writer TOKEN [NAME]`"
            )
        if words[1] in keys:
            raise LookalikeError(
                Code.FAILED_PRECONDITION, f"{path}:{number}: this token appears twice; remove one of its lines"
            )
        name = words[2] if len(words) == 3 else f"key-{_digest(words[1]).hex()[:8]}"
        keys[words[1]] = Key(Role(words[0]), name)
    if not keys:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"{path} has no token, so nobody could call; add a `reader TOKEN` or `writer TOKEN` line",
        )
    return keys


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
