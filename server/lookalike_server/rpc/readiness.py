"""Whether a server is to get calls, or why not: what gRPC's health says, with its reason."""

from __future__ import annotations

from enum import IntEnum


class Readiness(IntEnum):
    """Health says SERVING for one of these, and NOT_SERVING for the others; processes share them as numbers."""

    STARTING = 0
    SERVING = 1
    DRAINING = 2
    ENGINE_LOST = 3
    HUNG = 4
    DAMAGED = 5

    @property
    def sentence(self) -> str:
        """Say it to an operator."""
        return _SENTENCES[self]


_SENTENCES = {
    Readiness.STARTING: "starting: the model and the catalog are being loaded",
    Readiness.SERVING: "serving",
    Readiness.DRAINING: "draining: the server is shutting down",
    Readiness.ENGINE_LOST: "the engine process has ended and is being restarted",
    Readiness.HUNG: "a run of the model or a process hangs, or the GPU failed",
    Readiness.DAMAGED: "the catalog is damaged, and nothing is stored; the log has catalog_damaged with the remedy",
}
