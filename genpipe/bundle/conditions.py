"""What a user asks of the rows, sorted by how a generator can grant it.

classes    the target, which enters the network beside the data
observed   table columns whose tokens are given before the first draw: any of them where the network learnt
           any order of columns, else the first ones; all else, the target too, is drawn given them
begins     how a text or a series begins: the rest is made after it
filters    all others: rows are drawn and kept where they fit, with a bound on how much may be thrown away

A value may also be a mapping of values to shares: so many rows of each (rebalancing). Or of signs to values,
{">=": 30, "<": 40}: rows are drawn and kept where all hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.bundle.beginning import HISTORY, PROMPT, Beginning, no_beginning, parse_beginning
from genpipe.bundle.mix import Mix, mix_of, scalar_of
from genpipe.codecs.base import Codec
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.comparison import ORDER, SIGNS, holds
from genpipe.constraints import NUMBERS, SCALARS
from genpipe.errors import UsageError, closest, unknown
from genpipe.fields import AnyField
from genpipe.spec import UNOBSERVED


class Test(Protocol):
    """What rows must pass. fix: what to do where few do; `str` says what it is."""

    @property
    def fix(self) -> str: ...

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that pass."""


@dataclass(frozen=True)
class Conditions:
    """classes: condition field -> classes. observed: column -> values. filters: column -> sign -> value.
    begins: see beginning.py.
    """

    classes: dict[str, Mix]
    observed: dict[str, Mix]
    filters: dict[str, dict[str, pa.Scalar]]
    begins: Beginning | None = None
    fix: ClassVar[str] = "ask for a commoner value, make that column the target, or train 'tabular_any_order'"

    def conditions(self, codec: Codec, rows: int, rng: np.random.Generator) -> np.ndarray:
        """(rows, K) classes for the network, UNOBSERVED where the user leaves them."""
        names = codec.conditions.names
        out = np.full((rows, len(names)), UNOBSERVED, dtype=np.int64)
        for name, mix in self.classes.items():
            k = names.index(name)
            codes = pa.array([codec.conditions.code(name, v) for v in mix.values.to_pylist()], pa.int64())
            out[:, k] = Mix(codes, mix.shares).draw(rows, rng).to_numpy()
        return out

    def columns(self, rows: int, rng: np.random.Generator) -> pa.RecordBatch:
        """The observed columns."""
        drawn = {name: mix.draw(rows, rng) for name, mix in self.observed.items()}
        return pa.RecordBatch.from_arrays(list(drawn.values()), names=list(drawn))

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that pass every filter."""
        mask = pa.array(np.ones(batch.num_rows, dtype=bool))
        for name, sign, value in self._filters():
            mask = pc.and_(mask, _fits(sign, batch.column(name), value))
        return batch.filter(mask)

    def _filters(self) -> list[tuple[str, str, pa.Scalar]]:
        return [(name, sign, v) for name, asked in self.filters.items() for sign, v in asked.items()]

    @property
    def tested(self) -> dict[str, dict[str, pa.Scalar]]:
        """`filters`, as the code of models registered by 0.1 calls them."""
        return self.filters

    def __str__(self) -> str:
        return " and ".join(f"{name} {sign} {_shown(value)}" for name, sign, value in self._filters())


def _fits(sign: str, column: pa.Array, value: pa.Scalar) -> pa.Array:
    """(B,) bool. A missing value equals another one, and is neither more nor less than any."""
    if value.is_valid:
        return holds(sign, column, value)
    return pc.is_null(column) if sign == "=" else pc.is_valid(column)


def _shown(value: pa.Scalar) -> str:
    """As Python would show it; times that Python cannot hold as text."""
    try:
        return repr(value.as_py())
    except (ValueError, OverflowError):
        return str(value.cast(pa.string()))


def parse_conditions(codec: Codec, conditions: Mapping[str, Any] | None, takes_observed: str) -> Conditions:
    """Check every name and value now; a wrong one is a UsageError before anything is drawn.

    takes_observed: of the family, which tokens it may be given: none, a row's first ones, or any.
    """
    schema, conditions = codec.schema, dict(conditions or {})
    begins = parse_beginning(codec, conditions, takes_observed)
    classes: dict[str, Mix] = {}
    observed: dict[str, Mix] = {}
    filters: dict[str, dict[str, pa.Scalar]] = {}
    able = _observable(codec, conditions, takes_observed)
    for name, value in conditions.items():
        where = f"conditions: {name}"
        if name not in schema.names:
            if name in (PROMPT, HISTORY):
                raise no_beginning(name, schema.kind)
            raise unknown("column", name, schema.names, where="conditions")
        field = schema.field(name)
        if name not in schema.conditions and field.kind not in SCALARS:
            expected = "a choice, number or date"
            raise UsageError("CONDITION", where=where, found=f"a column of {field.kind}", expected=expected)
        if isinstance(value, Mapping) and value and {*value} <= {*SIGNS}:
            filters[name] = _compared(field, value, where)
            continue
        mix = mix_of(value, field.arrow(), where=where)
        if name in schema.conditions:
            for each in mix.values.to_pylist():
                codec.conditions.code(name, each)
            classes[name] = mix
        elif name in able:
            _check_legal(codec, name, mix, where)
            observed[name] = mix
        elif len(mix.values) == 1:
            filters[name] = {"=": mix.values[0]}
        else:
            raise UsageError(
                "CONDITION",
                where=where,
                found="shares of a column this generator is not given beforehand",
                expected=", ".join(n for n in schema.names if n in {*schema.conditions, *able})
                or "one value",
                fix="ask for one value, or leave out the constraint or dependency that makes it"
                if takes_observed == "any"
                else "train with recipe 'tabular_any_order', or make it the target when ingesting",
            )
    return Conditions(classes, observed, filters, begins)


def _observable(codec: Codec, names: Mapping[str, Any], takes_observed: str) -> Sequence[str]:
    """Of the table's columns those that can be given before the first draw."""
    if takes_observed == "none" or not isinstance(codec, ColumnCodec):
        return ()
    learnt = list(dict.fromkeys(codec.relations.owner(c.field.name) for c in codec.learnt))
    if takes_observed == "any":
        return learnt
    first = next((i for i, name in enumerate(learnt) if name not in names), len(learnt))
    return learnt[:first]


