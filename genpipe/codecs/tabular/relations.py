"""Constraints of a table, compiled: columns that others decide are taken out before learning, and made after.

    reduce(batch)     adds the columns to learn in place of those that are made (`fields` are all to learn)
    restore(columns)  makes the others from what was decoded, so that any codes hold every constraint

| constraint | learnt instead | made again |
|---|---|---|
| inequality | `high` minus `low`, or days (days.py) | `low` plus it, within training and the schema |
| sum | nothing, or whether `total` is missing | the sum of the parts |
| combinations | one column of the values together | its parts |
| none, of dates and times | week, weekday and time of day (moments.py) | of these |
| within | which of the codes that go with the others (nested.py) | that code |
| one_to_one, determines, dependencies found | nothing | looked up: the commonest partner in training |

A training row that breaks a constraint is learnt as `restore` would make it: what is made follows from the
others. Such rows are counted; more than half of all are an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import CodecConfig
from genpipe.codecs.columns import Column, Placeholder
from genpipe.codecs.holders import Holders
from genpipe.codecs.stored import RelationsForm
from genpipe.codecs.tabular.choice import Counted
from genpipe.codecs.tabular.days import offset
from genpipe.codecs.tabular.dependencies import choose_dependencies, held_pairs, observe_dependencies
from genpipe.codecs.tabular.lookups import Columns, Lookup, Pairs, Tied, agreeing, fit_lookup
from genpipe.codecs.tabular.moments import Moment, taken_apart
from genpipe.codecs.tabular.nested import Nested, fit_nested, read_nested
from genpipe.codecs.tabular.offsets import Offset
from genpipe.codecs.tabular.relation_stats import RelationStats, check_broken, observe_pairs
from genpipe.codecs.tabular.stats import extremes_of
from genpipe.constraints import SCALARS, OneToOne, Reckoned, Within
from genpipe.derivations import derivations, tied
from genpipe.errors import DataError, UsageError
from genpipe.fields import AnyField
from genpipe.limits import limits
from genpipe.schema import Schema


class Relations:
    """The constraints of a schema, and the dependencies found beside them.

    lookups, nested: those fitted so far, in the order of making. extremes: of each column that is reckoned.
    broken: constraint -> how many training rows break it. apart: dates and times that are taken apart; None:
    all that can be.
    """

    def __init__(
        self,
        schema: Schema,
        lookups: Iterable[Lookup] = (),
        extremes: Mapping[str, tuple[Any, Any]] | None = None,
        broken: Mapping[str, int] | None = None,
        *,
        apart: Collection[str] | None = (),
        nested: Iterable[Nested] = (),
    ) -> None:
        self.schema, self.lookups, self.extremes = schema, tuple(lookups), dict(extremes or {})
        self.broken, self.apart, self.nested = dict(broken or {}), apart, tuple(nested)
        self.derived = derivations(schema.constraints, schema.fields, schema.conditions)
        self._fields = limits({f.name: f for f in schema.fields}, self.derived)
        self.offsets = tuple(
            offset(self._label(c), c, self._fields[n], self._of(sources), self.extremes.get(n))
            for n, (c, sources) in self.derived.items()
            if isinstance(c, Reckoned)
        )
        self.tied = tuple(Tied(self._label(c), self._of(tied(c))) for c in schema.constraints if tied(c))
        made = {*self.derived, *(k.field.name for k in self.lookups), *schema.conditions, schema.target}
        made |= {s.name for t in self.tied for s in t.sources}
        moments = taken_apart(self._fields.values(), made, self.extremes)
        self.moments = tuple(m for m in moments if apart is None or m.field.name in apart)
        self.reduced: tuple[Offset | Tied | Moment | Nested, ...] = (
            *self.moments, *self.offsets, *self.tied, *self.nested,
        )  # fmt: skip
        instead = [n for o in self.offsets for n in o.names] + [n for m in self.moments for n in m.names]
        instead += [*(t.field.name for t in self.tied), *(n.name for n in self.nested)]
        for name in instead:
            if name in schema.names or instead.count(name) > 1:
                raise UsageError(
                    "NAME",
                    where="constraints",
                    found=f"a column named {name!r}",
                    expected="another name: so is one that is made for a constraint",
                    fix="rename the column",
                )

    def owner(self, name: str) -> str:
        """The date or time that a learnt column is a part of; else the column itself."""
        return next((m.field.name for m in self.moments if name in m.names), name)

    def _of(self, names: Iterable[str]) -> tuple[AnyField, ...]:
        return tuple(self._fields[n] for n in names)

    def _label(self, constraint: Any) -> str:
        return f"constraints[{self.schema.constraints.index(constraint)}] ({constraint})"

    @property
    def looked_up(self) -> tuple[Lookup | Nested, ...]:
        return (*self.lookups, *self.nested)

    @property
    def declared(self) -> list[str]:
        """Columns that the schema says are looked up, sources before what is made of them."""
        reckoned = {o.field.name for o in self.offsets}
        return [name for name in self.derived if name not in reckoned]

    @property
    def fields(self) -> tuple[AnyField, ...]:
        """What is learnt, in the order of the columns it stands for, codes within others last; the conditions
        are not among it."""
        instead: dict[str, tuple[AnyField, ...]] = {o.field.name: o.fields for o in self.offsets}
        instead |= {m.field.name: m.fields for m in self.moments}
        instead |= dict.fromkeys([*self.declared, *(k.field.name for k in self.lookups)], ())
        for t in self.tied:
            instead |= dict.fromkeys((s.name for s in t.sources), ())
            instead[t.sources[0].name] = (t.field,)
        own = [f for f in self.schema.fields if f.name not in self.schema.conditions]
        learnt = (g for f in own for g in instead.get(f.name, (self._fields[f.name],)))
        return (*learnt, *(n.learnt for n in self.nested))

    @property
    def observed(self) -> tuple[AnyField, ...]:
        """What statistics are needed of: what is learnt, and the extremes of what is reckoned."""
        return (*(f for f in self.fields if f not in [n.learnt for n in self.nested]), *self._with_extremes)

    @property
    def _with_extremes(self) -> tuple[Any, ...]:
        """Columns that are kept within what training had."""
        return (*(o.field for o in self.offsets), *(m.field for m in self.moments))

    def reduce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the columns of `fields`; its own stay beside them."""
        columns = own = dict(zip(batch.schema.names, batch.columns, strict=True))
        for relation in self.reduced:
            columns = columns | relation.reduce(own)
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    def told(self, batch: pa.RecordBatch) -> dict[str, tuple[pa.Array, np.ndarray]]:
        """What a batch of some of the schema's columns tells of those that are learnt, and (B,) where: of its
        own, of the sources of one-to-one lookups, and of what is reduced from columns that are all there.
        """
        own = dict(zip(batch.schema.names, batch.columns, strict=True))
        for lookup in reversed(self.lookups):
            if lookup.field.name in own and len(lookup.sources) == 1:
                name, found = lookup.sources[0].name, lookup.reverse(own[lookup.field.name])
                own[name] = pc.coalesce(own[name], found) if name in own else found
        told = {name: (column, _there(column)) for name, column in own.items()}
        for relation in self.reduced:
            if all(name in own for name in relation.needs):
                there = np.all([_there(own[name]) for name in relation.needs], axis=0)
                told |= {name: (column, there) for name, column in relation.reduce(own).items()}
        return told

    def settled(self, batch: pa.RecordBatch) -> np.ndarray:
        """(B,) whether a row has all that constraints and dependencies speak of: nothing is left to make."""
        spoken = {n for r in self.reduced for n in r.needs}
        spoken |= {n for k in self.lookups for n in (k.field.name, *(s.name for s in k.sources))}
        if not spoken <= set(batch.schema.names):
            return np.zeros(batch.num_rows, dtype=bool)
        found: np.ndarray = np.all(
            [np.ones(batch.num_rows, bool), *(_there(batch.column(n)) for n in spoken)], axis=0
        )
        return found

    def restore(self, columns: Columns) -> Columns:
        # twice: a lookup may put its source right after another has looked there
        lookups = (*self.lookups, *self.lookups)
        relations: tuple[Any, ...] = (*self.moments, *self.tied, *self.nested, *lookups, *self.offsets)
        for relation in relations:
            columns = columns | relation.restore(columns)
        return columns

    def holds(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Constraint -> (B,) whether each row keeps it; `combinations` make what is kept, and keep it."""
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        relations: tuple[Offset | Lookup, ...] = (*self.offsets, *self.lookups)
        return {relation.label: relation.holds(columns) for relation in relations}

    def observe(self, batch: pa.RecordBatch, who: np.ndarray | None, config: CodecConfig) -> RelationStats:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        pairs: dict[str, Pairs] = {}
        holders: dict[str, Holders] = {}
        for name in self.declared:
            keys = [columns[s] for s in self.derived[name][1]]
            pairs[name], who_has = observe_pairs(keys, columns[name], who, config.rare_below)
            holders |= {} if who_has is None else {name: who_has}
        broken = {label: int((~held).sum()) for label, held in self.holds(batch).items()}
        found = observe_dependencies(columns, self._searched(config.dependencies))
        return RelationStats(pairs, broken, found, holders)

    def _searched(self, among: bool | tuple[str, ...]) -> list[str]:
        """Columns among which dependencies are sought; what is reckoned takes no part."""
        reckoned = {n for o in self.offsets for n in o.constraint.names}
        reckoned |= {c.column for c in self.schema.constraints if isinstance(c, Within)}
        names = [f.name for f in self.schema.fields if f.kind in SCALARS and f.name not in reckoned]
        return [n for n in names if among is True or (among and n in among)]

    def fit(
        self, stats: RelationStats, counted: Mapping[str, Counted], *, rows: int, config: CodecConfig
    ) -> Relations:
        """With the partners of training looked up, and the dependencies that were found. counted: who has the
        values of each column; none where every row is an entity."""
        lookups, nested, broken, rare = [], list[Nested](), dict(stats.broken), config.rare_below
        conditions = self.schema.conditions
        given = {*conditions, *(s.name for t in self.tied for s in t.sources)}
        for name in self.declared:
            c, sources = self.derived[name]
            about = self._label(c), self._of(sources), self._fields[name]
            held = stats.held(name, *about[1:])
            if isinstance(c, Within):
                nested.append(fit_nested(*about, held, rare=rare, given=frozenset(given)))
                continue
            lookup, bad = fit_lookup(
                *about, stats.pairs[name], held,
                one_to_one=isinstance(c, OneToOne), rare=rare, given=sources[0] in given,
            )  # fmt: skip
            lookups.append(lookup)
            broken[lookup.label] = bad
        check_broken(broken, rows)
        used = {n for c in self.schema.constraints for n in c.names}
        free = {f.name for f in self.schema.fields} - used - {*conditions, self.schema.target}
        pairs = stats.found if config.dependencies else {}
        found = {(a, b): (seen, held_pairs(seen, counted.get(a))) for (a, b), seen in pairs.items()}
        for source, name in choose_dependencies(found, self.schema.fields, free, rare=rare):
            seen, held = found[source, name]
            lookups.append(
                fit_lookup(
                    f"{source} -> {name}", self._of([source]), self._fields[name], seen, held,
                    one_to_one=False, rare=rare, given=source in given,
                )[0]
            )  # fmt: skip
        broken = {label: bad for label, bad in broken.items() if bad}
        made = agreeing(lookups, given)
        return Relations(self.schema, made, self.extremes, broken, apart=self.apart, nested=nested)

    def with_extremes(self, columns: Mapping[str, Column]) -> Relations:
        """With the extremes of training; columns: the codecs of all that is `observed`."""
        for t in self.tied:
            if isinstance(columns[t.field.name], Placeholder):
                raise DataError(
                    "CONSTRAINT",
                    where=t.label,
                    found="no combination of so many rows as codec.rare_below asks for",
                    fix="lower codec.rare_below, or remove the constraint from the schema file",
                )
        ends = {f.name: extremes_of(columns[f.name]) for f in self._with_extremes}
        known = {name: pair for name, pair in ends.items() if pair}
        return Relations(self.schema, self.lookups, known, self.broken, apart=self.apart, nested=self.nested)

    def tolerance(self, learnt: dict[str, float]) -> dict[str, float]:
        """Of the columns that are made, from those of the columns learnt; see Codec.tolerance."""
        out = dict(learnt)
        for m in self.moments:
            out[m.field.name] = m.tolerance(out)
        for t in self.tied:
            exact = out[t.field.name] == 0
            out |= {s.name: 0.0 if exact else float("inf") for s in t.sources}
        out |= dict.fromkeys((n.field.name for n in self.nested), float("inf"))
        for k in self.lookups:
            exact = all(out[s.name] == 0 for s in k.sources)
            out[k.field.name] = 0.0 if exact else float("inf")
        for o in self.offsets:
            out[o.field.name] = o.tolerance(out)
        return {name: out[name] for name in self.schema.names if name in out}

    def to_json(self) -> dict[str, Any]:
        extremes = {name: list(ends) for name, ends in sorted(self.extremes.items())}
        told = {"lookups": [k.to_json() for k in self.lookups], "extremes": extremes, "broken": self.broken}
        told |= {"apart": [m.field.name for m in self.moments]} if self.moments else {}
        return told | ({"nested": [n.to_json() for n in self.nested]} if self.nested else {})

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> Relations:
        form = RelationsForm.model_validate(data)
        bare = cls(schema, apart=form.apart)
        lookups = [Lookup.read(each, bare._fields) for each in form.lookups]
        extremes = {name: (low, high) for name, (low, high) in form.extremes.items()}
        real = {o.field.name for o in bare.offsets if o.real}
        for field in bare._with_extremes:
            low, high = extremes.get(field.name, (0, 0))
            if low > high or not (field.name in real or (isinstance(low, int) and isinstance(high, int))):
                raise ValueError(f"extremes {low} to {high} of {field.name!r}")
        given = frozenset({*schema.conditions, *(s.name for t in bare.tied for s in t.sources)})
        nested = read_nested(form.nested, bare._fields, given, schema.constraints)
        return cls(schema, lookups, extremes, form.broken, apart=form.apart, nested=nested)


def _there(column: pa.Array) -> np.ndarray:
    found: np.ndarray = column.is_valid().to_numpy(zero_copy_only=False)
    return found
