"""Encoded batches of the training split: any slice of any step's global batch, from any process.

`batch(step, start, stop)` is a pure function of seed and step, so a resumed run reads on where it stopped
and every rank reads its own rows of the same global batch.

resident   the encoded split fits `memory_mb`: arrays in memory; each epoch is one permutation of all rows,
           and the batches are cut from the endless chain of epochs (no short last batch). `balance` draws
           each step's rows anew instead, classes by the logarithm of their frequency
streaming  larger than that: the rows are cut into `LANES` equal virtual lanes, fixed by the data alone. A
           global batch is one equal share of rows from every lane, in lane order; a lane permutes its row
           groups each epoch and shuffles rows within a window of `WINDOW` of them. A rank reads only the
           lanes its slice touches: with 2 workers each reads half of the data, and the batches are the same
           rows in the same order at any number of workers. Memory: 2 windows a lane (one is read ahead).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import Arrays, Codec
from genpipe.dataset import Dataset, Part
from genpipe.errors import DataError, UsageError
from genpipe.seeds import derive, numpy_rng
from genpipe.spec import TensorSpec

MEMORY_MB = 1024
LANES = 8
WINDOW = 2
ITEM_BYTES = {"float32": 4, "int32": 4, "uint8": 1}


class BatchSource(Protocol):
    rows: int

    def batch(self, step: int, *, size: int, start: int, stop: int) -> Arrays:
        """Rows [start, stop) of the global batch of `size` rows of a step."""

    def sample(self, rows: int) -> Arrays:
        """Rows at equal distances over the whole split, in its order; beyond its size, some twice."""


def open_source(
    dataset: Dataset,
    codec: Codec,
    layout: str,
    *,
    seed: int,
    batch_size: int,
    memory_mb: float = MEMORY_MB,
    balance: bool = False,
) -> BatchSource:
    """The training split encoded for a layout: resident if it fits `memory_mb`, else streamed.

    batch_size: of the global batch; fewer rows than lanes would leave some lanes unread for ever.
    balance: draw rows as `balanced` says; of no effect without classes, a UsageError where rows are streamed,
    as those come in an order of their own.
    """
    rows = dataset.rows("train")
    if not rows:
        raise DataError(
            "NOROWS", where=dataset.uri, found="0 rows in the train split", expected="at least 1",
            fix="ingest more rows, or lower holdout",
        )  # fmt: skip
    if rows * row_bytes(codec.spec(layout)) <= memory_mb * 2**20:
        arrays = join([codec.encode(b, layout) for b in dataset.batches("train")])
        return Resident(arrays, seed=seed, balance=balance)
    if balance:
        raise UsageError(
            "BALANCE",
            where="training.balance",
            found=f"{rows} training rows, which do not fit {memory_mb:g} MB of memory encoded",
            expected="fewer rows: those of a class are drawn from all over the data",
            fix="set balance to false",
        )
    return Streaming(dataset, codec, layout, seed=seed, lanes=min(LANES, batch_size))


def row_bytes(spec: TensorSpec) -> int:
    """Bytes of one encoded row, with condition and a possible mask."""
    size = int(np.prod(spec.shape))
    mask = spec.shape[0] if spec.layout in ("tokens", "sequence") else 0
    return size * ITEM_BYTES[spec.dtype] + 4 * len(spec.conditions) + mask


def join(pieces: list[Arrays]) -> Arrays:
    return {key: np.concatenate([p[key] for p in pieces]) for key in pieces[0]}


class Resident:
    """All rows in memory."""

    def __init__(self, arrays: Arrays, *, seed: int, balance: bool = False) -> None:
        self.arrays, self.seed, self.rows = arrays, seed, len(arrays["x"])
        classes = arrays.get("condition", np.zeros((self.rows, 0))).shape[1]
        self.upto = balanced(arrays["condition"]).cumsum() if balance and classes else None
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        return numpy_rng(self.seed, "order", epoch).permutation(self.rows)

    def batch(self, step: int, *, size: int, start: int, stop: int) -> Arrays:
        rows = self._rows(step, size, start, stop)
        return {key: array[rows] for key, array in self.arrays.items()}

    def _rows(self, step: int, size: int, start: int, stop: int) -> np.ndarray:
        if self.upto is not None:
            drawn = numpy_rng(self.seed, "balanced", step).random(size)[start:stop]
            at_random: np.ndarray = np.searchsorted(self.upto, drawn * self.upto[-1], side="right")
            return at_random
        at, end = step * size + start, step * size + stop
        pieces = []
        while at < end:
            epoch, offset = divmod(at, self.rows)
            take = min(end - at, self.rows - offset)
            pieces.append(self._order(epoch)[offset : offset + take])
            at += take
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def sample(self, rows: int) -> Arrays:
        picked = np.arange(rows) * self.rows // rows
        return {key: array[picked] for key, array in self.arrays.items()}


def balanced(condition: np.ndarray) -> np.ndarray:
    """(N, K) classes -> (N,) chance of each row in a batch balanced over them.

    Training by sampling (CTGAN, Xu et al. 2019, section 4.3): a condition field at random, of it a class by
    the logarithm of its frequency, of that a row at random; here as one weight a row.
    """
    chances: np.ndarray = np.zeros(len(condition))
    for classes in condition.T:
        counts = np.bincount(classes)
        logs = np.log1p(counts)
        chances += (logs / logs.sum() / np.maximum(counts, 1))[classes]
    chances /= condition.shape[1]
    return chances


class Streaming:
    """Row groups read as they are needed, by lanes."""

    def __init__(self, dataset: Dataset, codec: Codec, layout: str, *, seed: int, lanes: int = LANES) -> None:
        self.dataset, self.codec, self.layout = dataset, codec, layout
        self.rows = dataset.rows("train")
        pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self.lanes = [
            _Lane(self._read, blocks, derive(seed, "lane", k), pool)
            for k, blocks in enumerate(_deal(dataset, min(lanes, self.rows)))
        ]

    def _read(self, block: Block) -> list[Arrays]:
        """The encoded rows of a block."""
        with self.dataset.reading(block.part) as file:
            table = file.read_row_group(block.group).slice(block.start, block.rows)
        if table.num_rows != block.rows:
            raise self.dataset.damaged(block.part, f"{table.num_rows} rows of a block", f"{block.rows}")
        batches = (self.dataset.typed(block.part, batch) for batch in table.to_batches())
        return [self.codec.encode(batch, self.layout) for batch in batches]

    def batch(self, step: int, *, size: int, start: int, stop: int) -> Arrays:
        pieces = []
        for k, lane in enumerate(self.lanes):
            first, last = k * size // len(self.lanes), (k + 1) * size // len(self.lanes)
            share = last - first
            low, high = max(start, first) - first, min(stop, last) - first
            if low < high:
                pieces += lane.read(step * share + low, step * share + high)
        return join(pieces)

    def sample(self, rows: int) -> Arrays:
        picked, at, pieces = np.arange(rows) * self.rows // rows, 0, []
        for batch in self.dataset.batches("train"):
            low, high = np.searchsorted(picked, [at, at + batch.num_rows])
            if low < high:
                mine = batch.take(pa.array(picked[low:high] - at))
                pieces.append(self.codec.encode(mine, self.layout))
            at += batch.num_rows
        return join(pieces)


@dataclass(frozen=True)
class Block:
    """Rows [start, start + rows) of one row group."""

    part: Part
    group: int
    start: int
    rows: int


class _Lane:
    """An endless stream of this lane's rows, readable from any position."""

    def __init__(
        self,
        source: Callable[[Block], list[Arrays]],
        blocks: list[Block],
        seed: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.source, self.blocks, self.seed, self.pool = source, blocks, seed, pool
        self.rows = sum(block.rows for block in blocks)
        self._windows: dict[tuple[int, int], Future[Arrays]] = {}
        self._plan = lru_cache(maxsize=2)(self._plan_epoch)

    def _plan_epoch(self, epoch: int) -> tuple[list[list[int]], list[int]]:
        """The epoch's windows (numbers of blocks) and the row at which each ends."""
        order = numpy_rng(self.seed, "blocks", epoch).permutation(len(self.blocks)).tolist()
        windows = [order[i : i + WINDOW] for i in range(0, len(order), WINDOW)]
        return windows, list(accumulate(sum(self.blocks[b].rows for b in window) for window in windows))

    def read(self, at: int, end: int) -> list[Arrays]:
        pieces = []
        while at < end:
            epoch, offset = divmod(at, self.rows)
            ends = self._plan(epoch)[1]
            number = int(np.searchsorted(ends, offset, side="right"))
            begin = ends[number - 1] if number else 0
            take = min(end - at, ends[number] - offset)
            arrays = self._window(epoch, number)
            pieces.append({key: a[offset - begin : offset - begin + take] for key, a in arrays.items()})
            at += take
        return pieces

    def _window(self, epoch: int, number: int) -> Arrays:
        """The shuffled rows of a window; the one after it is read in the background."""
        after = (epoch, number + 1) if number + 1 < len(self._plan(epoch)[0]) else (epoch + 1, 0)
        wanted = ((epoch, number), after)
        for key in wanted:
            if key not in self._windows:
                self._windows[key] = self.pool.submit(self._load, *key)
        for key in [k for k in self._windows if k not in wanted]:
            del self._windows[key]
        return self._windows[epoch, number].result()

    def _load(self, epoch: int, number: int) -> Arrays:
        window = self._plan_epoch(epoch)[0][number]
        arrays = join([piece for block in window for piece in self.source(self.blocks[block])])
        order = numpy_rng(self.seed, "rows", epoch, number).permutation(len(arrays["x"]))
        return {key: a[order] for key, a in arrays.items()}


def _deal(dataset: Dataset, lanes: int) -> list[list[Block]]:
    """Lane k gets training rows [k N / lanes, (k+1) N / lanes); a row group on a border is shared."""
    total, at = dataset.rows("train"), 0
    dealt: list[list[Block]] = [[] for _ in range(lanes)]
    for part in dataset.parts("train"):
        with dataset.reading(part) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        if sum(sizes) != part.rows:
            raise dataset.damaged(part, f"{sum(sizes)} rows", f"{part.rows}")
        for group, rows in enumerate(sizes):
            for k, lane in enumerate(dealt):
                low, high = max(at, k * total // lanes), min(at + rows, (k + 1) * total // lanes)
                if low < high:
                    lane.append(Block(part, group, low - at, high - low))
            at += rows
    return dealt
