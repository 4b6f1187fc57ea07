"""TLS: the server's certificate and key, and the authorities of clients' certificates, read again when they change.

gRPC asks for them before each handshake, so a new certificate is in force for the next connection, and open ones go on.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.access.watched_file import file_version

_Versions = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files.

    Attributes:
        certificate: The server's certificate, and those between it and a root.
        key: Its private key, not encrypted, readable by its owner and group only.
        client_ca: Authorities, one of which must have signed each client's certificate; None to ask for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Certificates:
    """What the files had when they were last good.

    Attributes:
        certificate: The certificates in force: PEM, the server's own first.
    """

    certificate: bytes

    def __init__(self, files: TlsFiles, warn: Callable[[str], None]) -> None:
        """Read the files.

        Args:
            files: Which.
            warn: Takes why files that changed are not used; the old ones stay in force.

        Raises:
            LookalikeError: FAILED_PRECONDITION when they cannot be read or do not fit together.
        """
        self._files = files
        self._warn = warn
        self._versions = self._look()
        self._initial = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files; TLS 1.2 or newer, as gRPC allows no older one."""
        return grpc.dynamic_ssl_server_credentials(
            self._initial, self._changed, require_client_authentication=self._files.client_ca is not None
        )

    def reload(self) -> None:
        """Read the files before the next handshake, also where they look unchanged."""
        self._versions = ()

    def _changed(self) -> Any:
        """Return a new configuration, or None to go on with the present one; gRPC's threads call it."""
        versions = self._look()
        if versions == self._versions:
            return None
        self._versions = versions  # also where they are not good, so that this is said once
        try:
            return self._read()
        except LookalikeError as error:
            self._warn(error.message)
            return None

    def _look(self) -> _Versions:
        files = self._files
        return tuple(file_version(each) for each in (files.certificate, files.key, files.client_ca) if each)

    def _read(self) -> Any:
        pair, roots = read_files(self._files)
        self.certificate = pair[1]
        return grpc.ssl_server_certificate_configuration([pair], roots)


def read_files(files: TlsFiles) -> tuple[tuple[bytes, bytes], bytes | None]:
    """Read and check the files: the key and the certificate, and the authorities.

    Raises:
        LookalikeError: FAILED_PRECONDITION when they cannot be read or do not fit together.
    """
    check_private(files.key)
    try:
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        roots = files.client_ca.read_bytes() if files.client_ca else None
    except OSError as error:
        raise _unusable(f"cannot read {error.filename}: {error.strerror}") from None
    _check(files)
    return pair, roots


def check_private(path: Path) -> None:
    """Check that a file with secrets is not everybody's.

    Raises:
        LookalikeError: FAILED_PRECONDITION when others may read or write it, or it is not there.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unusable(f"cannot read {path}: {error.strerror}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise _unusable(
            f"{path} has secrets and others may use it (mode {stat.S_IMODE(mode):04o}); run `chmod 600 {path}`"
        )


def _check(files: TlsFiles) -> None:
    """Check the files with OpenSSL, whose reasons are better than none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def password() -> str:
        raise _unusable(f"the key {files.key} is encrypted; store it without a passphrase, readable by its owner only")

    try:
        context.load_cert_chain(files.certificate, files.key, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unusable(f"the key {files.key} is not that of the certificate {files.certificate}") from None
        raise _unusable(
            f"{files.certificate} and {files.key} are not a PEM certificate and its PEM key ({error.reason})"
        ) from None
    except OSError as error:
        raise _unusable(f"cannot read {error.filename or files.key}: {error.strerror}") from None
    if files.client_ca is None:
        return
    try:
        context.load_verify_locations(files.client_ca)
    except (OSError, ssl.SSLError):
        raise _unusable(f"{files.client_ca} has no PEM certificates of authorities") from None


def _unusable(why: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, f"TLS: {why}")
