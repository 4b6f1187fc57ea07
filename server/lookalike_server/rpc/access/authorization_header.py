"""The bearer token of a call, from its metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from lookalike_server.rpc.access.identity import unauthenticated

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

MAX_TOKEN = 8 * 1024
"""The most characters of a token. gRPC itself ends calls whose metadata has more than 16 KiB, as RESOURCE_EXHAUSTED."""

_SEND_ONE = "send one in the metadata, as `authorization: Bearer TOKEN`"

_ELSEWHERE = frozenset(
    (
        "api-key",
        "x-api-key",
        "x-auth-token",
        "x-access-token",
        "token",
        "x-token",
        "access-token",
        "proxy-authorization",
    )
)
"""Where others expect tokens."""


def bearer_token(metadata: Metadata) -> str | None:
    """Return the token of a call; None where it has no `authorization` at all.

    Raises:
        LookalikeError: UNAUTHENTICATED where it has several, or one that is no bearer token or too long. The message
            quotes nothing of it.
    """
    token = None
    for key, value in metadata:
        if key == "authorization":
            if token is not None:
                raise unauthenticated("the call has more than one `authorization`; send one")
            token = value
    if token is None:
        return None
    if not isinstance(token, str):
        raise unauthenticated(f"`authorization` is not text; {_SEND_ONE}")
    if len(token) > MAX_TOKEN:
        raise unauthenticated(f"`authorization` has {len(token)} characters; a token has at most {MAX_TOKEN}")
    scheme, _, rest = token.partition(" ")
    rest = rest.strip()
    if scheme.lower() != "bearer" or not rest:
        raise unauthenticated(f"`authorization` has no bearer token; {_SEND_ONE}")
    return rest


def missing_token(metadata: Metadata) -> str:
    """Say that a call has no token, or has one where nobody reads it."""
    for key, _ in metadata:
        if key in _ELSEWHERE:
            return f"a token in `{key}` is not read; {_SEND_ONE}"
    return f"the call has no token; {_SEND_ONE}"
