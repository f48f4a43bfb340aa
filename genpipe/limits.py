"""Limits of columns that follow from constraints: what is reckoned from a column stays within its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from genpipe.fields import AnyField


def limits(
    fields: Mapping[str, AnyField], derived: dict[str, Any], numbered: Iterable[tuple[int, Any]] = ()
) -> dict[str, Any]:
    """The fields with the limits that constraints add: a low side stays below the high side's maximum."""
    out: dict[str, Any] = dict(fields)
    for c, _ in reversed(derived.values()):
        if c.type == "inequality" and (top := greatest(out[c.high])) is not None:
            out[c.low] = _capped(out[c.low], top, c.strict)
    for i, c in numbered:
        for name in c.names:
            low, high = getattr(out[name], "minimum", None), getattr(out[name], "maximum", None)
            if low is not None and high is not None and low > high:
                raise ValueError(
                    f"constraints[{i}]: {c} leaves no value for {name!r}: from {low} to {high}; "
                    "raise a maximum, lower a minimum, or remove the constraint"
                )
        for end in ("minimum", "maximum") if c.type == "sum" else ():
            _check_total(i, c, end, out)
    return out


def greatest(field: Any) -> float | None:
    """The greatest value a field allows, in whole units of its decimals; None = no limit."""
    top, decimals = getattr(field, "maximum", None), getattr(field, "decimals", None)
    if top is None or decimals is None:
        return top
    unit = 10.0**decimals
    nearest = round(top * unit)
    return (nearest - (nearest / unit > top)) / unit


def _capped(field: Any, top: float, strict: bool) -> Any:
    """The field with no value above `top`, or, if strict, none that reaches it."""
    if field.kind == "integer":
        most: float = math.ceil(top) - 1 if strict else math.floor(top)
    elif field.decimals is None or not strict:
        most = math.nextafter(top, -math.inf) if strict else top
    else:
        unit = 10.0**field.decimals
        most = (math.ceil(round(top * unit, 6)) - 1) / unit
    return field.model_copy(update={"maximum": most if field.maximum is None else min(most, field.maximum)})


def _check_total(i: int, c: Any, end: str, fields: Mapping[str, Any]) -> None:
    """A limit of a total must follow from its parts: there is no fair way to shorten some of them."""
    limit, ends = getattr(fields[c.total], end), [getattr(fields[p], end) for p in c.parts]
    if limit is None:
        return
    if None not in ends:
        reached = round(math.fsum(ends), getattr(fields[c.total], "decimals", 0) or 9)
        if reached >= limit if end == "minimum" else reached <= limit:
            return
    raise ValueError(
        f"constraints[{i}].total: {c.total!r} has the {end} {limit}, which its parts may break; give every "
        f"part a {end} that adds up to {limit}, or remove the {end} of {c.total!r} and whatever limits it"
    )
