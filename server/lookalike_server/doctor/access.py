"""Who may call: the files of keys, tokens, quotas and TLS, as a start would read them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from lookalike_server.config import Settings
from lookalike_server.doctor.finding import Fact, Finding, Status, error, ok, skipped, warning
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.rpc.access.keys_file import read_keys
from lookalike_server.rpc.certificate_dates import certificate_dates
from lookalike_server.rpc.quotas import read_quotas
from lookalike_server.rpc.tls import TlsFiles, read_files

SOON = timedelta(days=14)
"""Before the end of a certificate; one that is renewed by itself is renewed a month before, or a third of its time."""


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return the files of TLS; None without."""
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    return TlsFiles(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)


def check_auth_keys(path: Path | None) -> Finding:
    """Check that the file of API keys is its owner's alone, can be read and has a key."""
    if path is None:
        return skipped("auth_keys", "auth_keys_file is not set")
    try:
        keys = len(read_keys(path).entries)
    except LookalikeError as problem:
        return error("auth_keys", problem.message)
    if not keys:
        return warning(
            "auth_keys",
            f"{path} has no key: nobody can call",
            f"lookalike-server keys add NAME --role reader --auth-keys-file {path}",
            keys=0,
        )
    return ok("auth_keys", f"{path}: {keys} keys, readable by their owner only", keys=keys)


def check_jwks(path: Path | None, audience: str | None) -> Finding:
    """Check that the file of an issuer's public keys can be used."""
    if path is None:
        return skipped("jwks", "jwt_jwks_file is not set")
    if not audience:
        return error("jwks", "jwt_jwks_file needs jwt_audience", "set it to what the claim `aud` of tokens must be")
    from lookalike_server.rpc.access.jwks_file import read_jwks  # its library is needed for tokens only

    try:
        keys = len(read_jwks(path))
    except LookalikeError as problem:
        return error("jwks", problem.message)
    return ok("jwks", f"{path}: {keys} keys", keys=keys)


def check_quotas(path: Path | None) -> Finding:
    """Check that the file of quotas can be used."""
    if path is None:
        return skipped("quotas", "quotas_file is not set")
    try:
        table = read_quotas(path)
    except LookalikeError as problem:
        return error("quotas", problem.message)
    return ok("quotas", f"{path}: quotas of {len(table.callers)} callers", callers=len(table.callers))


def check_certificate(files: TlsFiles | None, now: datetime, *, only_dates: bool = False) -> Finding:
    """Check the server's certificate: readable, its key's, the key not everybody's, and valid for a while yet.

    Args:
        files: Of TLS; None without.
        now: By the clock, with a time zone.
        only_dates: Leave the rest to the start, which checks it.
    """
    if files is None:
        return skipped("certificate", "tls_certificate_file is not set")
    try:
        if not only_dates:
            read_files(files)
    except LookalikeError as problem:
        return error("certificate", problem.message)
    finding = _check_dates("certificate", files.certificate, now)
    if finding.status is not Status.OK or files.client_ca is None:
        return finding
    authorities = _check_dates("certificate", files.client_ca, now, any_of_them=True)
    return finding if authorities.status is Status.OK else authorities


def _check_dates(check: str, path: Path, now: datetime, *, any_of_them: bool = False) -> Finding:
    """Judge a file by the certificate that ends first; of authorities, any of which will do, by the last."""
    try:
        dates = certificate_dates(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError) as problem:
        return error(check, f"the dates of {path} cannot be read: {problem}")
    begins = min(dates)[0] if any_of_them else max(begin for begin, _ in dates)
    ends = (max if any_of_them else min)(end for _, end in dates)
    facts: dict[str, Fact] = {"file": str(path), "expires": ends.isoformat(), "days_left": (ends - now).days}
    if now >= ends:
        return error(
            check,
            f"{path} expired on {ends:%Y-%m-%d}: clients do not connect",
            "renew it; the server reads it again",
            **facts,
        )
    if now < begins:
        return error(
            check,
            f"{path} is valid from {begins:%Y-%m-%d %H:%M} UTC on, and the clock says {now:%Y-%m-%d %H:%M}",
            "see the clock, or replace the certificate",
            **facts,
        )
    if ends - now < SOON:
        return warning(
            check,
            f"{path} expires on {ends:%Y-%m-%d}, in {(ends - now).days} days",
            "renew it; the server reads it again by itself",
            **facts,
        )
    return ok(check, f"{path} is valid until {ends:%Y-%m-%d}, and its key fits", **facts)
