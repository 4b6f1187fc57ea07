"""Remembers what start-up measured, so that the next start with the same model, processor and settings is immediate."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike_server.domain.inference import BatchProfile, Parity
from lookalike_server.inference.plan import Plan

FILE = "autotune.json"
"""The name of the file in the catalog's folder."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class _Profile(_Strict):
    batch_size: int = Field(ge=1)
    seconds: float = Field(gt=0)
    concurrency: int = Field(ge=1)

    def to_domain(self) -> BatchProfile:
        return BatchProfile(self.batch_size, self.seconds, self.concurrency)


class _Parity(_Strict):
    min_cosine: float
    overlap: float
    within_bounds: bool


class Measured(_Strict):
    """A plan without its sessions, and what was compared to find it.

    Attributes:
        key: Identifies what the measurement depends on; see `cache_key`.
        provider: What was chosen to run the model.
        skipped: What else might have run it, each with the reason why it does not.
    """

    key: str
    provider: str
    profiles: list[_Profile] = Field(min_length=1)
    idle: _Profile
    inline: bool
    parity: _Parity | None
    skipped: list[str]

    @property
    def batch_profiles(self) -> tuple[BatchProfile, ...]:
        """The batches of a busy server, smallest first."""
        return tuple(each.to_domain() for each in self.profiles)

    @property
    def idle_profile(self) -> BatchProfile:
        """A single image on an idle server."""
        return self.idle.to_domain()

    @property
    def known_parity(self) -> Parity | None:
        """How the chosen runtime compares to the reference; None where nothing was compared."""
        parity = self.parity
        return Parity(parity.min_cosine, parity.overlap, parity.within_bounds) if parity else None


def cache_key(*facts: object) -> str:
    """Identify what a measurement depends on: model, versions, processor and settings."""
    return hashlib.sha256(json.dumps([str(fact) for fact in facts]).encode()).hexdigest()


def read_measured(folder: Path, key: str) -> Measured | None:
    """Read what was measured; None where there is nothing, it cannot be read, or something has changed since."""
    try:
        measured = Measured.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return measured if measured.key == key else None


def write_measured(folder: Path, key: str, plan: Plan, parity: Parity | None, skipped: Sequence[str]) -> None:
    """Write what was measured, in one piece.

    Raises:
        OSError: When it cannot be written.
    """
    measured = Measured(
        key=key,
        provider=plan.throughput_session.provider,
        profiles=[_profile(each) for each in plan.profiles],
        idle=_profile(plan.idle),
        inline=plan.inline,
        parity=_Parity(**asdict(parity)) if parity else None,
        skipped=list(skipped),
    )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{FILE}.{os.getpid()}"
    temporary.write_text(measured.model_dump_json(indent=2), encoding="utf-8")
    temporary.replace(folder / FILE)


def _profile(profile: BatchProfile) -> _Profile:
    return _Profile(**asdict(profile))
