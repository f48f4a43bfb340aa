"""Tables: every column its own code (layout `tokens`; of many values two digits) or span of a vector.

Condition fields travel beside x; identifiers, free text and constant columns take no position and are
made again on decoding. The encoding follows what led the field: quantile bins with exact atoms for
spikes and repeated values (Tiwald et al. 2025, "TabularARGN", arXiv 2501.12012, here with modelled tails)
and, for vectors, mode-specific scalars (Xu et al. 2019, "CTGAN", arXiv 1907.00503, here with one smooth
normal score and exact modes in place of a Gaussian mixture). Columns that constraints or dependencies
make from others are not learnt: the columns here are those of `Relations.fields`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import Arrays, CodecConfig, RowStats, check_version
from genpipe.codecs.columns import Column, Fixed, Learnt, Placeholder, assemble
from genpipe.codecs.conditions import ConditionTable
from genpipe.codecs.holders import WHO, entities
from genpipe.codecs.sketch import SAMPLE_CELLS, SAMPLE_ROWS, Sample, hash_rows
from genpipe.codecs.stored import UNREADABLE
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.codecs.tabular.choice import Choice
from genpipe.codecs.tabular.numeric import Scale, observe_number
from genpipe.codecs.tabular.relations import Relations
from genpipe.codecs.tabular.stats import TabularStats, count_values, find_holders, make_column
from genpipe.codecs.tabular.writing import ladders
from genpipe.constraints import CHOICES, NUMBERS
from genpipe.documents import first_line
from genpipe.errors import DataError, UsageError
from genpipe.schema import Schema
from genpipe.spec import UNOBSERVED, Span, TensorSpec

WIDEST_VECTOR = 20_000
COLUMNS: dict[str, type[Column]] = {c.type: c for c in (Choice, Scale, Fixed, Placeholder)}


class TabularCodec(ColumnCodec):
    kind = "tabular"
    layouts = ("tokens", "vector")

    def __init__(
        self,
        schema: Schema,
        columns: Iterable[Column],
        conditions: ConditionTable,
        relations: Relations | None = None,
    ) -> None:
        self.schema, self.columns, self.conditions = schema, tuple(columns), conditions
        self.relations = relations or Relations(schema)
        # a target of the network's own comes first: whatever else is made is made given it
        learnt = [c for c in self.columns if isinstance(c, Learnt)]
        self.learnt = tuple(sorted(learnt, key=lambda c: c.field.name != schema.target))
        if not self.learnt:
            names = ", ".join(f"{c.field.name} ({c.type})" for c in self.columns) or "none beside the target"
            raise DataError(
                "NOTHING",
                found=f"no column to learn: {names}",
                expected="at least one column of two values or more",
            )

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> TabularStats:
        relations = Relations(schema, apart=None if config.calendar else ())
        hashes = hash_rows(batch.columns, batch.num_rows)
        who = entities(batch, schema) if config.rare_below else None
        related = relations.observe(batch, who, config)
        batch, own = relations.reduce(batch), relations.observed
        numbers, payload = {}, {}
        for field in schema.fields:
            nulls = batch.column(field.name).null_count
            if nulls and not field.nullable and field.name not in schema.conditions:
                raise DataError(
                    "NULL",
                    where=field.name,
                    found=f"{nulls} missing values",
                    expected="none, as the schema says",
                )
        for field in own:
            if field.kind in NUMBERS:
                numbers[field.name], values, valid = observe_number(field, batch.column(field.name))
                payload[field.name], payload[f"{field.name}?"] = values, valid
        if who is not None:
            payload[WHO] = who
        size = max(1, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(numbers))))
        return TabularStats(
            RowStats.of(batch, schema, config),
            {f.name: batch.column(f.name).null_count for f in own},
            {f.name: count_values(batch.column(f.name)) for f in own if f.kind in CHOICES},
            numbers,
            Sample.of(hashes, payload, size=size),
            related,
            find_holders(batch, dict.fromkeys((*own, *schema.fields)), who, config.rare_below),
        )

    @classmethod
    def build(cls, schema: Schema, stats: TabularStats, config: CodecConfig) -> TabularCodec:
        stats.rows.check(config)
        fields = (f for f in schema.fields if f.name in stats.holders)
        counted = {f.name: stats.counted(f) for f in fields}
        every = Relations(schema, apart=None if config.calendar else ()).moments
        relations = Relations(schema, apart=[m.field.name for m in every if m.tells(stats.sample)])
        relations = relations.fit(stats.relations, counted, rows=stats.rows.rows, config=config)
        tied = {t.field.name for t in relations.tied}
        # a label is no combination: rare ones are drawn as others
        several = config.model_copy(update={"rare_label": None})
        ladder = ladders(relations.fields, stats.numbers, stats.sample)
        made = {
            f.name: make_column(f, stats, several if f.name in tied else config, ladder.get(f.name, ()))
            for f in relations.observed
        }
        made |= {
            n.name: n.column(stats.relations.pairs[n.field.name], config.rare_below) for n in relations.nested
        }
        columns = [made[f.name] for f in relations.fields]
        if config.dependencies and not any(isinstance(c, Learnt) for c in columns):
            return cls.build(schema, stats, config.model_copy(update={"dependencies": False}))
        return cls(schema, columns, stats.rows.table(schema, config), relations.with_extremes(made))

    @classmethod
    def form(cls, layout: str) -> str:
        return "columns" if layout == "tokens" else layout

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        return self._tokens if layout == "tokens" else self._vector

    @cached_property
    def _tokens(self) -> TensorSpec:
        return TensorSpec(
            layout="tokens",
            shape=(sum(len(c.digits) for c in self.learnt),),
            dtype="int32",
            vocabulary=tuple(size for c in self.learnt for size in c.digits),
            frequencies=tuple(shares for c in self.learnt for shares in c.digit_shares),
            ordered=tuple(c.ordered for c in self.learnt for _ in c.digits),
            conditions=self.conditions.sizes,
        )

    @cached_property
    def _vector(self) -> TensorSpec:
        spans = tuple(
            s.model_copy(update={"start": s.start + at}) for c, at, _ in self._places for s in c.spans
        )
        width = sum(s.size for s in spans)
        if width > WIDEST_VECTOR:
            raise UsageError(
                "WIDE",
                found=f"a vector of {width} columns",
                expected=f"at most {WIDEST_VECTOR}",
                fix="use layout 'tokens', or merge rare categories with codec.rare_below",
            )
        return TensorSpec(
            layout="vector", shape=(width,), dtype="float32", spans=spans, conditions=self.conditions.sizes
        )

    @cached_property
    def _places(self) -> list[tuple[Learnt, int, int]]:
        """(column, first, last + 1) of each learnt column's part of a vector."""
        return self._tile([_width(c.spans) for c in self.learnt])

    @cached_property  # type: ignore[override]
    def positions(self) -> list[tuple[Learnt, int, int]]:
        """(column, first, last + 1) of each learnt column's positions as tokens."""
        return self._tile([len(c.digits) for c in self.learnt])

    def _tile(self, sizes: list[int]) -> list[tuple[Learnt, int, int]]:
        ends = np.cumsum([0, *sizes]).tolist()
        return list(zip(self.learnt, ends[:-1], ends[1:], strict=True))

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        spec, batch = self.spec(layout), self.relations.reduce(batch)
        x = np.empty((batch.num_rows, *spec.shape), dtype=spec.dtype)
        tokens = layout == "tokens"
        for column, start, stop in self.positions if tokens else self._places:
            values = batch.column(column.field.name)
            x[:, start:stop] = column.split(column.encode(values)) if tokens else column.encode_vector(values)
        return {"x": x, "condition": self.conditions.codes(batch)}

    def decode(
        self,
        arrays: Arrays,
        layout: str,
        rng: np.random.Generator,
        given: pa.RecordBatch | None = None,
    ) -> pa.RecordBatch:
        """given: values of some columns that stay as they are; what follows from them is made from them."""
        self.check_layout(layout)
        x = arrays["x"]
        made = self.conditions.columns(self.schema, arrays["condition"])
        tokens = layout == "tokens"
        at = {c.field.name: x[:, a:b] for c, a, b in (self.positions if tokens else self._places)}
        for column in self.columns:
            name = column.field.name
            if not isinstance(column, Learnt):
                made[name] = column.decode(np.zeros(len(x), np.int64), rng)
            elif tokens:
                made[name] = column.decode(column.join(at[name]), rng)
            else:
                made[name] = column.decode_vector(at[name], rng)
        kept = dict(zip(given.schema.names, given.columns, strict=True)) if given is not None else {}
        for moment in self.relations.moments:
            kept |= moment.reduce(kept) if moment.field.name in kept else {}
        made |= {name: pc.coalesce(kept[name], made[name]) for name in kept.keys() & made.keys()}
        return assemble(self.schema, self.relations.restore(made), len(x), rng)

    def holds(self, batch: pa.RecordBatch) -> np.ndarray:
        """(B,) whether each row of the schema holds its constraints and dependencies."""
        held = [np.ones(batch.num_rows, dtype=bool), *self.relations.holds(batch).values()]
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for tied in self.relations.tied:
            for column in self.learnt:
                if column.field.name == tied.field.name:
                    held.append(column.legal(tied.reduce(columns)[column.field.name]))
        for nested in self.relations.nested:
            found = nested.reduce(columns)[nested.name].is_valid()
            held.append(found.to_numpy(zero_copy_only=False))
        return np.asarray(np.all(held, axis=0))

    def observed(self, batch: pa.RecordBatch, *, fill: bool) -> np.ndarray:
        """(B, T) tokens that follow from the columns a batch has; UNOBSERVED where there is none.

        fill: a missing value is to be made up. It is UNOBSERVED, too, or UNOBSERVED - 1 - c, which bars
        c, the token of the missing, where that is a token of its own.
        """
        told = self.relations.told(batch)
        out = np.full((batch.num_rows, *self._tokens.shape), UNOBSERVED, dtype=np.int64)
        for column, start, stop in self.positions:
            if column.field.name in told:
                values, there = told[column.field.name]
                out[:, start:stop] = column.split(column.encode(values))
                if fill or not column.missing:
                    own = column.missing and stop == start + 1 and column.field.name in batch.schema.names
                    out[~there, start:stop] = UNOBSERVED - column.vocabulary if own else UNOBSERVED
        return out

    def tolerance(self, layout: str) -> dict[str, float]:
        self.check_layout(layout)
        learnt = {c.field.name: c.tolerance(layout) for c in self.columns}
        return self.relations.tolerance(dict.fromkeys(self.schema.conditions, 0.0) | learnt)

    def to_json(self) -> dict[str, Any]:
        columns = {c.field.name: {"type": c.type, **c.to_json()} for c in self.columns}
        conditions, relations = self.conditions.model_dump(mode="json"), self.relations.to_json()
        return self.header() | {"columns": columns, "conditions": conditions, "relations": relations}

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> TabularCodec:
        check_version(cls.kind, data)
        relations = (
            Relations.from_json(schema, data["relations"]) if "relations" in data else Relations(schema)
        )
        columns = []
        # the order is the schema's: JSON objects have none, and a bundle's are written with sorted keys
        for field in relations.fields:
            content = dict(data["columns"][field.name])
            try:
                columns.append(COLUMNS[content.pop("type")].from_json(field, content))
            except UNREADABLE as error:
                found = first_line(error)
                raise DataError("CODEC", where=f"codec.json: {field.name}", found=found) from error
        made = cls(schema, columns, ConditionTable.read(schema, data["conditions"]), relations)
        for tied in relations.tied:
            for column in columns:
                if isinstance(column, Choice) and column.field.name == tied.field.name:
                    tied.check([str(value) for value in column.values])
        # the least and the greatest codes go through every relation: what lacks a part fails here
        x = np.stack([np.zeros(made._tokens.shape, int), np.array(made._tokens.vocabulary) - 1])
        codes = np.zeros((2, len(made.conditions.names)), int)
        made.decode({"x": x, "condition": codes}, "tokens", np.random.default_rng(0))
        return made


def _width(spans: tuple[Span, ...]) -> int:
    return sum(s.size for s in spans)
