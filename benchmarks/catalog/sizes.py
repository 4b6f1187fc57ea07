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
        upserts: Upserts a second of such turns.
        starts: Starts of each kind.
        rest_seconds: How long to wait for graphs.
        crossover_rows: The sizes of categories between comparing all rows and a graph.
        crossover_segments: The sizes of segments; the largest is the usual one there.
        crossover_dims: Dimensions of the vectors there; with all but `dim` only the usual settings are measured.
        crossover_bytes: Vectors of a category are not larger there, so long ones come in fewer sizes.
        placeholder_rows: Rows of the category where many are the same.
        placeholders: How many of them are.
        tiny: Categories of one product each.
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
    upserts: tuple[float, ...] = (200.0, 500.0)
    starts: int = 3
    rest_seconds: float = 400.0
    crossover_rows: tuple[int, ...] = (250, 1_000, 2_000, 4_000, 8_000, 16_384)
    crossover_segments: tuple[int, ...] = (4_096, 8_192, 65_536)
    crossover_dims: tuple[int, ...] = (512, 2_048, 100_352)
    crossover_bytes: int = 2**30
    placeholder_rows: int = 3_000
    placeholders: int = 300
    tiny: int = 100_000

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
            upserts=(50.0, 100.0),
            starts=1,
            rest_seconds=60.0,
            crossover_rows=(250, 600),
            crossover_segments=(300, 65_536),
            crossover_dims=(512, 2_048),
            placeholder_rows=600,
            placeholders=60,
            tiny=1_000,
        )
