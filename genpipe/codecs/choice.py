"""The column of choices: categories and booleans, all of them kept, the rare ones redrawn, or protected.

| `codec.rare` | a value seen in fewer than `codec.rare_below` training rows |
|---|---|
| keep | is kept like any other |
| sample | is a code `rare` of its own, which decodes to a kept value drawn by share |
| protect | is replaced by `codec.rare_label`, in training and in the output (booleans: as in sample) |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import CodecConfig
from genpipe.codecs.columns import Column, Fixed, Learnt, Placeholder, hottest, one_hot, rounded
from genpipe.codecs.conditions import check_label
from genpipe.codecs.stored import ChoiceForm, check_legal
from genpipe.errors import DataError
from genpipe.schema import AnyField
from genpipe.spec import Span

MOST_CATEGORIES = 1_000_000


@dataclass(frozen=True)
class Choice(Learnt):
    """values by falling count.

    rare: share of training rows whose value was seen too rarely to be kept. label: the value that stands for
    those; None = they have a code of their own, and decoding it draws a kept value, so that no invented word
    enters the data.
    """

    type: ClassVar[str] = "choice"
    field: AnyField
    values: tuple[str | bool, ...]
    shares: tuple[float, ...]
    rare: float = 0.0
    missing: bool = False
    label: str | None = None

    @property
    def redrawn(self) -> bool:
        """Whether the code after the last value stands for rare ones."""
        return self.rare > 0 and self.label is None

    @property
    def vocabulary(self) -> int:
        return len(self.values) + self.redrawn + self.missing

    @cached_property
    def unseen(self) -> int:
        """The code of a value that is none of `values`."""
        if self.label is not None:
            return self.values.index(self.label)
        return len(self.values) if self.rare else 0

    @property
    def spans(self) -> tuple[Span, ...]:
        return (Span(name=self.field.name, start=0, size=self.vocabulary, kind="categorical"),)

    @cached_property
    def known(self) -> pa.Array:
        return pa.array(self.values, self.field.arrow())

    def encode(self, column: pa.Array) -> np.ndarray:
        if pa.types.is_boolean(column.type):  # index_in knows no booleans
            codes = pc.index_in(column.cast(pa.int8()), self.known.cast(pa.int8()))
        else:
            codes = pc.index_in(column, self.known)
        out = codes.fill_null(self.unseen).to_numpy(zero_copy_only=False).astype(np.int32)
        if self.missing and column.null_count:
            out[column.is_null().to_numpy(zero_copy_only=False)] = self.vocabulary - 1
        return out

    def legal(self, column: pa.Array) -> np.ndarray:
        found = pc.is_in(column.cast(pa.string()), self.known.cast(pa.string()))
        return np.where(column.is_null(), self.missing, found.to_numpy(zero_copy_only=False))

    def allowed(self) -> list[str]:
        return [*map(str, self.values), *(["None"] if self.missing else [])]

    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pa.Array:
        codes = np.clip(codes, 0, self.vocabulary - 1)
        if self.redrawn:
            weights = np.asarray(self.shares[: len(self.values)], dtype=np.float64)
            stand_in = rng.choice(len(weights), size=len(codes), p=weights / weights.sum())
            codes = np.where(codes == len(self.values), stand_in, codes)
        absent = codes == self.vocabulary - 1 if self.missing else np.zeros(len(codes), bool)
        return self.known.take(pa.array(np.where(absent, 0, codes), pa.int64(), mask=absent))

    def encode_vector(self, column: pa.Array) -> np.ndarray:
        return one_hot(self.encode(column), self.vocabulary)

    def decode_vector(self, x: np.ndarray, rng: np.random.Generator) -> pa.Array:
        return self.decode(hottest(x), rng)

    def tolerance(self, layout: str) -> float:
        return self.rare

    def to_json(self) -> dict[str, Any]:
        return {
            "values": list(self.values),
            "shares": list(self.shares),
            "rare": self.rare,
            "missing": self.missing,
            "label": self.label,
        }

    @classmethod
    def from_json(cls, field: AnyField, data: dict[str, Any]) -> Choice:
        form = ChoiceForm.model_validate(data)
        made = cls(field, tuple(form.values), tuple(form.shares), form.rare, form.missing, form.label)
        check_legal(field, pa.concat_arrays([made.known, pa.nulls(int(form.missing), field.arrow())]))
        return made


def make_choice(field: AnyField, counts: dict[Any, int], config: CodecConfig) -> Column:
    """The codec of a column with so many rows of each value (None = missing)."""
    rows, missing = sum(counts.values()), counts.get(None, 0)
    seen = {v: n for v, n in counts.items() if v is not None}
    if len(seen) > MOST_CATEGORIES:
        raise DataError(
            "CATEGORIES",
            where=field.name,
            found=f"{len(seen)} distinct values",
            expected=f"at most {MOST_CATEGORIES}",
            fix="declare it identifier or text in the schema",
        )
    if missing and not field.nullable:
        raise DataError(
            "NULL",
            where=field.name,
            found=f"{missing} missing values",
            expected="none: the schema says nullable: false",
        )
    kept = kept_values(field, seen, config)
    lost = sum(n for v, n in seen.items() if v not in kept)
    label = config.rare_label if lost and config.rare == "protect" and field.kind == "category" else None
    if label is not None:
        check_label(field, label, sum(v not in kept for v in seen))
        kept[label] = lost
    values = sorted(kept, key=lambda v: (-kept[v], str(v)))
    if not values:
        return Placeholder(field, missing / rows) if seen else Fixed(field, None)
    if len(values) == 1 and not missing and (label or not lost):
        return Fixed(field, values[0])
    redrawn = [lost] if lost and label is None else []
    seen_as = [*(kept[v] for v in values), *redrawn, *([missing] if missing else [])]
    shares = rounded([n / rows for n in seen_as])
    return Choice(field, tuple(values), shares, lost / rows, missing > 0, label)


def kept_values(field: AnyField, seen: dict[Any, int], config: CodecConfig) -> dict[Any, int]:
    """The values that get a code, with their rows. `values` of the schema are kept unless protected."""
    pinned = getattr(field, "values", None)
    if pinned is None:
        return {v: n for v, n in seen.items() if n >= config.rare_below and v != _label(config)}
    strange = sorted(set(seen) - set(pinned))
    if strange:
        raise DataError(
            "VALUES",
            where=field.name,
            found=f"{len(strange)} values that the schema does not list",
            expected=f"only its values: {', '.join(pinned[:10])}",
            fix="add them to `values` in the schema file, or ingest again with it",
        )
    floor = config.rare_below if config.rare == "protect" else 0
    return {v: seen.get(v, 0) for v in pinned if seen.get(v, 0) >= floor and v != _label(config)}


def _label(config: CodecConfig) -> str | None:
    return config.rare_label if config.rare == "protect" else None
