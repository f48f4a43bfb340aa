"""Codes that go with few values of other columns: a postal code within its city, a flight within its airline.

Learnt is which of those it is that training shows with these values of the others, so a network needs to tell
some dozens apart and not thousands, and whatever it says is a code that belongs there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.columns import Column, Fixed, rounded
from genpipe.codecs.holders import coarse
from genpipe.codecs.stored import LookupForm, check_legal
from genpipe.codecs.tabular.choice import Choice
from genpipe.codecs.tabular.lookups import MOST_KEYS, Columns, Pairs, from_plain, plain, together
from genpipe.constraints import Within
from genpipe.errors import DataError
from genpipe.fields import AnyField, Category

STRIDE = 7919  # of rows that take a code by turns: what is drawn depends on the place in a block alone


@dataclass(frozen=True)
class Nested:
    """A column that is one of the codes that go with its sources. pairs: (values of the sources, code), equal
    sources one after the other.

    Rows whose sources no code goes with take those of another pair, with the first source where there is one.
    """

    label: str
    sources: tuple[AnyField, ...]
    field: AnyField
    pairs: tuple[tuple[Any, Any], ...]
    given: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.field.name} within {', '.join(s.name for s in self.sources)}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.field.name, *(s.name for s in self.sources))

    @property
    def learnt(self) -> AnyField:
        """Which of the codes, as a text that no data are likely to hold."""
        return Category(name=self.name)

    @cached_property
    def _known(self) -> tuple[pa.Array, pa.Array]:
        keys, codes = zip(*self.pairs, strict=True)
        one = len(self.sources) == 1
        key = plain(from_plain(list(keys), self.sources[0])) if one else pa.array(keys, pa.string())
        return key, from_plain(list(codes), self.field)

    @cached_property
    def _runs(self) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        """(the different keys, (K,) the first pair of each, (K,) how many it has)."""
        keys = self._known[0]
        code = keys.dictionary_encode(null_encoding="encode")
        at = code.indices.to_numpy().astype(np.int64)
        return code.dictionary, np.searchsorted(at, np.arange(len(code.dictionary))), np.bincount(at)

    @cached_property
    def _sources(self) -> dict[str, pa.Array]:
        """The values of the sources in each pair."""
        if len(self.sources) == 1:
            return {self.sources[0].name: from_plain([key for key, _ in self.pairs], self.sources[0])}
        rows = [json.loads(key) for key, _ in self.pairs]
        return {s.name: from_plain([row[i] for row in rows], s) for i, s in enumerate(self.sources)}

    def reduce(self, columns: Columns) -> Columns:
        keys, codes = self._known
        _, first, _ = self._runs
        at = _place(
            together([self._key(columns), plain(columns[self.field.name])]), together([keys, plain(codes)])
        )
        begin = np.searchsorted(first, np.maximum(at, 0), side="right") - 1
        return {self.name: pa.array([f"#{n}" for n in at - first[begin]], pa.string(), mask=at < 0)}

    def restore(self, columns: Columns) -> Columns:
        distinct, first, size = self._runs
        told = pc.utf8_slice_codeunits(columns[self.name].fill_null("#0"), 1)
        nth = told.cast(pa.int64()).to_numpy(zero_copy_only=False)
        key = _place(self._key(columns), distinct)
        at = np.where(key >= 0, first[key] + nth % size[key], 0)
        lost = np.flatnonzero(key < 0)
        at[lost] = self._elsewhere(columns[self.sources[0].name].take(pa.array(lost)), lost + nth[lost])
        made = {self.field.name: self._known[1].take(pa.array(at))}
        for source in self.sources if len(lost) else ():
            if source.name not in self.given:
                own = self._sources[source.name].take(pa.array(at))
                made[source.name] = pc.if_else(pa.array(key < 0), own, columns[source.name])
        return made

    def _elsewhere(self, first: pa.Array, turn: np.ndarray) -> np.ndarray:
        """A pair for rows of these first sources, by turns among all that have it, or among all."""
        own = plain(self._sources[self.sources[0].name]).dictionary_encode(null_encoding="encode")
        at = own.indices.to_numpy().astype(np.int64)
        order, size = np.argsort(at, kind="stable"), np.bincount(at)
        start, key = np.cumsum(size) - size, _place(plain(first), own.dictionary)
        turn = turn * STRIDE
        found: np.ndarray = np.where(key >= 0, order[start[key] + turn % size[key]], turn % len(at))
        return found

    def _key(self, columns: Columns) -> pa.Array:
        found = [columns[s.name] for s in self.sources]
        return plain(found[0]) if len(found) == 1 else together(found)

    def column(self, counts: Pairs, k: int) -> Column:
        """The codec of what is learnt; counts: rows of each pair in training."""
        _, first, size = self._runs
        nth = np.arange(len(self.pairs)) - np.repeat(first, size)
        rows = np.bincount(nth, [counts.get(pair, 0) for pair in self.pairs])
        lost = sum(counts.values()) - rows.sum()
        order = np.argsort(-rows, kind="stable")
        values = tuple(f"#{n}" for n in order.tolist())
        if len(values) == 1:
            return Fixed(self.learnt, values[0])
        seen = coarse([*rows[order], *([lost] if lost >= max(k, 1) else [])], k)
        part = round(float(seen[len(values) :].sum() / seen.sum()), 9)
        return Choice(self.learnt, values, rounded(seen / seen.sum()), part)

    def to_json(self) -> dict[str, Any]:
        columns, pairs = [s.name for s in self.sources], [list(pair) for pair in self.pairs]
        return {
            "label": self.label,
            "columns": columns,
            "made": self.field.name,
            "pairs": pairs,
            "snaps": False,
        }

    @classmethod
    def read(cls, form: LookupForm, fields: Mapping[str, AnyField], given: frozenset[str]) -> Nested:
        """From codec.json; a ValueError where pairs are no values of the fields."""
        if len(form.pairs) > MOST_KEYS:
            raise ValueError(f"{len(form.pairs)} pairs, more than {MOST_KEYS}")
        sources, pairs = tuple(fields[name] for name in form.columns), tuple((k, c) for k, c in form.pairs)
        made = cls(form.label, sources, fields[form.made], pairs, given)
        at = _place(made._known[0], made._runs[0])
        if (np.diff(at) < 0).any():
            raise ValueError(f"pairs of {form.made!r} that are not together")
        check_legal(made.field, made._known[1])
        for source in sources:
            check_legal(source, made._sources[source.name])
        return made


def fit_nested(
    label: str,
    sources: tuple[AnyField, ...],
    field: AnyField,
    held: Pairs,
    *,
    rare: int,
    given: frozenset[str],
) -> Nested:
    """held: how many entities have each pair; those of fewer than `rare` are left out."""
    kept = [pair for pair, n in held.items() if n >= max(rare, 1)]
    if not kept or len(kept) > MOST_KEYS:
        raise DataError(
            "CONSTRAINT",
            where=label,
            found=f"{len(kept)} pairs that {rare} entities have",
            expected=f"from 1 to {MOST_KEYS}",
            fix="lower codec.rare_below, or remove the constraint",
        )
    kept.sort(key=lambda pair: (str(pair[0]), _order(pair[1], field)))
    return Nested(label, sources, field, tuple(kept), given)


def read_nested(
    forms: Iterable[LookupForm],
    fields: Mapping[str, AnyField],
    given: frozenset[str],
    constraints: Iterable[Any],
) -> list[Nested]:
    """From codec.json; a ValueError unless there is one of each constraint."""
    made = [Nested.read(form, fields, given) for form in forms]
    wanted = sorted((c.column, *c.of) for c in constraints if isinstance(c, Within))
    if sorted(n.needs for n in made) != wanted:
        raise ValueError(f"codes within others that are not those of the schema: {wanted[:3]}")
    return made


def _order(code: Any, field: AnyField) -> tuple[bool, Any]:
    return (code is None, (code or 0) if field.kind in ("integer", "number") else str(code))


def _place(values: pa.Array, known: pa.Array) -> np.ndarray:
    """(B,) where each is among the known, -1 where it is not; missing is a value."""
    if pa.types.is_boolean(values.type):  # index_in knows no booleans
        values, known = values.cast(pa.int8()), known.cast(pa.int8())
    found: np.ndarray = pc.index_in(values, known).fill_null(-1).to_numpy(zero_copy_only=False)
    return found.astype(np.int64)
