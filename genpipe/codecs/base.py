"""A codec: records <-> arrays, fitted by statistics that merge, kept as plain JSON.

    stats = Codec.observe(batch, schema, config)  one object per batch of the training split
    stats = stats.merge(other)                    associative, commutative: any partition, the same codec
    codec = Codec.build(schema, stats, config)
    arrays = codec.encode(batch, layout)          {"x": (B, *shape), "condition": (B, K)[, "mask": (B, T)]}
    batch  = codec.decode(arrays, layout, rng)    the ingest schema, always valid

The condition fields (`schema.conditions`) never enter `x`: they travel as `condition`, so every generator
of every kind is conditional in the same way, and `draw_conditions` gives their training-split frequencies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from genpipe.codecs.sketch import add_counts
from genpipe.errors import DataError, UsageError, closest, unknown
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

Arrays = dict[str, np.ndarray]
VERSION = 2  # of codec.json; raise it when an older file would be read wrongly


class CodecConfig(BaseModel):
    """What a user may set of a codec; every kind reads what concerns it.

    bins: quantile bins of a number as tokens. rare_below: categories seen less often than this are
    merged into `rare` (0 keeps all). dependencies: columns of a table that another one decides are found
    and kept exactly. context: tokens per text record. frames: samples an audio record keeps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bins: int = 100
    rare_below: int = 0
    dependencies: bool = True
    context: int = 128
    frames: int = 4096


class Stats(ABC):
    """Mergeable statistics of a piece of the training split: counts, extremes, samples; no float sums."""

    @abstractmethod
    def merge(self, other: Any) -> Stats:
        """The statistics of both pieces together; order does not matter."""


class Codec(ABC):
    """Subclasses set `kind` and `layouts` (the default layout first) and hold only JSON-able state."""

    kind: ClassVar[str]
    layouts: ClassVar[tuple[str, ...]]
    schema: Schema
    conditions: ConditionTable

    @classmethod
    @abstractmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> Stats: ...

    @classmethod
    def observes(cls, schema: Schema) -> list[str]:
        """The columns `observe` looks at; the others need not be read."""
        return list(schema.names)

    @classmethod
    @abstractmethod
    def build(cls, schema: Schema, stats: Any, config: CodecConfig) -> Codec: ...

    @abstractmethod
    def spec(self, layout: str) -> TensorSpec:
        """The tensors `encode(layout)` makes."""

    @abstractmethod
    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays: ...

    @abstractmethod
    def decode(self, arrays: Arrays, layout: str, rng: np.random.Generator) -> pa.RecordBatch: ...

    @abstractmethod
    def tolerance(self, layout: str) -> dict[str, float]:
        """Largest |decode(encode(x)) - x| per field, 0 = exact; for choices and text the share of changed
        values, for audio see there. It holds for values like those of the training split."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    @abstractmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> Codec: ...

    def header(self) -> dict[str, Any]:
        return {"version": VERSION, "kind": self.kind}

    def check_layout(self, layout: str) -> None:
        if layout not in self.layouts:
            raise UsageError(
                "LAYOUT", found=f"layout {layout!r} for {self.kind} data", expected=" or ".join(self.layouts)
            )

    def draw_conditions(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        return self.conditions.draw(rows, rng)


class ConditionTable(BaseModel):
    """The joint distribution of the condition fields in the training split.

    values[k]: the classes of field k in code order (None = missing). cells: (code_0, .., code_K-1, count).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    names: tuple[str, ...] = ()
    values: tuple[tuple[str | bool | None, ...], ...] = ()
    cells: tuple[tuple[int, ...], ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(v) for v in self.values)

    @classmethod
    def from_counts(
        cls, names: tuple[str, ...], counts: dict[tuple[str | bool | None, ...], int], *, rare_below: int = 0
    ) -> ConditionTable:
        """rare_below: a combination of classes seen less often is left out, and never generated."""
        counts = {key: n for key, n in counts.items() if n >= rare_below}
        if names and not counts:
            raise DataError(
                "CLASSES",
                where=", ".join(names),
                found=f"no class of {rare_below} rows",
                fix="lower codec.rare_below",
            )
        order = [
            sorted({key[k] for key in counts}, key=lambda v: (v is None, str(v))) for k in range(len(names))
        ]
        codes = [{value: i for i, value in enumerate(values)} for values in order]
        cells = sorted((*(codes[k][v] for k, v in enumerate(key)), n) for key, n in counts.items())
        return cls(names=names, values=tuple(map(tuple, order)), cells=tuple(cells))

    def codes(self, batch: pa.RecordBatch) -> np.ndarray:
        """(B, K) codes of the condition fields; a class training did not show counts as the commonest."""
        out = np.zeros((batch.num_rows, len(self.names)), dtype=np.int32)
        for k, (name, values) in enumerate(zip(self.names, self.values, strict=True)):
            column = batch.column(name)
            if pa.types.is_boolean(column.type):  # index_in knows no booleans
                column = column.cast(pa.int8())
            known = pa.array(values, batch.column(name).type).cast(column.type)
            out[:, k] = (
                pc.index_in(column, known).fill_null(self._commonest(k)).to_numpy(zero_copy_only=False)
            )
        return out

    def _commonest(self, k: int) -> int:
        totals = np.bincount([cell[k] for cell in self.cells], weights=[cell[-1] for cell in self.cells])
        return int(totals.argmax())

    def columns(self, schema: Schema, codes: np.ndarray) -> dict[str, pa.Array]:
        """(B, K) codes -> the condition fields; a code beyond the classes becomes the last one."""
        out = {}
        for k, (name, values) in enumerate(zip(self.names, self.values, strict=True)):
            known = pa.array(values, schema.field(name).arrow())
            out[name] = known.take(pa.array(np.clip(codes[:, k], 0, len(values) - 1), pa.int64()))
        return out

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        if not self.names:
            return np.zeros((rows, 0), dtype=np.int32)
        cells = np.asarray(self.cells)
        return cells[spread_draws(cells[:, -1], rows, rng), :-1].astype(np.int32)

    def code(self, name: str, value: Any) -> int:
        """The code of a class, given as it is or as its text."""
        if name not in self.names:
            raise unknown("condition", name, self.names)
        classes = [str(v) for v in self.values[self.names.index(name)]]
        if str(value) not in classes:
            raise UsageError(
                "CONDITION",
                where=name,
                found=repr(value),
                expected="one of " + ", ".join(classes[:20]),
                fix=closest(str(value), classes),
            )
        return classes.index(str(value))


