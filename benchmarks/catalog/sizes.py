"""How much is measured: the full size, and one that tests the harness in a minute and proves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of one run.

    Attributes:
        rounds: Paired rounds of each result.
        seconds: Length of a turn.
        concurrency: Calls under way in a closed loop of upserts.
        flags: Further flags of our server.
        partitions: Categories with a graph.
        rows: Rows of each.
        queries: Queries of each.
        dim: Dimensions of a vector.
        many: Categories of the catalog that has many; the rows are the same ones.
        pressed_seconds: Length of a turn of searches beside upserts, long enough for a p99.
        searches: Searches a second of such a turn.
        upserts: Upserts a second of such a turn.
        starts: Starts of each kind.
        rest_seconds: How long to wait for graphs.
        crossover_rows: The sizes of categories between comparing all rows and a graph.
        crossover_segments: The sizes of segments; the largest is the usual one there.
    """

    rounds: int
    seconds: float
    concurrency: int
    flags: tuple[str, ...]
    partitions: int = 3
    rows: int = 20_000
    queries: int = 1_000
    dim: int = 2_048
    many: int = 300
    pressed_seconds: float = 8.0
    searches: float = 100.0
    upserts: float = 500.0
    starts: int = 3
    rest_seconds: float = 400.0
    crossover_rows: tuple[int, ...] = (250, 1_000, 2_000, 4_000, 8_000, 16_384)
    crossover_segments: tuple[int, ...] = (4_096, 8_192, 16_384)

    def quick(self) -> Sizes:
        """Return the same things, few of each; small categories get graphs, so that there is something to measure."""
        return replace(
            self,
            rounds=min(self.rounds, 2),
            seconds=min(self.seconds, 0.5),
            flags=("--full-scan-threshold", "200", *self.flags),
            rows=600,
            queries=40,
            many=30,
            pressed_seconds=1.5,
            upserts=100.0,
            starts=2,
            rest_seconds=60.0,
            crossover_rows=(250, 600),
            crossover_segments=(300, 16_384),
        )
