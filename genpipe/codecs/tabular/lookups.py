"""Columns of a table that are chosen together: tied ones are learnt as one, others are looked up.

A missing value is a value like any other. What training did not show is never made: `Tied` columns hold
combinations of training, a `Lookup` the commonest partner that each value had there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.scale import nearest
from genpipe.codecs.sketch import to_numpy
from genpipe.codecs.stored import LookupForm, check_legal
from genpipe.constraints import NUMBERS
from genpipe.errors import DataError
from genpipe.fields import AnyField, Category

Columns = dict[str, pa.Array]
Pairs = dict[tuple[Any, Any], int]  # (value, its partner) -> rows
MOST_KEYS = 100_000


def plain(column: pa.Array) -> pa.Array:
    """The column in a type whose values JSON can hold: times as whole numbers, NaN as missing."""
    if pa.types.is_date32(column.type):
        return column.cast(pa.int32())
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), pc.add(column, 0.0))
    return column


def from_plain(values: list[Any] | pa.Array, field: AnyField) -> pa.Array:
    """Values as `plain` gives them -> the field's column."""
    kind = field.arrow()
    if not pa.types.is_temporal(kind):
        return pa.array(values, kind) if isinstance(values, list) else values.cast(kind)
    whole = pa.array(values, pa.int64()) if isinstance(values, list) else values
    return (whole.cast(pa.int32()) if pa.types.is_date32(kind) else whole).cast(kind)