def spread_draws(weights: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """(rows,) indices drawn by weight, in random order, each as often as its share says to within one row
    (systematic sampling: Madow 1949): a block of rows should not miss the marginal by chance."""
    upto = np.cumsum(weights, dtype=np.float64)
    marks = (rng.random() + np.arange(rows)) / max(1, rows) * upto[-1]
    return rng.permutation(np.minimum(np.searchsorted(upto, marks, side="right"), len(upto) - 1))


def check_version(kind: str, data: dict[str, Any]) -> None:
    """Refuse a codec.json of another kind or of a version this code does not read."""
    if data.get("kind") != kind:
        raise UsageError("CODEC", where="codec.json", found=f"kind {data.get('kind')!r}", expected=repr(kind))
    if data.get("version") != VERSION:
        raise UsageError(
            "CODEC",
            where="codec.json",
            found=f"version {data.get('version')!r}",
            expected=f"version {VERSION}",
            fix="train again with this genpipe, or install the genpipe that wrote it",
        )


def count_conditions(
    batch: pa.RecordBatch, names: tuple[str, ...]
) -> dict[tuple[str | bool | None, ...], int]:
    """How often each combination of the condition fields occurs in a batch."""
    if not names:
        return {}
    counted = pa.Table.from_batches([batch]).group_by(list(names)).aggregate([([], "count_all")])
    keys = zip(*(counted.column(n).to_pylist() for n in names), strict=True)
    return dict(zip(keys, counted.column("count_all").to_pylist(), strict=True))


@dataclass(frozen=True)
class RowStats(Stats):
    """All that kinds need whose values need no fitting: how many rows, and which classes."""

    rows: int
    conditions: dict[tuple[str | bool | None, ...], int]

    @classmethod
    def of(cls, batch: pa.RecordBatch, schema: Schema) -> RowStats:
        return cls(batch.num_rows, count_conditions(batch, schema.conditions))

    def merge(self, other: RowStats) -> RowStats:
        return RowStats(self.rows + other.rows, add_counts(self.conditions, other.conditions))

    def table(self, schema: Schema, config: CodecConfig) -> ConditionTable:
        return ConditionTable.from_counts(schema.conditions, self.conditions, rare_below=config.rare_below)


def fit(
    codec: type[Codec], schema: Schema, batches: Iterable[pa.RecordBatch], config: CodecConfig | None = None
) -> Codec:
    """Observe, merge, build: the one-process way to a codec."""
    config = config or CodecConfig()
    stats: Stats | None = None
    for batch in batches:
        seen = codec.observe(batch, schema, config)
        stats = seen if stats is None else stats.merge(seen)
    if stats is None:
        raise DataError("NOROWS", found="0 training rows", expected="at least 1 row to fit a codec")
    return codec.build(schema, stats, config)
