"""Which columns constraints make, from which others, and in what order.

Each constraint but `combinations` makes one column. What cannot be kept is a ValueError with its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from genpipe.constraints import (
    NUMBERS,
    SCALARS,
    TIMES,
    AnyConstraint,
    Combinations,
    Determines,
    Inequality,
    Linear,
    Logarithm,
    OneToOne,
    Product,
    Ratio,
    Reckoned,
    Sum,
    Within,
)  # fmt: skip
from genpipe.errors import closest, few
from genpipe.fields import AnyField
from genpipe.limits import limits

Derivations = dict[str, tuple[Any, tuple[str, ...]]]


def derivations(
    constraints: Iterable[AnyConstraint], fields: Iterable[AnyField], conditions: tuple[str, ...]
) -> Derivations:
    """Column made from others -> (its constraint, these others), in an order in which they can be made.

    conditions: columns that are given and never made. ValueError: a declaration that cannot be kept, with
    its place in the file.
    """
    by_name, numbered = {f.name: f for f in fields}, list(enumerate(constraints))
    for i, c in numbered:
        _check_columns(f"constraints[{i}]", c, by_name, conditions)
    derived: Derivations = {}
    made: dict[str, int] = {}  # column -> the constraint that makes it, alone or tied to others
    for i, c in numbered:
        for name in tied(c):
            if name in made:
                raise ValueError(_twice(i, name, made[name]))
            made[name] = i
    # a one_to_one chooses its side when it is known what else is made
    for i, c in sorted(numbered, key=lambda ic: isinstance(ic[1], OneToOne)):
        ways = _ways(c, by_name)
        free = [w for w in ways if w[0] not in {*conditions, *made}]
        free = [w for w in free if len(ways) == 1 or w[0] not in _ancestors(w[1], derived)]
        if free:
            name, sources = free[0]
            derived[name], made[name] = (c, sources), i
        elif ways:
            name = next((n for n, _ in ways if n in made), ways[0][0])
            raise ValueError(
                _twice(i, name, made[name]) if name in made else _given(f"constraints[{i}]", name)
            )
    _check_apart(numbered)
    order = _ordered(derived, made)
    limits(by_name, order, numbered)
    return order


def tied(constraint: AnyConstraint) -> tuple[str, ...]:
    """Columns that become one: only their combinations of training are made."""
    if isinstance(constraint, Combinations):
        return constraint.columns
    return constraint.columns if isinstance(constraint, Determines) and len(constraint.columns) > 1 else ()


def _check_columns(
    where: str, c: AnyConstraint, fields: Mapping[str, AnyField], conditions: tuple[str, ...]
) -> None:
    """Every column known, named once, and of a kind the constraint can compare."""
    ordered = {"inequality": TIMES if getattr(c, "days", False) else NUMBERS}
    ordered |= dict.fromkeys(("sum", "product", "ratio", "logarithm", "linear"), NUMBERS[:2])
    allowed = ordered.get(c.type, SCALARS)
    for key, name in c.columns_by_key:
        if name not in fields:
            hint = closest(name, fields) or "fields are " + few(fields)
            raise ValueError(f"{where}.{key}: {name!r} is not a field; {hint}")
        if c.names.count(name) > 1:
            raise ValueError(f"{where}.{key}: {name!r} is named twice; columns must differ")
        if fields[name].kind not in allowed:
            raise ValueError(
                f"{where}.{key}: {name!r} is of kind {fields[name].kind}; {c.type} compares "
                f"{', '.join(allowed)}; change the field's kind, or leave the column out"
            )
        if name in conditions and name in tied(c):
            raise ValueError(_given(f"{where}.{key}", name))
    kinds = {n: "number" if fields[n].kind in NUMBERS[:2] else str(fields[n].arrow()) for n in c.names}
    days = {fields[n].kind for n in c.names} == set(TIMES)
    if isinstance(c, Inequality | Sum) and len(set(kinds.values())) > 1 and not days:
        shown = ", ".join(f"{n!r} is {kind}" for n, kind in kinds.items())
        raise ValueError(f"{where}: {shown}; give both the same kind (of times also the same unit and zone)")


def reckoned(c: Reckoned) -> tuple[str, tuple[str, ...]]:
    """(the column that a constraint makes, those it is made of)."""
    return _ways(c, {})[0]


def _ways(c: AnyConstraint, fields: Mapping[str, AnyField]) -> list[tuple[str, tuple[str, ...]]]:
    """(column to make, from which), the better way first."""
    if isinstance(c, Inequality):
        return [(c.high, (c.low,))]
    if isinstance(c, Within | Logarithm | Linear):
        return [(c.column, c.of if isinstance(c, Within) else (c.of,))]
    if isinstance(c, Ratio):
        return [(c.rate, (c.part, c.whole))]
    if isinstance(c, Sum | Product | Determines):
        return [(c.target, c.columns) if isinstance(c, Determines) else (c.total, c.parts)]
    if isinstance(c, OneToOne):
        a, b = c.columns
        ways: list[tuple[str, tuple[str, ...]]] = [(b, (a,)), (a, (b,))]
        # words decide numbers rather than the reverse: a choice is made exactly in every layout
        return sorted(ways, key=lambda way: fields[way[0]].kind in ("category", "boolean"))
    return []


def _ancestors(names: Iterable[str], derived: Derivations) -> set[str]:
    """The names, and all that these are made from."""
    found, waiting = set[str](), list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += derived[name][1] if name in derived else ()
    return found


def _check_apart(numbered: list[tuple[int, Any]]) -> None:
    """Sums and differences may be any number, the other types know only the values of training."""
    reckoned = {n: i for i, c in numbered if isinstance(c, Reckoned) for n in c.names}
    for i, c in numbered:
        for key, name in c.columns_by_key if not isinstance(c, Reckoned) else ():
            if name in reckoned:
                raise ValueError(
                    f"constraints[{i}].{key}: {name!r} is in constraints[{reckoned[name]}] as well; an "
                    "inequality, sum, product, ratio, logarithm or linear cannot share columns with other "
                    "types; "
                    "remove one of the two"
                )


def _ordered(derived: Derivations, made: dict[str, int]) -> Derivations:
    try:
        order = TopologicalSorter({name: sources for name, (_, sources) in derived.items()}).static_order()
        return {name: derived[name] for name in order if name in derived}
    except CycleError as error:
        which = sorted({made[name] for name in error.args[1]})
        raise ValueError(
            f"constraints[{which[-1]}]: a circle: {' from '.join(map(repr, error.args[1]))}; remove one of "
            + ", ".join(f"constraints[{i}]" for i in which)
        ) from None


def _given(where: str, name: str) -> str:
    return (
        f"{where}: {name!r} is the target, which is given and cannot be made from other columns or tied to "
        "them; exchange the sides, leave it out, or choose another target"
    )


def _twice(i: int, name: str, before: int) -> str:
    return (
        f"constraints[{i}]: {name!r} is made by constraints[{before}] already; a column can be made in one "
        "way only; remove one of the two, or exchange the sides"
    )
