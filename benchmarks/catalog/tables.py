"""What a run of the catalog's figures prints beside the common table: the systems side by side, and the crossover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.catalog.bench import OURS, Cell
from benchmarks.catalog.crossover import Point
from benchmarks.catalog.memory import MEMORY
from benchmarks.catalog.pressure import P99
from benchmarks.catalog.search import P50, RECALL
from benchmarks.catalog.startup import START
from benchmarks.catalog.writes import UPSERTS

_ROWS = (P50, RECALL, P99, UPSERTS, START, MEMORY)
_MISSING = Cell(None, "not measured")


def side_by_side(beside: Mapping[str, Mapping[str, Cell]], names: Sequence[str]) -> str:
    """Every system's figures in its own terms, as Markdown; the remarks are footnotes."""
    if not beside:
        return ""
    systems = [OURS, *names]
    lines = [f"| | {' | '.join(systems)} |", f"|---|{'---|' * len(systems)}"]
    remarks: list[str] = []
    for row in _ROWS:
        cells = []
        for system in systems:
            cell = beside.get(row, {}).get(system, _MISSING)
            text = "-" if cell.value is None else f"{cell.value.median:.3g}"
            if cell.remark:
                if cell.remark not in remarks:
                    remarks.append(cell.remark)
                text += f" ({remarks.index(cell.remark) + 1})"
            cells.append(text)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"({at}) {remark}" for at, remark in enumerate(remarks, 1))]) + "\n"


def crossover_table(points: Sequence[Point]) -> str:
    """Each size and setting: the graph's p50 over that of comparing all rows, and its recall, as Markdown."""
    lines = [
        "| rows | M | ef | max_segment_rows | all rows, ms | graph, ms | graph over all rows | recall@10 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in points:
        graph = "-" if point.graph_ms is None else f"{point.graph_ms.median:.3f}"
        ratio = "-" if point.ratio is None else str(point.ratio)
        lines.append(
            f"| {point.rows} | {point.m} | {point.ef} | {point.max_segment_rows} | {point.flat_ms.median:.3f} "
            f"| {graph} | {ratio} | {point.recall:.4f} |"
        )
    return "\n".join(lines) + "\n"
