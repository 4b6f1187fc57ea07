"""How batches are run: which session takes them, how large they are and how many run at once."""

from __future__ import annotations

from dataclasses import dataclass

from lookalike_server.domain.inference import BatchProfile
from lookalike_server.domain.protocols import Session


@dataclass(frozen=True, slots=True)
class Plan:
    """How batches are run.

    Attributes:
        latency_session: Runs a single image on an idle server.
        throughput_session: Runs batches on a busy one; may be `latency_session` itself.
        max_concurrent_batches: Batches that run at once.
        preferred_batch_size: The most images in a batch.
        profiles: The batch sizes of `throughput_session`, smallest first, with their latencies at that concurrency.
        idle: A single image on `latency_session`, with nothing beside it.
        inline: Whether the event loop runs the model itself, because handing a batch to a thread takes longer.
        slower: The runtimes that were measured too, each with what it reached.
    """

    latency_session: Session
    throughput_session: Session
    max_concurrent_batches: int
    preferred_batch_size: int
    profiles: tuple[BatchProfile, ...]
    idle: BatchProfile
    inline: bool = False
    slower: tuple[str, ...] = ()

    @property
    def batch_profiles(self) -> tuple[BatchProfile, ...]:
        """Every batch size and concurrency that runs."""
        return (
            self.profiles
            if self.latency_session is self.throughput_session and self.max_concurrent_batches == 1
            else (self.idle, *self.profiles)
        )

    @property
    def serialized(self) -> bool:
        """Whether batches compute one after the other and only their copies overlap, as on a GPU."""
        return self.throughput_session.in_flight > 1

    @property
    def prefetch(self) -> int:
        """Batches queued for the threads while all of them are busy, so that no thread waits for the event loop."""
        return 1 if self.max_concurrent_batches > 1 and not self.serialized else 0

    def padded(self, size: int) -> int:
        """Pad a batch size to the next profile where the session has fixed shapes; elsewhere it stays as it is."""
        if not self.throughput_session.fixed_shapes:
            return size
        return next(profile.batch_size for profile in self.profiles if profile.batch_size >= size)

    def close(self) -> None:
        """Close the sessions; nothing may run afterwards."""
        self.throughput_session.close()
        if self.latency_session is not self.throughput_session:
            self.latency_session.close()