def _compared(field: AnyField, asked: Mapping[str, Any], where: str) -> dict[str, pa.Scalar]:
    """Sign -> value of the column's type, which has an order where the sign asks for one."""
    for sign in asked:
        if sign in ORDER and field.kind not in NUMBERS:
            found, expected = f"{sign} of a {field.kind}", "= or !=, or a column of numbers or dates"
            raise UsageError("CONDITION", where=where, found=found, expected=expected)
        if sign in ORDER and asked[sign] is None:
            raise UsageError("CONDITION", where=where, found=f"{sign} nothing", expected="a number or date")
    values = {sign: scalar_of(v, field.arrow(), where=where) for sign, v in asked.items()}
    low, high = (
        next((values[sign] for sign in pair if sign in values), None) for pair in ((">=", ">"), ("<=", "<"))
    )
    if low is not None and high is not None and pc.greater(low, high).as_py():
        found = " and ".join(f"{field.name} {sign} {_shown(value)}" for sign, value in values.items())
        raise UsageError("CONDITION", where=where, found=f"{found}, which nothing is", expected="a range")
    return values


def _check_legal(codec: Codec, name: str, mix: Mix, where: str) -> None:
    assert isinstance(codec, ColumnCodec)
    told = codec.relations.told(pa.RecordBatch.from_arrays([mix.values], names=[name]))
    for column in codec.learnt:
        if codec.relations.owner(column.field.name) != name:
            continue
        legal = column.legal(told[column.field.name][0])
        if legal.all():
            continue
        value = mix.values[int(legal.argmin())].as_py()
        apart = next((m for m in codec.relations.moments if m.field.name == name), None)
        allowed = apart.allowed() if apart else column.allowed()
        raise UsageError(
            "CONDITION",
            where=where,
            found=repr(value),
            expected=", ".join(allowed[:20]),
            fix=closest(str(value), allowed),
        )
