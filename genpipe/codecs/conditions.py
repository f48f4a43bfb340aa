"""The fields a generator is conditioned on: how often their classes occur, and draws that do alike."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genpipe.codecs.holders import coarse
from genpipe.codecs.stored import check_legal
from genpipe.errors import DataError, UsageError, closest, unknown
from genpipe.fields import AnyField
from genpipe.schema import Schema

Counts = dict[tuple[str | bool | None, ...], int]


class ConditionTable(BaseModel):
    """The joint distribution of the condition fields in the training split.

    values[k]: the classes of field k in code order (None = missing). cells: (code_0, .., code_K-1, count).
    label: the class that stands for rare ones, where they are protected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    names: tuple[str, ...] = ()
    values: tuple[tuple[str | bool | None, ...], ...] = ()
    cells: tuple[tuple[Annotated[int, Field(ge=0, lt=2**53)], ...], ...] = ()
    label: str | None = None

    @model_validator(mode="after")
    def _check(self) -> ConditionTable:
        if len(self.values) != len(self.names) or any(not v or len(set(v)) < len(v) for v in self.values):
            raise ValueError("conditions need classes of each field, all of them different")
        if any(len(cell) != len(self.names) + 1 for cell in self.cells) or (self.names and not self.cells):
            raise ValueError("conditions need cells of a code of each field and a count")
        if self.names:
            table = np.asarray(self.cells)
            if (table[:, :-1] >= self.sizes).any() or not table[:, -1].sum() > 0:
                raise ValueError("conditions need counts of the classes that there are, not all of them 0")
        return self

    @classmethod
    def read(cls, schema: Schema, data: Any) -> ConditionTable:
        """From codec.json; a ValueError where it is not of the schema's condition fields."""
        table = cls.model_validate(data)
        if table.names != schema.conditions:
            raise ValueError(f"conditions {list(table.names)}, of the schema {list(schema.conditions)}")
        for name, values in zip(table.names, table.values, strict=True):
            field = schema.field(name).model_copy(update={"nullable": True})
            check_legal(field, pa.array(values, field.arrow()))
        return table

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(v) for v in self.values)

    @classmethod
    def from_counts(
        cls,
        names: tuple[str, ...],
        counts: Counts,
        *,
        rare: Collection[tuple[str | bool | None, ...]] = (),
        least: int = 0,
        label: str | None = None,
    ) -> ConditionTable:
        """rare: combinations that fewer than `least` entities have; they are left out, and never generated,
        or, where there is a label, it takes the place of their texts.
        """
        kept = {key: n for key, n in counts.items() if key not in rare}
        if label is not None:
            for key, n in _labelled({k: n for k, n in counts.items() if k in rare}, label).items():
                if n >= least and label in key:
                    kept[key] = kept.get(key, 0) + n
        if names and not kept:
            raise DataError(
                "CLASSES",
                where=", ".join(names),
                found=f"no class of {least} entities",
                fix="lower codec.rare_below, or keep all with codec.rare: keep",
            )
        counts = {key: int(n) for key, n in zip(kept, coarse(list(kept.values()), least), strict=True)}
        order = [
            sorted({key[k] for key in counts}, key=lambda v: (v is None, str(v))) for k in range(len(names))
        ]
        codes = [{value: i for i, value in enumerate(values)} for values in order]
        cells = sorted((*(codes[k][v] for k, v in enumerate(key)), n) for key, n in counts.items())
        return cls(names=names, values=tuple(map(tuple, order)), cells=tuple(cells), label=label)

    def codes(self, batch: pa.RecordBatch) -> np.ndarray:
        """(B, K) codes of the condition fields; an unseen class counts as the label, or as the commonest."""
        out = np.zeros((batch.num_rows, len(self.names)), dtype=np.int32)
        for k, (name, values) in enumerate(zip(self.names, self.values, strict=True)):
            column = batch.column(name)
            if pa.types.is_boolean(column.type):  # index_in knows no booleans
                column = column.cast(pa.int8())
            known = pa.array(values, batch.column(name).type).cast(column.type)
            out[:, k] = pc.index_in(column, known).fill_null(self._unseen(k)).to_numpy(zero_copy_only=False)
        return out

    def _unseen(self, k: int) -> int:
        if self.label in self.values[k]:
            return self.values[k].index(self.label)
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


def _labelled(counts: Counts, label: str) -> Counts:
    """Counts in which the label replaces all texts."""
    out: Counts = {}
    for key, n in counts.items():
        key = tuple(label if isinstance(v, str) else v for v in key)
        out[key] = out.get(key, 0) + n
    return out


def spread_draws(weights: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """(rows,) indices drawn by weight, in random order, each as often as its share says to within one row
    (systematic sampling: Madow 1949): a block of rows should not miss the marginal by chance."""
    upto = np.cumsum(weights, dtype=np.float64)
    marks = (rng.random() + np.arange(rows)) / max(1, rows) * upto[-1]
    return rng.permutation(np.minimum(np.searchsorted(upto, marks, side="right"), len(upto) - 1))


def count_conditions(batch: pa.RecordBatch, names: tuple[str, ...]) -> Counts:
    """How often each combination of the condition fields occurs in a batch."""
    if not names:
        return {}
    counted = pa.Table.from_batches([batch]).group_by(list(names)).aggregate([([], "count_all")])
    keys = zip(*(counted.column(n).to_pylist() for n in names), strict=True)
    return dict(zip(keys, counted.column("count_all").to_pylist(), strict=True))


def check_label(field: AnyField, label: str, number: int) -> None:
    """The label that stands for `number` rare values must be legal in a column with a pinned list."""
    pinned = getattr(field, "values", None)
    if pinned is not None and label not in pinned:
        raise UsageError(
            "RARE",
            where=f"codec.rare_label: {field.name}",
            found=f"{label!r} should replace {number} rare values, but the schema's values do not list it",
            expected=f"one of {', '.join(pinned[:10])}",
            fix="set codec.rare_label to one of them, or add it to `values` in the schema file",
        )
