"""The rows of one category on the device, in half precision, in blocks of bounded size.

A block only grows at its end, so that a view, which knows how many rows it shows, needs no lock. A few large blocks
make few runs. The last block is replaced by a larger one when it is full, and one with deleted rows by one without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lookalike_server.device_search.memory import Buffer, DeviceMemory
from lookalike_server.device_search.rounding import ROUNDING, RowErrors
from lookalike_server.device_search.runs import MAX_QUERIES, Operand, Runs
from lookalike_server.domain.inference import Floats
from lookalike_server.index.device import Candidates, DeviceMatrix, DeviceView, Mask
from lookalike_server.index.row_storage import Rows, Slots, rows_in

BLOCK_BYTES = 1 << 30
"""The most bytes of a block's rows: those of a run."""

MAX_BLOCK_ROWS = 1 << 20
"""The most rows of a block, whose scores take 128 bytes each."""

_PIECE_BYTES = 8 << 20  # of float32 rows that are rounded at a time
_GROWTH = 1.5  # of the last block, when it is full
_MIN_LIVE = 2 / 3  # of a block's rows; with fewer, the live ones are copied


@dataclass(frozen=True, slots=True)
class Block:
    """Rows on the device, as they were at one moment.

    Attributes:
        rows: float16 [capacity, dim] on the device.
        allowed: bool [capacity] on the device: which rows were live.
        slots: int64 [capacity], each row's slot in the category, ascending; -1 where it is gone.
        count: How many rows there are.
        errors: Of the rows.
    """

    rows: Buffer
    allowed: Buffer
    slots: Slots
    count: int
    errors: RowErrors

    def live(self, live: Mask) -> Mask:
        """Return which of the rows are live, bool [count], by slot (bool [slots])."""
        slots = self.slots[: self.count]
        return live[slots] & (slots >= 0)


@dataclass(frozen=True, slots=True)
class MatrixView(DeviceView):
    """The rows on the device at one moment."""

    runs: Runs
    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        """Count the rows, with deleted ones."""
        return sum(block.count for block in self.blocks)

    def candidates(self, queries: Floats, count: int, allowed: Mask | None = None) -> Candidates:
        """Find the rows with the highest scores (see `DeviceView`)."""
        halves = queries.astype(np.float16)
        count = min(count, self.runs.max_count)
        operands = list(self._operands(allowed))
        parts = []
        for begin in range(0, len(queries), MAX_QUERIES):
            found = self.runs.best(halves[begin : begin + MAX_QUERIES], operands, count)
            slots = [_slots(block, positions) for block, (_, positions) in zip(self.blocks, found, strict=True)]
            parts.append(_highest(np.concatenate([scores for scores, _ in found], axis=1), np.hstack(slots), count))
        scores, slots_ = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Candidates(scores, slots_, self._errors.of_queries(queries, halves), ROUNDING)

    def scores(self, query: Floats, allowed: Mask | None = None) -> tuple[Floats, Slots]:
        """Return the score of every row (see `DeviceView`)."""
        found = self.runs.scores(query[np.newaxis].astype(np.float16), list(self._operands(allowed)))
        return (
            np.concatenate([scores[: block.count] for block, scores in zip(self.blocks, found, strict=True)]),
            np.concatenate([block.slots[: block.count] for block in self.blocks]),
        )

    @property
    def _errors(self) -> RowErrors:
        errors = RowErrors()
        for block in self.blocks:
            errors = errors.with_rows(block.errors)
        return errors

    def _operands(self, allowed: Mask | None) -> Iterator[Operand]:
        for block in self.blocks:
            rows = _padded(block.count, self.runs.chunk_rows)
            if allowed is None:
                yield Operand(block.rows, rows, block.allowed)
            else:
                mask = np.zeros(rows, dtype=np.bool_)
                mask[: block.count] = block.live(allowed)
                yield Operand(block.rows, rows, mask)


