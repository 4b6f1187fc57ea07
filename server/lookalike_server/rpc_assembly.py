"""Builds the gRPC server from the settings: where it listens, who may call, and what a call may take."""

from __future__ import annotations

import structlog

from lookalike_server.config import Settings
from lookalike_server.domain.calls import BeginSpan
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Observer
from lookalike_server.rpc.audit_log import AuditLog
from lookalike_server.rpc.auth import Authenticator
from lookalike_server.rpc.channel_options import ConnectionLimits
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.interceptors.calls import CallLimits
from lookalike_server.rpc.listening import Address, check_exposure, parse_listen
from lookalike_server.rpc.message_limits import message_limits
from lookalike_server.rpc.quotas import Quotas, read_quotas
from lookalike_server.rpc.server import RpcServer
from lookalike_server.rpc.tls import Certificates, TlsFiles


def listen_address(settings: Settings) -> Address:
    """Return where to listen.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it is no address, or other machines could reach it unprotected.
    """
    address = parse_listen(settings.listen)
    check_exposure(
        address,
        encrypted=settings.tls_certificate_file is not None,
        authenticated=any((settings.auth_keys_file, settings.jwt_jwks_file, settings.tls_client_ca_file)),
        insecure=settings.insecure,
        allow_anonymous=settings.allow_anonymous,
    )
    return address


def rpc_server(
    settings: Settings,
    gate: Gate,
    observer: Observer,
    begin_span: BeginSpan | None = None,
    *,
    shares_port: bool = False,
) -> RpcServer:
    """Make a gRPC server in front of this gate.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the files of keys, of quotas or of TLS cannot be used.
    """
    log = structlog.get_logger()
    certificates = None
    if settings.tls_certificate_file and settings.tls_key_file:
        files = TlsFiles(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)
        certificates = Certificates(files, lambda why: log.warning("certificates_not_reloaded", why=why))
    return RpcServer(
        gate,
        _authenticator(settings, observer),
        Quotas(read_quotas(settings.quotas_file)) if settings.quotas_file else Quotas(),
        observer,
        limits=CallLimits(
            messages=message_limits(settings.max_message_bytes, settings.max_image_bytes),
            max_response_bytes=settings.max_message_bytes,
            default_deadline_seconds=settings.default_deadline_seconds,
            message_timeout=settings.message_timeout_seconds,
        ),
        connections=ConnectionLimits(
            max_connections=settings.max_connections,
            max_streams_per_connection=settings.max_streams_per_connection,
            keepalive_seconds=settings.keepalive_seconds,
            max_idle_seconds=settings.max_idle_seconds,
            max_message_bytes=settings.max_message_bytes,
            shares_port=shares_port,
        ),
        message_bytes=settings.max_inflight_message_bytes,
        certificates=certificates,
        audit_log=None
        if settings.audit_log is None
        else AuditLog(settings.audit_log, settings.audit_log_max_bytes, settings.audit_log_max_files, observer),
        begin_span=begin_span,
    )


def _authenticator(settings: Settings, observer: Observer) -> Authenticator:
    tokens = None
    if settings.jwt_jwks_file is not None:
        if not settings.jwt_audience:
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                "jwt_jwks_file needs jwt_audience: set it to what the issuer puts into `aud` for this server, or tokens"
                " for any other would be accepted too",
            )
        # Here, because the library behind it takes a tenth of a second to import, and most servers do not need it.
        from lookalike_server.rpc.access.json_web_tokens import JwtRules, JwtVerifier

        rules = JwtRules(
            settings.jwt_audience,
            settings.jwt_issuer,
            settings.jwt_clock_skew_seconds,
            settings.jwt_roles_claim,
            settings.jwt_categories_claim,
        )
        tokens = JwtVerifier(settings.jwt_jwks_file, rules, observer)
    return Authenticator(
        observer,
        keys_file=settings.auth_keys_file,
        tokens=tokens,
        client_certificates=settings.tls_client_ca_file is not None,
        trust_forwarded_for=settings.trust_forwarded_for,
    )
