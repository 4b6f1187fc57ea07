"""JSON web tokens: signed by RS256 or ES256 with a key of the JWKS file, for our audience, and not expired.

Verifying a signature takes about 0.1 ms (RS256) or 0.2 ms (ES256), so verified tokens are remembered until they expire.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, MissingClaimError
from joserfc.jwk import Key
from joserfc.jwt import JWTClaimsRegistry

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Observer
from lookalike_server.rpc.access.identity import ROLES, UNKNOWN, Identity, Role, is_name, unauthenticated
from lookalike_server.rpc.access.jwks_file import VerificationKey, read_jwks
from lookalike_server.rpc.access.watched_file import WatchedFile

MAX_REMEMBERED = 10_000
"""Verified tokens remembered at once; beyond them the oldest are verified again. Each takes about 300 bytes."""


@dataclass(frozen=True, slots=True)
class JwtRules:
    """Which tokens are accepted.

    Attributes:
        audience: What `aud` must be or contain.
        issuer: What `iss` must be; None for any.
        clock_skew: By how many seconds the issuer's clock and ours may differ.
        roles_claim: The claim with the role, or a list of them, of which the highest counts; others are ignored.
        categories_claim: The claim with the category, or a list of them; a token without it may touch all.
    """

    audience: str
    issuer: str | None = None
    clock_skew: int = 60
    roles_claim: str = "roles"
    categories_claim: str = "categories"


class JwtVerifier:
    """Verifies tokens. Lives on one event loop."""

    def __init__(
        self, jwks: Path, rules: JwtRules, observer: Observer, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Read the public keys of the issuer.

        Raises:
            LookalikeError: FAILED_PRECONDITION where the file cannot be used.
        """
        self._rules = rules
        self._wall_clock = wall_clock
        self._remembered: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        self._keys = WatchedFile(jwks, read_jwks, observer, self._remembered.clear)
        claims: dict[str, Any] = {
            "sub": {"essential": True},
            "exp": {"essential": True},
            "aud": {"essential": True, "value": rules.audience},
        }
        if rules.issuer:
            claims["iss"] = {"essential": True, "value": rules.issuer}
        self._claims = JWTClaimsRegistry(now=lambda: int(wall_clock()), leeway=rules.clock_skew, **claims)

    @property
    def remembered(self) -> int:
        """How many verified tokens are remembered."""
        return len(self._remembered)

    def reload(self) -> None:
        """Read the public keys again now."""
        self._keys.reload()

    def find(self, token: str) -> Identity:
        """Return whom a token stands for.

        Raises:
            LookalikeError: UNAUTHENTICATED where it is not valid, PERMISSION_DENIED where it has no role here.
        """
        self._keys.refresh()
        # The hash, so that tokens do not stay in memory.
        digest = hashlib.sha256(token.encode()).digest()
        known = self._remembered.get(digest)
        if known is not None:
            if self._wall_clock() < known[0]:
                return known[1]
            del self._remembered[digest]
            raise unauthenticated(_EXPIRED)
        claims = self._verified(token)
        identity = self._identity(claims)
        self._remembered[digest] = (min(claims["exp"], _FAR) + self._rules.clock_skew, identity)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return identity

    def _verified(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token whose signature, audience and times are right."""
        try:
            claims = self._signed(token)
        except Exception:  # noqa: BLE001 - whatever a hostile token makes of a parser, it is not valid
            claims = None
        if claims is None:
            raise unauthenticated(UNKNOWN)
        # From here on the issuer has signed it, so that its holder may know what is wrong.
        try:
            self._claims.validate(dict(claims))
        except ExpiredTokenError:
            raise unauthenticated(_EXPIRED) from None
        except (MissingClaimError, InvalidClaimError) as error:
            raise unauthenticated(_CLAIM_ERRORS.get(error.claim, UNKNOWN)) from None
        except Exception:  # noqa: BLE001 - as above
            raise unauthenticated(UNKNOWN) from None
        return claims

    def _signed(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims that a key of the file has signed; None where none has."""
        header = jws.extract_compact(token.encode()).headers()
        algorithm, key_id = header.get("alg"), header.get("kid")
        for each in self._keys.content:
            if each.algorithm == algorithm and (key_id is None or each.key_id in (None, key_id)):
                claims = _decoded(token, each)
                if claims is not None:
                    return claims
        return None

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name = claims["sub"]
        if not is_name(name):
            raise unauthenticated("the token's `sub` must be printable text of 1 to 128 characters")
        rules = self._rules
        roles = [role for role in map(Role.named, _listed(claims.get(rules.roles_claim))) if role is not None]
        if not roles:
            raise LookalikeError(
                Code.PERMISSION_DENIED,
                f"the token has no role of this server; its claim `{rules.roles_claim}` must have one of {ROLES}",
            )
        if rules.categories_claim not in claims:
            return Identity(name, max(roles))
        categories = _listed(claims[rules.categories_claim])
        if not categories or not all(isinstance(each, str) and each for each in categories):
            raise unauthenticated(
                f"the token's claim `{rules.categories_claim}` must be a list of names; without it, it is for all"
            )
        return Identity(name, max(roles), frozenset(categories))


_FAR = 1e12  # seconds; a clock is compared with it, which an integer too large for a float cannot be

_EXPIRED = "the token has expired; get a new one"

_NOT_YET = "the token is not valid yet; its issuer's clock may be ahead of this server's"

_CLAIM_ERRORS = {
    "exp": "the token has no valid `exp`; the server accepts only tokens that expire",
    "nbf": _NOT_YET,
    "iat": _NOT_YET,
    "aud": "the token is for another audience than this server",
    "iss": "the token is of an issuer that this server does not accept",
    "sub": "the token has no valid `sub`",
}


def _decoded(token: str, key: VerificationKey) -> Mapping[str, Any] | None:
    public: Key = key.key
    try:
        return jwt.decode(token, public, algorithms=[key.algorithm]).claims
    except Exception:  # noqa: BLE001 - another key may have signed it
        return None


def _listed(claim: object) -> list[Any]:
    """Return a claim as a list: issuers write one value without the brackets."""
    return claim if isinstance(claim, list) else [] if claim is None else [claim]
