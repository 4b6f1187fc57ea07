"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from lookalike_server.domain.errors import Code, LookalikeError

UNKNOWN = "the token is unknown, was revoked, or was not issued for this server"
"""What callers get where anything about a token is wrong that only its issuer should know."""


class Role(IntEnum):
    """What a caller may do; each may also do what those below it may."""

    READER = 1
    WRITER = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: object) -> Role | None:
        """Return the role of this name in lower case; None where there is none."""
        return _BY_NAME.get(name) if isinstance(name, str) else None

    @property
    def label(self) -> str:
        """Its name, as files, claims and messages have it."""
        return self.name.lower()


_BY_NAME = {role.label: role for role in Role}

ROLES = ", ".join(_BY_NAME)

MAX_NAME = 128
"""The most characters of a caller's name."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller.

    Attributes:
        name: What quotas, fair shares and the audit log know it by; callers with the same name are one.
        role: What it may do.
        categories: The only categories that it may search, read and write; None for all.
    """

    name: str
    role: Role
    categories: frozenset[str] | None = None


def is_name(value: object) -> bool:
    """Whether this can be the name of a caller, or a category: printable, not empty, and not too long."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable() and value.strip() == value


def unauthenticated(message: str) -> LookalikeError:
    """UNAUTHENTICATED: what the call came with is not valid."""
    return LookalikeError(Code.UNAUTHENTICATED, message)
