"""Who may call: bearer tokens from a file, each of a reader or a writer. Without a file everybody may do everything.

The file has one `reader TOKEN` or `writer TOKEN` per line; empty lines and lines that begin with # are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

from lookalike_server.domain.errors import Code, LookalikeError


class Role(Enum):
    """What a token allows."""

    READER = "reader"
    WRITER = "writer"


WRITES = frozenset(
    f"/lookalike.v1.CatalogService/{method}"
    for method in ("UpsertProducts", "UpdateAttributes", "ImportProducts", "DeleteProducts")
)
"""The methods that a reader may not call."""


class Authenticator:
    """Checks calls against the known tokens, kept as digests: comparing those leaks nothing by its timing."""

    def __init__(self, tokens: Mapping[str, Role] | None) -> None:
        """Accept these tokens; with None every call is accepted."""
        self._roles = None if tokens is None else {_digest(token): role for token, role in tokens.items()}

    def check(self, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Check a call.

        Raises:
            LookalikeError: UNAUTHENTICATED without a known token, PERMISSION_DENIED where its role may not call this.
        """
        if self._roles is None:
            return
        header = next((value for key, value in metadata if key == "authorization"), "")
        scheme, _, token = str(header).partition(" ")
        role = self._roles.get(_digest(token.strip())) if scheme.lower() == "bearer" else None
        if role is None:
            raise LookalikeError(
                Code.UNAUTHENTICATED,
                "the call has no known token; send one in the metadata, as `authorization: Bearer TOKEN`",
            )
        if role is not Role.WRITER and method in WRITES:
            raise LookalikeError(
                Code.PERMISSION_DENIED, f"this token is a reader's; {method.rpartition('/')[2]} needs a writer's"
            )


def read_tokens(path: Path) -> dict[str, Role]:
    """Read a file of tokens.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be read, has a line that is not as above, or has no token.
    """
    tokens = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot read the tokens: {error}") from None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] not in (role.value for role in Role):
            raise LookalikeError(
                Code.FAILED_PRECONDITION, f"{path}:{number}: expected `reader TOKEN` or `writer TOKEN`"
            )
        if words[1] in tokens:
            raise LookalikeError(
                Code.FAILED_PRECONDITION, f"{path}:{number}: this token appears twice; remove one of its lines"
            )
        tokens[words[1]] = Role(words[0])
    if not tokens:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"{path} has no token, so nobody could call; add a `reader TOKEN` or `writer TOKEN` line",
        )
    return tokens


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
