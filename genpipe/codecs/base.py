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
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genpipe.codecs.conditions import ConditionTable, Counts, check_label, count_conditions
from genpipe.codecs.holders import Holders, entities, merge_holders
from genpipe.codecs.identify import check_rows, identify
from genpipe.codecs.sketch import add_counts, hash_rows
from genpipe.errors import DataError, UsageError
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

Arrays = dict[str, np.ndarray]
VERSION = 8  # of codec.json and of what fits it; raise it where the same request is no longer the same codec
READABLE = (2, 3, 4, 5, 6, 7, 8)
ALL, CLASSES = "", "classes"  # of whom all rows are, and of whom each class is
LEAST = 5  # entities, of which fewer leave no trace


class CodecConfig(BaseModel):
    """What a user may set of a codec; every kind reads what concerns it.

    bins: quantile bins of a number as tokens. dependencies: columns of a table that another one decides are
    found, among all or among these, and kept exactly. calendar: dates and times of a table whose weekdays or
    times of day differ are learnt as week, weekday and time of day. context: tokens per text record; null,
    those of the longest, at most 1024. tokens: of texts, characters, or pieces of words (bpe), at most
    `vocabulary` of them. frames: samples an audio record keeps; null, those of the schema, at
    most 10 s. order: of channels of a series that are always in order: learn their distance, or learn each as
    it is and clamp them into order.
    rare: protect, so that the codec keeps of categories, numbers, pairs and shares only what at least
    `rare_below` entities have (a row each, unless the schema names an entity), or keep, all of them. In place
    of a rare category a kept one is drawn, or `rare_label` stands where that is given; see choice.py and
    holders.py. sample: an older word for protect without a label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bins: int = Field(default=100, ge=1, le=10_000)
    dependencies: bool | tuple[str, ...] = True
    rare: Literal["keep", "sample", "protect"] = "protect"
    rare_below: int = Field(default=LEAST, ge=0, le=10**12)
    rare_label: str | None = Field(default=None, min_length=1, max_length=200)
    context: int | None = Field(default=None, ge=1, le=65_536)
    tokens: Literal["characters", "bpe"] = Field(default="characters", exclude_if=lambda t: t == "characters")
    vocabulary: int = Field(default=1024, ge=2, le=65_536, exclude_if=lambda size: size == 1024)
    frames: int | None = Field(default=None, ge=1, le=2**22)
    calendar: bool = Field(default=True, exclude_if=lambda calendar: calendar)
    order: Literal["learn", "clamp"] = Field(default="learn", exclude_if=lambda order: order == "learn")

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, data: Any) -> Any:
        """What `rare` means where it is left out, or none, as in recipes written before it protected."""
        if isinstance(data, dict):
            rare = data.get("rare", "protect")
            if rare is None:
                rare = "sample" if data.get("rare_below") else "keep"
            data = {**data, "rare": rare}
            if rare == "keep" and data.get("rare_below") in (None, LEAST):  # as it is where it is left out
                data["rare_below"] = 0
        return data

    @model_validator(mode="after")
    def _check_rare(self) -> CodecConfig:
        if self.rare == "keep" and self.rare_below:
            raise ValueError(f"rare: keep with rare_below: {self.rare_below}; leave one of them out")
        if self.rare != "keep" and self.rare_below < 2:
            fix = "set it to 2 or more, or keep rare values with rare: keep"
            raise ValueError(f"rare: {self.rare} with rare_below: {self.rare_below}; {fix}")
        return self

    @property
    def label(self) -> str | None:
        """What stands for rare categories; None = kept ones are drawn in their place."""
        return self.rare_label if self.rare == "protect" else None


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
    notice: str = ""  # what a user should know of the data that is not learnt; said once, when it is fitted

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

    def reduce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the columns that are learnt in place of those that are made of others."""
        return batch

    @classmethod
    def form(cls, layout: str) -> str:
        """`networks.base.form` of the tensors in this layout, known before there are any."""
        return layout

    def identify(self, batch: pa.RecordBatch, start: int, seed: int) -> pa.RecordBatch:
        """Rows start, start + 1, .. of the stream `seed` names, with identifiers that no other row has."""
        return identify(self.schema, batch, start, seed)

    def check_rows(self, stop: int) -> None:
        """Raise a UsageError where the rows before `stop` need more identifiers than a pattern has."""
        check_rows(self.schema, stop)

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


def check_version(kind: str, data: dict[str, Any]) -> None:
    """Refuse a codec.json of another kind or of a version this code does not read."""
    if data.get("kind") != kind:
        raise UsageError("CODEC", where="codec.json", found=f"kind {data.get('kind')!r}", expected=repr(kind))
    if data.get("version") not in READABLE:
        raise UsageError(
            "CODEC",
            where="codec.json",
            found=f"version {data.get('version')!r}",
            expected=f"version {' or '.join(map(str, READABLE))}",
            fix="train again with this genpipe, or install the genpipe that wrote it",
        )


@dataclass(frozen=True)
class RowStats(Stats):
    """All that kinds need whose values need no fitting: how many rows, and which classes.

    holders: of whom the rows are (under ""), and of the classes; empty where every row is an entity.
    """

    rows: int
    conditions: Counts
    holders: dict[str, Holders] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> RowStats:
        holders, who = {}, entities(batch, schema)
        if who is not None and config.rare_below:
            columns = {ALL: np.zeros(batch.num_rows, np.uint64)}
            if schema.conditions:
                classes = [batch.column(n) for n in schema.conditions]
                columns[CLASSES] = hash_rows(classes, batch.num_rows)
            holders = {n: Holders.of(c, who, least=config.rare_below) for n, c in columns.items()}
        return cls(batch.num_rows, count_conditions(batch, schema.conditions), holders)

    def merge(self, other: RowStats) -> RowStats:
        return RowStats(
            self.rows + other.rows,
            add_counts(self.conditions, other.conditions),
            merge_holders(self.holders, other.holders),
        )

    def together(self, schema: Schema, classes: Collection[tuple[Any, ...]]) -> int:
        """How many entities are known to have any of these combinations of classes."""
        if CLASSES not in self.holders:
            return sum(self.conditions[key] for key in classes)
        columns = [
            pa.array([key[i] for key in classes], schema.field(n).arrow())
            for i, n in enumerate(schema.conditions)
        ]
        return len(np.unique(self.holders[CLASSES].who(hash_rows(columns, len(classes)))[1]))

    def check(self, config: CodecConfig) -> None:
        """Raise a DataError where there are too few entities for anything to be kept."""
        k, found = config.rare_below, self.rows
        if ALL in self.holders:
            found = int(self.holders[ALL].count(np.zeros(1, np.uint64))[0])
        if found < k:
            raise DataError(
                "FEW",
                found=f"a training split of {found} {'entities' if self.holders else 'rows'}",
                expected=f"at least {k}: only what so many have is kept",
                fix="add data, or keep what single ones have with codec.rare: keep",
            )

    def table(self, schema: Schema, config: CodecConfig) -> ConditionTable:
        k, label = config.rare_below, config.label
        rare = {key for key in self.conditions if self.together(schema, [key]) < k}
        for name in schema.conditions if rare and label else ():
            check_label(schema.field(name), str(label), len(rare))
        if self.together(schema, list(rare)) < k:
            label = None
        return ConditionTable.from_counts(schema.conditions, self.conditions, rare=rare, least=k, label=label)


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
