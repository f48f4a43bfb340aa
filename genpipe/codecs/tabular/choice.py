"""The column of choices: categories and booleans, the rare ones redrawn, labelled, or kept.

| `codec.rare` | a value that fewer than `codec.rare_below` entities have |
|---|---|
| protect | is a code `rare` of its own, which decodes to a kept value drawn by share |
| protect, with a `rare_label` | is replaced by it, in training and in the output (booleans: redrawn) |
| keep | is kept like any other |

Where all rare values together have fewer entities they count as the commonest value, and leave no trace;
where nearly all values are rare the column holds names of some kind, and others are made up. The `values`
that a schema lists are public: they stay possible, but of rare ones it is not told how often they occur.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import CodecConfig
from genpipe.codecs.columns import Column, Fixed, Learnt, Placeholder, hottest, one_hot, rounded
from genpipe.codecs.conditions import check_label
from genpipe.codecs.holders import Holders, coarse, hash_values
from genpipe.codecs.stored import ChoiceForm, check_legal
from genpipe.errors import DataError
from genpipe.fields import AnyField
from genpipe.spec import Span

MOST_CATEGORIES = 1_000_000
NEARLY_ALL = 0.9  # of the rows have rare values: the column is no choice of few


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
        out: np.ndarray = codes.fill_null(self.unseen).to_numpy(zero_copy_only=False).astype(np.int32)
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


class Counted:
    """Who has each value of a column, where every row is an entity, or as Holders know it."""

    def __init__(self, counts: dict[Any, int], holders: Holders | None = None, kind: Any = None) -> None:
        self.counts, self.holders, self.kind = counts, holders, kind

    def entities(self, values: Collection[Any]) -> np.ndarray:
        """(V,) how many are known to have each."""
        if self.holders is None:
            return np.array([self.counts.get(v, 0) for v in values], dtype=np.int64)
        return self.holders.count(hash_values(values, self.kind))

    def enough(self, values: Collection[Any], k: int) -> bool:
        """Whether k entities have one of these values, or another."""
        if self.holders is None:
            return sum(self.counts.get(v, 0) for v in values) >= k
        return len(np.unique(self.holders.who(hash_values(values, self.kind))[1])) >= k


def make_choice(
    field: AnyField, counts: dict[Any, int], config: CodecConfig, who: Counted | None = None
) -> Column:
    """The codec of a column with so many rows of each value (None = missing)."""
    seen = {v: n for v, n in counts.items() if v is not None}
    if len(seen) > MOST_CATEGORIES:
        raise DataError(
            "CATEGORIES",
            where=field.name,
            found=f"{len(seen)} distinct values",
            expected=f"at most {MOST_CATEGORIES}",
            fix="declare it identifier or text in the schema",
        )
    if counts.get(None, 0) and not field.nullable:
        raise DataError(
            "NULL",
            where=field.name,
            found=f"{counts[None]} missing values",
            expected="none: the schema says nullable: false",
        )
    who, k = who or Counted(counts), config.rare_below
    missing = counts.get(None, 0) if who.enough([None], k) else 0
    kept, rare = kept_values(field, seen, config, who)
    lost = sum(seen[v] for v in rare)
    label = config.label if lost and field.kind == "category" else None
    if label is not None:
        check_label(field, label, len(rare))
    if not who.enough(rare, k):  # without a trace
        label, lost = None, 0
    if label is not None:
        kept[label] = lost
    elif not kept or lost > NEARLY_ALL * sum(seen.values()):
        return _made_up(field, seen, missing / max(1, missing + sum(seen.values())))
    values = sorted(kept, key=lambda v: (-kept[v], str(v)))
    if len(values) == 1 and not missing and (label or not lost):
        return Fixed(field, values[0])
    redrawn = [lost] if lost and label is None else []
    seen_as = coarse([*(kept[v] for v in values), *redrawn, *([missing] if missing else [])], k)
    if not seen_as.any():  # a list of the schema's, none of whose values so many have
        seen_as = np.ones(len(seen_as))
    shares = rounded(seen_as / seen_as.sum())
    part = round(float(coarse([lost], k)[0] / seen_as.sum()), 9)
    return Choice(field, tuple(values), shares, part, missing > 0, label)


def _made_up(field: AnyField, seen: dict[Any, int], missing: float) -> Column:
    """The column of values that nobody shares."""
    if seen and field.kind == "category":
        return Placeholder(field, round(missing, 9))
    if seen and not field.nullable:
        found = "no value that enough entities have"
        raise DataError("FEW", where=field.name, found=found, fix="add data, or drop the column")
    return Fixed(field, None)


def kept_values(
    field: AnyField, seen: dict[Any, int], config: CodecConfig, who: Counted
) -> tuple[dict[Any, int], list[Any]]:
    """(the values that get a code, with their rows; the values that are rare)."""
    pinned, label = getattr(field, "values", None), config.label
    rows = dict(seen)
    if pinned is not None:
        strange = sorted(set(seen) - set(pinned))
        if strange:
            raise DataError(
                "VALUES",
                where=field.name,
                found=f"{len(strange)} values that the schema does not list",
                expected=f"only its values: {', '.join(pinned[:10])}",
                fix="add them to `values` in the schema file, or ingest again with it",
            )
        rows = {v: seen.get(v, 0) for v in pinned}
    held = dict(zip(rows, who.entities(list(rows)), strict=True))
    kept = {v: n for v, n in rows.items() if held[v] >= config.rare_below and v != label}
    if pinned is not None and label is None:
        kept = {v: n if v in kept else 0 for v, n in rows.items()}
    return kept, [v for v in seen if v not in kept]
