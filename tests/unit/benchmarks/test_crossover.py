"""From which size on a graph pays."""

from __future__ import annotations

from benchmarks.catalog.crossover import USUAL_EF, USUAL_M, Point, pays_from
from benchmarks.catalog.tables import crossover_table
from benchmarks.rounds import Spread


def point(dim: int, rows: int, ratio: float | None, ef: int = USUAL_EF, max_segment_rows: int = 65_536) -> Point:
    """Return a size whose graph takes `ratio` of the time; None where the server searched no graph."""
    flat = Spread.of([2.0])
    if ratio is None:
        return Point(dim, rows, USUAL_M, ef, max_segment_rows, flat, None, None, 1.0)
    return Point(dim, rows, USUAL_M, ef, max_segment_rows, flat, Spread.of([2 * ratio]), Spread.of([ratio]), 1.0)


def test_a_graph_pays_from_where_no_larger_size_is_slower() -> None:
    """A size at which a graph happened to be faster does not count where a larger one was slower."""
    points = [point(512, rows, ratio) for rows, ratio in ((250, 0.9), (1_000, 1.2), (4_000, 0.8), (8_000, 0.4))]
    assert pays_from(points) == {512: 4_000}


def test_other_settings_and_other_dimensions_are_apart() -> None:
    """Each length of vectors has its own answer, of the usual settings alone."""
    points = [
        *(point(512, rows, ratio) for rows, ratio in ((1_000, 0.9), (4_000, 0.5))),
        *(point(512, rows, 3.0, ef=200) for rows in (1_000, 4_000)),
        point(512, 4_000, 3.0, max_segment_rows=1_000),
        *(point(100_352, rows, ratio) for rows, ratio in ((250, 0.5), (2_000, 1.1))),
    ]
    assert pays_from(points) == {512: 1_000, 100_352: None}
    table = crossover_table(points)
    assert "512 dimensions: a graph pays from 1000 rows on" in table
    assert "100352 dimensions: no graph pays" in table


def test_a_size_without_a_graph_does_not_pay() -> None:
    """Where the server compared all rows there is nothing that could pay."""
    assert pays_from([point(2_048, 1_000, None), point(2_048, 4_000, 0.5)]) == {2_048: 4_000}
    assert pays_from([]) == {}
