"""The tables of the catalog's scenarios: the indexes side by side, and the crossover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.catalog.bench import OURS, Cell
from benchmarks.catalog.crossover import Point, pays_from

_MISSING = Cell(None, "not measured")


def side_by_side_table(values: Mapping[str, Mapping[str, Cell]], names: Sequence[str]) -> str:
    """Return the values of every index in its own terms, as Markdown; the remarks are footnotes."""
    if not values:
        return ""
    indexes = [OURS, *names]
    lines = [f"| | {' | '.join(indexes)} |", f"|---|{'---|' * len(indexes)}"]
    remarks: list[str] = []
    for row, of_row in values.items():
        cells = []
        for index in indexes:
            cell = of_row.get(index, _MISSING)
            text = "-" if cell.value is None else f"{cell.value.median:.3g}"
            if cell.remark:
                if cell.remark not in remarks:
                    remarks.append(cell.remark)
                text += f" ({remarks.index(cell.remark) + 1})"
            cells.append(text)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"({at}) {remark}" for at, remark in enumerate(remarks, 1))]) + "\n"


def crossover_table(points: Sequence[Point]) -> str:
    """Return a graph's p50 over that of comparing all rows, and its recall, by size and setting, as Markdown."""
    lines = [
        "| dimensions | rows | M | ef | max_segment_rows "
        "| all rows, ms | graph, ms | graph over all rows | recall@10 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for point in points:
        graph = "-" if point.graph_ms is None else f"{point.graph_ms.median:.3f}"
        ratio = "-" if point.ratio is None else str(point.ratio)
        lines.append(
            f"| {point.dim} | {point.rows} | {point.m} | {point.ef} | {point.max_segment_rows} "
            f"| {point.flat_ms.median:.3f} | {graph} | {ratio} | {point.recall:.4f} |"
        )
    lines.append("")
    for dim, rows in pays_from(points).items():
        lines.append(f"{dim} dimensions: " + ("no graph pays" if rows is None else f"a graph pays from {rows} rows on"))
    return "\n".join(lines) + "\n"
