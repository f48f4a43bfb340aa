"""What a user asks of the rows, sorted by how a generator can grant it.

classes    the target, which enters the network beside the data
observed   table columns whose tokens are given before the first draw: any of them where the network learnt
           any order of columns, else the first ones; all else, the target too, is drawn given them
filters    all others: rows are drawn and kept where they fit, with a bound on how much may be thrown away

A value may also be a mapping of values to shares: so many rows of each (rebalancing). Or of signs to values,
{">=": 30, "<": 40}: rows are drawn and kept where all hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import Codec
from genpipe.codecs.conditions import spread_draws
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.comparison import ORDER, SIGNS, holds
from genpipe.constraints import NUMBERS, SCALARS
from genpipe.errors import UsageError, closest, unknown
from genpipe.fields import AnyField
from genpipe.spec import UNOBSERVED


@dataclass(frozen=True)
class Mix:
    """Values of a column's type, and the share of rows each is for."""

    values: pa.Array
    shares: tuple[float, ...]

    def draw(self, rows: int, rng: np.random.Generator) -> pa.Array:
        return self.values.take(pa.array(spread_draws(np.asarray(self.shares), rows, rng)))


@dataclass(frozen=True)
class Conditions:
    """classes: condition field -> classes. observed: column -> values. filters: column -> sign -> value."""

    classes: dict[str, Mix]
    observed: dict[str, Mix]
    filters: dict[str, dict[str, pa.Scalar]]

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
    schema, conditions = codec.schema, conditions or {}
    classes: dict[str, Mix] = {}
    observed: dict[str, Mix] = {}
    filters: dict[str, dict[str, pa.Scalar]] = {}
    able = _observable(codec, conditions, takes_observed)
    for name, value in conditions.items():
        where = f"conditions: {name}"
        if name not in schema.names:
            raise unknown("column", name, schema.names, where="conditions")
        field = schema.field(name)
        if name not in schema.conditions and field.kind not in SCALARS:
            expected = "a choice, number or date"
            raise UsageError("CONDITION", where=where, found=f"a column of {field.kind}", expected=expected)
        if isinstance(value, Mapping) and value and {*value} <= {*SIGNS}:
            filters[name] = _compared(field, value, where)
            continue
        mix = _mix(value, field.arrow(), where=where)
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
    return Conditions(classes, observed, filters)


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
    return {sign: _scalar(v, field.arrow(), where=where) for sign, v in asked.items()}


def _mix(value: Any, kind: pa.DataType, *, where: str) -> Mix:
    """A value, or a mapping of values to shares, as the column's type."""
    if not isinstance(value, Mapping):
        return Mix(pa.array([_scalar(value, kind, where=where).as_py()], kind), (1.0,))
    shares = tuple(value.values())
    numbers = all(isinstance(s, int | float) and not isinstance(s, bool) and 0 <= s < 1e18 for s in shares)
    if not numbers or not sum(shares) > 0:
        raise UsageError(
            "CONDITION", where=where, found=repr(dict(value)), expected="values and their shares, 0 or more"
        )
    return Mix(pa.array([_scalar(v, kind, where=where).as_py() for v in value], kind), shares)


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


def _scalar(value: Any, kind: pa.DataType, *, where: str) -> pa.Scalar:
    """The value as the column's type; text is parsed, so that the command line may give it."""
    try:
        if (value is not None and not isinstance(value, int | float)) or isinstance(value, bool):
            value = str(value)
        return pa.scalar(value).cast(kind) if value is not None else pa.scalar(None, kind)
    except (pa.ArrowException, ValueError, TypeError):
        raise UsageError(
            "CONDITION", where=where, found=repr(value), expected=f"a value of type {kind}"
        ) from None
