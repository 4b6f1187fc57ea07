"""Who calls, and whether they may: an API key, a JSON web token, or a client certificate.

Without any of these everybody may do everything, and a caller is its certificate or its address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Observer
from lookalike_server.rpc.access.api_keys import PREFIX
from lookalike_server.rpc.access.authorization_header import Metadata, bearer_token, missing_token
from lookalike_server.rpc.access.identity import UNKNOWN, Identity, Role, unauthenticated
from lookalike_server.rpc.access.keys_file import read_keys
from lookalike_server.rpc.access.watched_file import WatchedFile

WRITES = frozenset(
    f"/lookalike.v1.CatalogService/{method}"
    for method in ("UpsertProducts", "UpdateAttributes", "ImportProducts", "DeleteProducts")
)
"""The methods that a reader may not call."""


class Peer(Protocol):
    """The part of gRPC's context that says who is at the other end of the connection."""

    def peer(self) -> str:
        """Return the address as gRPC writes it."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what TLS knows: the names of a client certificate, which gRPC has verified, among it."""


class TokenVerifier(Protocol):
    """Verifies JSON web tokens."""

    def find(self, token: str) -> Identity:
        """Return whose token it is, or raise UNAUTHENTICATED."""

    def reload(self) -> None:
        """Read the issuer's public keys again now."""


class Authenticator:
    """Checks calls against what the files of credentials say at present. Lives on one event loop."""

    def __init__(
        self,
        observer: Observer,
        *,
        keys_file: Path | None = None,
        tokens: TokenVerifier | None = None,
        client_certificates: bool = False,
        trust_forwarded_for: bool = False,
    ) -> None:
        """Accept these credentials; without any, every call is accepted.

        Args:
            observer: Receives what becomes of new versions of the files.
            keys_file: The file of keys.
            tokens: Verifies JSON web tokens.
            client_certificates: Whether the server requires and verifies them; only then their names are looked at.
            trust_forwarded_for: Whether an address is the last one in `x-forwarded-for`, which a proxy has set.

        Raises:
            LookalikeError: FAILED_PRECONDITION where the file cannot be used, or nobody could call.
        """
        self._keys = WatchedFile(keys_file, read_keys, observer) if keys_file else None
        self._tokens = tokens
        self._client_certificates = client_certificates
        self._trust_forwarded_for = trust_forwarded_for
        if self._keys and not self._keys.content.entries and tokens is None:
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                f"{keys_file} has no key, so nobody could call; add one by `lookalike-server keys add NAME --role"
                f" reader --auth-keys-file {keys_file}`",
            )

    @property
    def is_open(self) -> bool:
        """Whether anybody may call."""
        return self._keys is None and self._tokens is None

    def reload(self) -> None:
        """Read the files again now; of one that cannot be used the last usable version stays in force."""
        if self._keys is not None:
            self._keys.reload()
        if self._tokens is not None:
            self._tokens.reload()

    def identify(self, method: str, metadata: Metadata, peer: Peer) -> Identity:
        """Check a call, and return its caller.

        Args:
            method: The call's full method name.
            metadata: What it came with.
            peer: Its connection. A client certificate counts where the call has no token.

        Raises:
            LookalikeError: UNAUTHENTICATED without valid credentials, PERMISSION_DENIED where the role is too low.
        """
        if self._keys is None and self._tokens is None:
            return Identity(self._anonymous(metadata, peer), Role.ADMIN)
        token = bearer_token(metadata)
        identity = self._by_certificate(metadata, peer) if token is None else self._by_token(token)
        if identity.role < Role.WRITER and method in WRITES:
            raise LookalikeError(
                Code.PERMISSION_DENIED,
                f"this key or token is a {identity.role.label}'s; {method.rpartition('/')[2]} needs a"
                f" {Role.WRITER.label}'s",
            )
        return identity

    def stream_check(self, identity: Identity, metadata: Metadata, peer: Peer) -> Callable[[], None]:
        """Return what a stream calls at each message, which raises UNAUTHENTICATED once its key has been revoked.

        A token that expires meanwhile ends no stream.
        """
        keys, token = self._keys, bearer_token(metadata) if self._keys is not None else None
        if keys is None or (token is not None and not token.startswith(PREFIX)):
            return _no_check
        known = keys.content

        def check() -> None:
            nonlocal known
            keys.refresh()
            if keys.content is not known:
                known = keys.content
                now = self._by_certificate(metadata, peer) if token is None else self._by_token(token)
                if now != identity:
                    raise unauthenticated("the key has been changed meanwhile; begin the stream again")

        return check

    def _by_token(self, token: str) -> Identity:
        if token.startswith(PREFIX):
            if self._keys is not None:
                self._keys.refresh()
                identity = self._keys.content.find(token)
                if identity is not None:
                    return identity
        elif self._tokens is not None:
            return self._tokens.find(token)
        raise unauthenticated(UNKNOWN)

    def _by_certificate(self, metadata: Metadata, peer: Peer) -> Identity:
        names = certificate_names(peer) if self._client_certificates else []
        if self._keys is None or not names:
            raise unauthenticated(missing_token(metadata))
        self._keys.refresh()
        identity = self._keys.content.find_certificate(names)
        if identity is None:
            raise unauthenticated(
                "the client certificate has no role here; send a token, or have its name added by `lookalike-server"
                " keys add --certificate`"
            )
        return identity

    def _anonymous(self, metadata: Metadata, peer: Peer) -> str:
        if self._client_certificates:
            names = certificate_names(peer)
            if names:
                return names[0]
        if self._trust_forwarded_for:
            forwarded = next((str(value) for key, value in metadata if key == "x-forwarded-for"), "")
            if forwarded:
                return forwarded.rpartition(",")[2].strip()[:64]
        # "ipv4:192.0.2.1:40000", "ipv6:%5B2001:db8::1%5D:40000", "unix:/path"
        address = peer.peer()
        return address.rpartition(":")[0] if address.startswith("ip") else address


def _no_check() -> None:
    """Check nothing."""


def certificate_names(peer: Peer) -> list[str]:
    """Return the subject alternative names of the client's certificate (DNS, URI and others), as gRPC verified it."""
    return [name.decode(errors="replace") for name in peer.auth_context().get("x509_subject_alternative_name", ())]
