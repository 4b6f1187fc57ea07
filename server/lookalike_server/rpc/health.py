"""Asks a server for its health: for the `health` command, and through it for container engines."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

# What gRPC's details say where a connection over TLS, or in the clear to a server with TLS, does not come about.
_REASONS = (
    ("certificate has expired", "its certificate has expired"),
    ("certificate is not yet valid", "its certificate is not valid yet"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by a trusted CA; see --ca"),
    ("Hostname Verification Check failed", "its certificate is for another host name; see --server-name"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
    (
        "Socket closed",
        "it closed the connection: it expects TLS (--tls, --ca), or a client certificate (--cert, --key)",
    ),
)


class ProbeError(Exception):
    """A file for TLS cannot be used, or the options do not go together; `str()` of it is one line."""


@dataclass(frozen=True, slots=True)
class ProbeTls:
    """How to encrypt the connection; all files are PEM.

    Attributes:
        ca: The CAs to trust; None for those that gRPC trusts.
        certificate: The prober's certificate, for a server that requires one.
        key: The key of `certificate`.
        server_name: The name that the server's certificate must have; None for the host of the target.
        own_certificate: The server's own certificate, trusted whatever its names are: the prober has it from the
            server's configuration, and calls it by an address such as 127.0.0.1 that no CA signs.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    own_certificate: Path | None = None

    def channel(self, target: str, options: list[tuple[str, Any]], timeout: float) -> grpc.Channel:
        """Open a channel.

        Raises:
            ProbeError: A file cannot be read, or a certificate comes without its key.
        """
        if (self.certificate is None) != (self.key is None):
            raise ProbeError("--cert and --key belong together: give both or neither")
        trusted = self.ca or self.own_certificate
        name = self.server_name
        if name is None and self.ca is None and self.own_certificate:
            name = certificate_name(target, self.own_certificate, timeout)
        if name:
            options = [*options, ("grpc.ssl_target_name_override", name)]
        credentials = grpc.ssl_channel_credentials(_read(trusted), _read(self.key), _read(self.certificate))
        return grpc.secure_channel(target, credentials, options)


def ask_health(target: str, timeout: float, tls: ProbeTls | None = None, service: str = "") -> str:
    """Ask the server at HOST:PORT for the health of a service, or its own under the empty name.

    Returns:
        "SERVING", "NOT_SERVING", or why no answer came in `timeout` seconds.
    """
    # No proxy: probers are on this host or network, and the proxies of the environment are for others.
    options = [("grpc.enable_http_proxy", 0)]
    try:
        channel = tls.channel(target, options, timeout) if tls else grpc.insecure_channel(target, options)
    except ProbeError as error:
        return f"no answer from {target}: {error}"
    with channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stub lacks the methods
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout, wait_for_ready=False)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return f"no answer from {target}: it knows no {service!r}; try liveness, readiness or startup"
            return f"no answer from {target}: {_reason(error)}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def certificate_name(target: str, certificate: Path, timeout: float) -> str | None:
    """Return a name of the server's certificate, which must be this one; None where the server shows none.

    gRPC cannot leave a certificate's names alone, so they are read from a handshake that does.

    Raises:
        ProbeError: The certificate cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise ProbeError(f"{certificate} holds no certificate in PEM format") from error
    except OSError as error:
        raise ProbeError(f"{certificate} cannot be read: {error.strerror}") from error
    host, _, port = target.rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout) as raw,
            context.wrap_socket(raw) as secured,
        ):
            found = secured.getpeercert() or {}
    except (OSError, ValueError):
        # The call fails for the same reason, and gRPC says why.
        return None
    names: Any = found.get("subjectAltName", ())
    return next((str(name) for kind, name in names if kind in {"DNS", "IP Address"}), None)


def _reason(error: grpc.RpcError) -> str:
    details = error.details() or ""
    reason = next((words for fragment, words in _REASONS if fragment in details), None)
    return f"{error.code().name}: {reason}" if reason else str(error.code().name)


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise ProbeError(f"{path} cannot be read: {error.strerror}") from error