class Matrix(DeviceMatrix):
    """The rows of one category on the device."""

    def __init__(self, dim: int, runs: Runs, memory: DeviceMemory, block_bytes: int = BLOCK_BYTES) -> None:
        """Begin with no row; `block_bytes` as in `BLOCK_BYTES`."""
        self._dim = dim
        self._runs = runs
        self._memory = memory
        self._blocks: tuple[Block, ...] = ()
        chunk = runs.chunk_rows
        self._block_rows = max(chunk, min(MAX_BLOCK_ROWS, block_bytes // (2 * dim)) // chunk * chunk)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, without those of runs."""
        return sum(each.rows.size + each.allowed.size for each in self._blocks)

    def view(self) -> MatrixView:
        """Return the rows as they are now."""
        return MatrixView(self._runs, self._blocks)

    def append(self, vectors: Floats, slots: Slots, expected: int = 0) -> None:
        """Add rows (see `DeviceMatrix`)."""
        while len(slots):
            last = self._last(max(expected, len(slots)))
            rows = min(len(last.slots) - last.count, rows_in(_PIECE_BYTES, self._dim))
            self._blocks = (*self._blocks[:-1], self._with_rows(last, vectors[:rows], slots[:rows]))
            vectors, slots, expected = vectors[rows:], slots[rows:], expected - rows

    def refresh(self, live: Mask) -> None:
        """Note which rows are live (see `DeviceMatrix`)."""
        blocks = []
        for block in self._blocks:
            allowed = self._memory.allocate(block.allowed.size)
            mask = np.zeros(_padded(block.count, self._runs.chunk_rows), dtype=np.bool_)
            mask[: block.count] = block.live(live)
            self._memory.copy_in(allowed.address, mask)
            blocks.append(replace(block, allowed=allowed))
        self._blocks = tuple(blocks)

    def moved(self, moved: Slots) -> MatrixView:
        """Return the rows with other slots (see `DeviceMatrix`)."""
        blocks = []
        for block in self._blocks:
            slots = block.slots.copy()
            before = slots[: block.count]
            slots[: block.count] = np.where(before >= 0, moved[before], -1)
            blocks.append(replace(block, slots=slots))
        return MatrixView(self._runs, tuple(blocks))

    def use(self, view: DeviceView) -> None:
        """Go on from a view (see `DeviceMatrix`)."""
        assert isinstance(view, MatrixView)  # noqa: S101 - one of `moved`
        self._blocks = view.blocks

    def stale(self, live: Mask) -> int | None:
        """Return a block to compact (see `DeviceMatrix`)."""
        for number, block in enumerate(self._blocks):
            if np.count_nonzero(block.live(live)) < _MIN_LIVE * block.count:
                return number
        return None

    def compact(self, number: int, vectors: Rows, live: Mask, wait: Callable[[], object]) -> None:
        """Replace a block by one with its live rows (see `DeviceMatrix`)."""
        # With the next one where both fit, so that there are always few.
        first = min(number, max(0, len(self._blocks) - 2))
        slots = self._live_slots(self._blocks[first : first + 2], live)
        end = first + 2
        if len(slots) > self._block_rows:
            first, end = number, number + 1
            slots = self._live_slots(self._blocks[first:end], live)
        kept: tuple[Block, ...] = ()
        if len(slots):
            compacted = self._allocated(len(slots))
            step = rows_in(_PIECE_BYTES, self._dim)
            for begin in range(0, len(slots), step):
                wait()
                piece = slots[begin : begin + step]
                compacted = self._with_rows(compacted, vectors[piece], piece)
            kept = (compacted,)
        self._blocks = (*self._blocks[:first], *kept, *self._blocks[end:])

    @staticmethod
    def _live_slots(blocks: Sequence[Block], live: Mask) -> Slots:
        return np.concatenate([each.slots[: each.count][each.live(live)] for each in blocks])

    def _last(self, rows: int) -> Block:
        """Return the last block, with room for so many more rows or as many as a block may have."""
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.count >= self._block_rows:
            last = self._allocated(rows)
            self._blocks = (*self._blocks, last)
        elif last.count + rows > len(last.slots) < self._block_rows:
            last = self._larger(last, max(last.count + rows, int(_GROWTH * last.count)))
            self._blocks = (*self._blocks[:-1], last)
        return last

    def _allocated(self, rows: int) -> Block:
        """Allocate a block for so many rows, or as many as a block may have."""
        capacity = _padded(min(rows, self._block_rows), self._runs.chunk_rows)
        self._runs.reserve(capacity, self._dim)
        memory = self._memory
        rows_, allowed = memory.allocate(2 * capacity * self._dim), memory.allocate(capacity)
        return Block(rows_, allowed, np.full(capacity, -1), 0, RowErrors())

    def _larger(self, block: Block, rows: int) -> Block:
        larger = self._allocated(rows)
        used = _padded(block.count, self._runs.chunk_rows)
        self._memory.copy(larger.rows.address, block.rows.address, 2 * used * self._dim)
        self._memory.copy(larger.allowed.address, block.allowed.address, used)
        larger.slots[: block.count] = block.slots[: block.count]
        return replace(larger, count=block.count, errors=block.errors)

    def _with_rows(self, block: Block, vectors: Floats, slots: Slots) -> Block:
        """Return a block with rows, for which there is room, in its memory: views of it do not show them."""
        begin, end, chunk = block.count, block.count + len(slots), self._runs.chunk_rows
        halves = vectors.astype(np.float16)
        padding = np.zeros((_padded(end, chunk) - max(end, _padded(begin, chunk)), self._dim), dtype=np.float16)
        # First, because the rest of a chunk that a run compares must not be NaN.
        for first, rows in ((_padded(end, chunk) - len(padding), padding), (begin, halves)):
            self._memory.copy_in(block.rows.address + 2 * first * self._dim, rows)
            self._memory.copy_in(block.allowed.address + first, np.full(len(rows), rows is halves))
        block.slots[begin:end] = slots
        return replace(block, count=end, errors=block.errors.with_rows(RowErrors.of(vectors, halves)))


def _padded(rows: int, chunk_rows: int) -> int:
    return -(-rows // chunk_rows) * chunk_rows


def _slots(block: Block, positions: Slots) -> Slots:
    """Return the slots of positions, int64 [q, count]; -1 of those without a row, or with one added later."""
    slots = block.slots[positions]
    slots[positions >= block.count] = -1
    return slots


def _highest(scores: Floats, slots: Slots, count: int) -> tuple[Floats, Slots]:
    """Return the highest scores of each query, float32 [q, count], and their slots, of more of them: [q, n]."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(slots, order, axis=1)
