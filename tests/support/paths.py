"""Where things are in a checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "support" / "models"
GOLDEN = ROOT / "tests" / "golden"

SHARED = ROOT.parent / "shared"
"""Real images and products beside the checkout; tests that use them are skipped where it is missing."""