def coded(column: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """(code of each row, value of each code); missing is a value."""
    found = plain(column).dictionary_encode(null_encoding="encode")
    return found.indices.to_numpy().astype(np.int64), found.dictionary


def together(columns: list[pa.Array]) -> pa.Array:
    """(B,) the values of each row as one JSON list."""
    codes = [coded(c) for c in columns]
    group = np.zeros(len(columns[0]), dtype=np.int64)
    for code, values in codes:  # renumbered at each column: products of many sizes would overflow
        group = np.unique(group * len(values) + code, return_inverse=True)[1]
    _, first, back = np.unique(group, return_index=True, return_inverse=True)
    shown = [values.take(pa.array(code[first])).to_pylist() for code, values in codes]
    texts = [json.dumps(list(row), ensure_ascii=False) for row in zip(*shown, strict=True)]
    return pa.array(texts, pa.string()).take(pa.array(back))


def count_pairs(keys: tuple[np.ndarray, pa.Array], partners: tuple[np.ndarray, pa.Array]) -> Pairs:
    """How often each value occurs with each partner, both as `coded` gives them."""
    size = max(1, len(partners[1]))
    cells, counts = np.unique(keys[0] * size + partners[0], return_counts=True)
    left = keys[1].take(pa.array(cells // size)).to_pylist()
    right = partners[1].take(pa.array(cells % size)).to_pylist()
    return dict(zip(zip(left, right, strict=True), counts.tolist(), strict=True))


@dataclass(frozen=True)
class Tied:
    """Columns learnt as one category, whose values are JSON lists."""

    label: str
    sources: tuple[AnyField, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.sources)

    @property
    def field(self) -> AnyField:
        return Category(name=" with ".join(s.name for s in self.sources))

    def reduce(self, columns: Columns) -> Columns:
        return {self.field.name: together([columns[s.name] for s in self.sources])}

    def check(self, combinations: Sequence[str]) -> None:
        """Raise a ValueError unless each is a JSON list of a value of every source."""
        made = self.restore({self.field.name: pa.array(combinations, pa.string())})
        if any(len(json.loads(text)) != len(self.sources) for text in combinations):
            raise ValueError(f"combinations that are not of {len(self.sources)} values")
        for source in self.sources:
            check_legal(source, made[source.name])

    def restore(self, columns: Columns) -> Columns:
        found = columns[self.field.name].dictionary_encode()
        rows = [json.loads(text) for text in found.dictionary.to_pylist()]
        return {
            s.name: from_plain([row[i] for row in rows], s).take(found.indices)
            for i, s in enumerate(self.sources)
        }


@dataclass(frozen=True)
class Lookup:
    """A column that `sources` decide. pairs: (value, partner), the commonest first.

    What has no pair is taken for the nearest number, or for the commonest value, that has one; if `snaps`,
    it also becomes that value, so that no two values share a partner.
    """

    label: str
    sources: tuple[AnyField, ...]
    field: AnyField
    pairs: tuple[tuple[Any, Any], ...]
    snaps: bool

    @cached_property
    def _known(self) -> tuple[pa.Array, pa.Array]:
        keys, partners = zip(*self.pairs, strict=True)
        one = len(self.sources) == 1
        return (
            plain(from_plain(list(keys), self.sources[0])) if one else pa.array(keys, pa.string()),
            from_plain(list(partners), self.field),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "columns": [s.name for s in self.sources],
            "made": self.field.name,
            "pairs": [list(pair) for pair in self.pairs],
            "snaps": self.snaps,
        }

    @classmethod
    def read(cls, form: LookupForm, fields: Mapping[str, AnyField]) -> Lookup:
        """From codec.json; a ValueError where partners are no values of the field."""
        if len(form.pairs) > MOST_KEYS:
            raise ValueError(f"{len(form.pairs)} pairs, more than {MOST_KEYS}")
        sources, pairs = tuple(fields[name] for name in form.columns), tuple((k, v) for k, v in form.pairs)
        made = cls(form.label, sources, fields[form.made], pairs, form.snaps)
        check_legal(made.field, made._known[1])
        if made.snaps:
            check_legal(sources[0], from_plain(made._known[0], sources[0]))
        return made

    def _keys(self, columns: Columns) -> pa.Array:
        found = [columns[s.name] for s in self.sources]
        return plain(found[0]) if len(found) == 1 else together(found)

    def _index(self, columns: Columns) -> np.ndarray:
        """(B,) which pair applies to each row."""
        keys, known = self._keys(columns), self._known[0]
        if pa.types.is_boolean(keys.type):  # index_in knows no booleans
            keys, known = keys.cast(pa.int8()), known.cast(pa.int8())
        index = pc.index_in(keys, known)
        out: np.ndarray = index.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        if index.null_count and self.sources[0].kind in NUMBERS and len(self.sources) == 1:
            points, there = to_numpy(known)
            order = np.flatnonzero(there)[np.argsort(points[there], kind="stable")]
            lost = (index.is_null().to_numpy(zero_copy_only=False)) & to_numpy(keys)[1]
            if len(order):
                out[lost] = order[nearest(points[order], to_numpy(keys)[0][lost])]
        return out

    def restore(self, columns: Columns) -> Columns:
        index = pa.array(self._index(columns))
        made = {self.field.name: self._known[1].take(index)}
        if self.snaps:
            source = self.sources[0]
            made[source.name] = from_plain(self._known[0].take(index), source)
        return made

    def reverse(self, partners: pa.Array) -> pa.Array:
        """The value of the one source that has each partner; null where it is one of several, or of none."""
        keys, known = self._known
        times = known.value_counts()
        once = times.field(0).filter(pc.equal(times.field(1), 1))
        index = pc.index_in(partners, known)
        alone = pc.and_(pc.is_in(partners, once), partners.is_valid())
        found = keys.take(pc.if_else(alone, index, pa.scalar(None, index.type)))
        return from_plain(found, self.sources[0])

    def holds(self, columns: Columns) -> np.ndarray:
        """(B,) whether each row has the partner that would be looked up."""
        made = self.restore(columns)
        found: np.ndarray = np.all([_same(columns[name], values) for name, values in made.items()], axis=0)
        return found


def _same(one: pa.Array, other: pa.Array) -> np.ndarray:
    equal = pc.fill_null(pc.equal(one, other), False)
    both = pc.and_(pc.is_null(one), pc.is_null(other))
    found: np.ndarray = pc.or_(equal, both).to_numpy(zero_copy_only=False)
    return found


def fit_lookup(
    label: str,
    sources: tuple[AnyField, ...],
    field: AnyField,
    counts: Pairs,
    held: Pairs,
    *,
    one_to_one: bool,
    rare: int,
    given: bool,
) -> tuple[Lookup, int]:
    """(the lookup, how many training rows have another partner than it).

    held: how many entities have each pair; of fewer than `rare`, it is left out, and leaves no trace. A value
    whose commonest partner is rare has none. given: the values of the source are a
    condition or tied to others, and stay as they are.
    """
    if len(counts) > MOST_KEYS:
        raise DataError(
            "CONSTRAINT",
            where=label,
            found=f"{len(counts)} different pairs",
            expected=f"at most {MOST_KEYS}: the columns repeat values",
            fix="remove the constraint, or declare the columns identifier or text",
        )
    chosen: dict[Any, tuple[Any, int]] = {}
    taken = set()
    for (key, partner), n in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))):
        if key not in chosen and not (one_to_one and partner in taken):
            chosen[key] = partner, n
            taken.add(partner)
    pairs = tuple((key, partner) for key, (partner, _) in chosen.items() if held[key, partner] >= rare)
    lost = {key for key, _ in counts} - set(chosen)
    if not pairs or (given and lost):
        raise DataError(
            "CONSTRAINT",
            where=label,
            found=f"no pair that {rare} entities have"
            if not pairs
            else f"{len(lost)} values without a partner of their own",
            expected="values that repeat, and in one_to_one as many on both sides",
            fix="lower codec.rare_below, or remove the constraint" if not pairs else "use type: determines",
        )
    snaps = not given and len(sources) == 1 and len({partner for _, partner in pairs}) == len(pairs)
    return Lookup(label, sources, field, pairs, snaps), sum(counts.values()) - sum(
        n for _, n in chosen.values()
    )


def agreeing(lookups: list[Lookup], given: set[str]) -> list[Lookup]:
    """The lookups with the keys that all of one source share, and partners that have a pair where looked up.

    So whatever one of them snaps to, the others know, and a second round changes nothing.
    """
    while True:
        keys: dict[str, set[Any]] = {}
        for k in (k for k in lookups if len(k.sources) == 1):
            mine = {key for key, _ in k.pairs}
            keys[k.sources[0].name] = keys.get(k.sources[0].name, mine) & mine
        kept = []
        for k in lookups:
            source = k.sources[0].name if len(k.sources) == 1 else None
            pairs = tuple(
                (key, partner)
                for key, partner in k.pairs
                if (source is None or key in keys[source])
                and (k.field.name not in keys or partner in keys[k.field.name])
            )
            if not pairs or (source in given and len(pairs) < len(k.pairs)):
                raise DataError(
                    "CONSTRAINT",
                    where=k.label,
                    found="values that no row shows in agreement with the other constraints of these columns",
                    expected="training rows that keep all of them",
                    fix="correct the data, or remove one of the constraints",
                )
            kept.append(replace(k, pairs=pairs))
        if kept == lookups:
            return kept
        lookups = kept
