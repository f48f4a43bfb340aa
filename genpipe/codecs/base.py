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
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genpipe.codecs.conditions import ConditionTable, Counts, check_label, count_conditions
from genpipe.codecs.identify import check_rows, identify
from genpipe.codecs.sketch import add_counts
from genpipe.errors import DataError, UsageError
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

Arrays = dict[str, np.ndarray]
VERSION = 2  # of codec.json; raise it when an older file would be read wrongly


class CodecConfig(BaseModel):
    """What a user may set of a codec; every kind reads what concerns it.

    bins: quantile bins of a number as tokens. dependencies: columns of a table that another one decides are
    found and kept exactly. context: tokens per text record. frames: samples an audio record keeps.
    rare: what becomes of categories seen in fewer than `rare_below` training rows: keep (all of them;
    rare_below 0), sample (kept ones are drawn for them; None with a rare_below means this) or protect
    (`rare_label` replaces them; see choice.py). Both pull the extremes of numbers in until so many rows lie
    there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bins: int = Field(default=100, ge=1, le=10_000)
    dependencies: bool = True
    rare: Literal["keep", "sample", "protect"] | None = None
    rare_below: int = Field(default=0, ge=0, le=10**12)
    rare_label: str = Field(default="(rare)", min_length=1, max_length=200)
    context: int = Field(default=128, ge=1, le=65_536)
    frames: int = Field(default=4096, ge=1, le=2**22)

    @model_validator(mode="after")
    def _check_rare(self) -> CodecConfig:
        if self.rare == "keep" and self.rare_below:
            raise ValueError(f"rare: keep with rare_below: {self.rare_below}; leave one of them out")
        if self.rare in ("sample", "protect") and self.rare_below < 2:
            raise ValueError(f"rare: {self.rare} with rare_below: {self.rare_below}; set it to 2 or more")
        return self


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
    if data.get("version") != VERSION:
        raise UsageError(
            "CODEC",
            where="codec.json",
            found=f"version {data.get('version')!r}",
            expected=f"version {VERSION}",
            fix="train again with this genpipe, or install the genpipe that wrote it",
        )


@dataclass(frozen=True)
class RowStats(Stats):
    """All that kinds need whose values need no fitting: how many rows, and which classes."""

    rows: int
    conditions: Counts

    @classmethod
    def of(cls, batch: pa.RecordBatch, schema: Schema) -> RowStats:
        return cls(batch.num_rows, count_conditions(batch, schema.conditions))

    def merge(self, other: RowStats) -> RowStats:
        return RowStats(self.rows + other.rows, add_counts(self.conditions, other.conditions))

    def table(self, schema: Schema, config: CodecConfig) -> ConditionTable:
        label = config.rare_label if config.rare == "protect" else None
        rare = sum(n < config.rare_below for n in self.conditions.values())
        for name in schema.conditions if rare else ():
            if label is not None:
                check_label(schema.field(name), label, rare)
        return ConditionTable.from_counts(
            schema.conditions, self.conditions, rare_below=config.rare_below, label=label
        )


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
