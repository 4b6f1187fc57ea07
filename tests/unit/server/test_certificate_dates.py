"""Dates of certificates, read without a library, beside what the library reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from lookalike_server.rpc.certificate_dates import certificate_dates
from support.pem_files import Authority

NOW = datetime(2026, 5, 4, 12, 30, 59, tzinfo=UTC)


def read_by_library(pem: bytes) -> list[tuple[datetime, datetime]]:
    """Return the dates that the library reads."""
    return [(each.not_valid_before_utc, each.not_valid_after_utc) for each in x509.load_pem_x509_certificates(pem)]


@pytest.mark.parametrize(
    "dates",
    [
        {},
        {"not_before": NOW, "not_after": NOW + timedelta(days=1)},
        {"not_before": datetime(1999, 1, 2, tzinfo=UTC), "not_after": datetime(2049, 12, 31, tzinfo=UTC)},
        {"not_before": NOW, "not_after": datetime(2050, 1, 1, tzinfo=UTC)},
        {"not_before": NOW, "not_after": datetime(2999, 1, 1, tzinfo=UTC)},
    ],
)
def test_dates_are_those_of_the_library(tmp_path: Path, dates: dict[str, datetime]) -> None:
    """Both forms of time that certificates have are read, to the second, of a chain as well."""
    authority = Authority(tmp_path)
    pem = authority.pair("a", "host.example", **dates).certificate.read_bytes() + authority.pem.read_bytes()
    assert len(read_by_library(pem)) >= 2
    assert certificate_dates(pem.decode()) == read_by_library(pem)


def test_many_names(tmp_path: Path) -> None:
    """A certificate whose parts need lengths of several bytes is read too."""
    names = [f"host{number}.example.com" for number in range(3000)]
    pem = Authority(tmp_path).pair("a", *names).certificate.read_bytes()
    assert certificate_dates(pem.decode()) == read_by_library(pem)


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA"])
def test_no_certificate(text: str) -> None:
    """What is no certificate in PEM is a ValueError."""
    with pytest.raises(ValueError, match="certificate"):
        certificate_dates(text)


def test_damaged_certificates() -> None:
    """Cut and flipped certificates are a ValueError or have dates; nothing else is raised."""
    pem = trustme.CA().cert_pem.bytes().decode()
    head, *lines, tail = pem.strip().splitlines()
    readable = 0
    for position in range(len("".join(lines))):
        body = "".join(lines)
        for damaged in (body[: position - position % 4], body[:position] + "/" + body[position + 1 :]):
            try:
                readable += len(certificate_dates(f"{head}\n{damaged}\n{tail}\n"))
            except ValueError:
                continue
    assert readable
