"""Why no connection came about, read from what gRPC says about it; gRPC has one code for all of it: UNAVAILABLE."""

from __future__ import annotations

from enum import Enum

_NO_CONNECTION = "failed to connect to all addresses"


class ConnectionFailure(Enum):
    """What is wrong with a connection; the value is a sentence for users."""

    EXPIRED = "the server's certificate has expired"
    NOT_YET_VALID = "the server's certificate is not valid yet, by this machine's clock"
    UNTRUSTED = "the server's certificate is not signed by a trusted CA"
    WRONG_NAME = "the server's certificate is for another host name than the one that was called"
    NOT_TLS = "the server does not speak TLS"
    CLIENT_CERTIFICATE = "the server does not accept this client's certificate, or requires one"
    CLOSED = "the server closed the connection at once: it expects TLS, or a client certificate of a CA that it trusts"

    @property
    def permanent(self) -> bool:
        """Whether trying again is of no use; a server that starts or stops may close connections too."""
        return self is not ConnectionFailure.CLOSED


# in this order: the first that is found in gRPC's words
_FRAGMENTS = (
    ("certificate has expired", ConnectionFailure.EXPIRED),
    ("certificate is not yet valid", ConnectionFailure.NOT_YET_VALID),
    # the server's alerts about the client's certificate
    ("ALERT_CERTIFICATE_REQUIRED", ConnectionFailure.CLIENT_CERTIFICATE),
    ("ALERT_BAD_CERTIFICATE", ConnectionFailure.CLIENT_CERTIFICATE),
    ("ALERT_CERTIFICATE_EXPIRED", ConnectionFailure.CLIENT_CERTIFICATE),
    ("ALERT_CERTIFICATE_UNKNOWN", ConnectionFailure.CLIENT_CERTIFICATE),
    ("ALERT_UNKNOWN_CA", ConnectionFailure.CLIENT_CERTIFICATE),
    ("CERTIFICATE_VERIFY_FAILED", ConnectionFailure.UNTRUSTED),
    ("Hostname Verification Check failed", ConnectionFailure.WRONG_NAME),
    ("WRONG_VERSION_NUMBER", ConnectionFailure.NOT_TLS),
    ("Socket closed", ConnectionFailure.CLOSED),
    ("Connection reset by peer", ConnectionFailure.CLOSED),
    ("Broken pipe", ConnectionFailure.CLOSED),
)


def connection_failure(details: str) -> ConnectionFailure | None:
    """Return why gRPC could not connect; None where its words are about something else, such as no server at all."""
    if _NO_CONNECTION not in details:
        return None
    return next((failure for fragment, failure in _FRAGMENTS if fragment in details), None)
