"""Encrypted connections: which server to trust, and the certificate that this client shows."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

_ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
"""gRPC's own variable for other roots than its default ones."""


class TlsError(ValueError):
    """A file of certificates or of a key that cannot be used; `str()` of it names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to encrypt a connection; all files are PEM, and are read when a client is created.

    A server is trusted whose certificate is for the host name, or the IP address, of the client's target.

    Args:
        ca: The certificates of the CAs to trust, or the server's own certificate; None for those of the system.
        certificate: This client's certificate, with its chain, for a server that requires one (mTLS).
        key: The key of `certificate`, not encrypted.

    Raises:
        ValueError: A certificate without its key, or a key without its certificate.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        """Reject half of a client certificate."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate needs its key, and a key its certificate: give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            TlsError: A file cannot be read or holds something else, the key is encrypted or not the certificate's.
        """
        # gRPC reports a bad file only as "Failed to create security handshaker", and only when it is called
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is None:
            roots = _system_roots()
        else:
            roots = _read(self.ca)
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError as error:
                raise TlsError(f"{self.ca} holds no certificates in PEM format") from error
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(roots)
        certificate, key = _read(self.certificate), _read(self.key)
        try:
            context.load_cert_chain(self.certificate, self.key, _reject_encrypted)
        except _EncryptedKeyError as error:
            message = f"{self.key} is encrypted; decrypt it: openssl pkey -in {self.key} -out NEW"
            raise TlsError(message) from error
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise TlsError(f"{self.key} is not the key of the certificate in {self.certificate}") from error
            raise TlsError(
                f"{self.certificate} and {self.key} are not a certificate and its key in PEM format ({error.reason})"
            ) from error
        return grpc.ssl_channel_credentials(roots, key, certificate)


class _EncryptedKeyError(Exception):
    """OpenSSL asks for the password of a key."""


def _reject_encrypted() -> str:
    raise _EncryptedKeyError


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsError(f"{path} cannot be read: {error.strerror}") from error


def _system_roots() -> bytes | None:
    """Return the system's CAs; None for those that gRPC brings along, where the system has no file of them."""
    if os.environ.get(_ROOTS_VARIABLE):
        return None
    try:
        return Path(ssl.get_default_verify_paths().cafile or "").read_bytes()
    except OSError:
        return None
