"""When a certificate is valid, read from its DER.

Importing a library for it takes a tenth of a second of processor time, which a start does not have for two dates.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_END = "-----END CERTIFICATE-----"
_BEGIN = "-----BEGIN CERTIFICATE-----"
_VERSION, _UTC_TIME, _TIME = 0xA0, 0x17, 0x18  # tags of DER


def certificate_dates(pem: str) -> list[tuple[datetime, datetime]]:
    """Return from when and until when each certificate of a PEM file is valid.

    Raises:
        ValueError: It is no PEM file, or a certificate is damaged.
    """
    dates = []
    for part in pem.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        if not end:
            raise ValueError("a certificate without an end")
        dates.append(_dates(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{body}{_END}\n")))
    if not dates:
        raise ValueError("no certificate in PEM")
    return dates


def _dates(der: bytes) -> tuple[datetime, datetime]:
    """Walk to `validity` of `tbsCertificate` (RFC 5280, 4.1): the fifth field, the fourth where there is no version."""
    try:
        (_, certificate), *_ = _fields(der)
        (_, signed), *_ = _fields(certificate)
        fields = list(_fields(signed))
        _, validity = fields[4 if fields[0][0] == _VERSION else 3]
        begin, end = (_time(tag, bytes(text)) for tag, text in _fields(validity))
    except (IndexError, TypeError) as error:
        raise ValueError(f"a damaged certificate: {error}") from None
    return begin, end


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tags and contents of what follows each other in DER."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        if at + length > len(data):
            raise ValueError("a damaged certificate: it is cut off")
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, text: bytes) -> datetime:
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("20" if digits < "50" else "19") + digits  # RFC 5280, 4.1.2.5.1
    elif tag != _TIME:
        raise ValueError("a damaged certificate: no time where one should be")
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
