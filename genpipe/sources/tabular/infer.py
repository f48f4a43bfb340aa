"""Column statistics -> the field they amount to, with the reason a person can check and overrule."""

from __future__ import annotations

from typing import Any

from genpipe.errors import DataError
from genpipe.fields import AnyField, Boolean, Category, Date, Identifier, Integer, Number, Text, Timestamp
from genpipe.sources.columns import EXACT_FLOAT, Column
from genpipe.sources.tabular import pii

STRAY = 0.1  # a column with a smaller share of odd values is a faulty column of its main type
FEW, SOME, REPEATED = (
    20,
    1000,
    5,
)  # a category has at most FEW values, or SOME of REPEATED rows each, on average


def infer_field(column: Column, *, target: bool = False) -> AnyField | None:
    """The field of a column; None = it holds nothing at all."""
    if column.valid == 0:
        return None
    common: dict[str, Any] = {"name": column.name, "nullable": column.nulls > 0}
    missing = f", {column.nulls} missing" if column.nulls else ""
    kinds = set(column.types)
    if column.written and max(column.written.values()) > (1 - STRAY) * column.valid:
        return _written(column, common, missing)
    if not target and (found := pii.find(column.name, column.looked)):
        kind, why = found
        decision = "personal data, never learnt, the output gets made-up ones (another kind is learnt)"
        return Text.model_validate({**common, "pii": kind, "reason": f"{why}: {decision}{missing}"})
    if kinds & {"text", "code"}:
        return _choice(column, common, missing, target)
    if kinds == {"integer"}:
        return _integer(column, common, missing, target)
    if kinds == {"integer", "number"} and max(abs(column.low or 0), abs(column.high or 0)) > EXACT_FLOAT:
        raise DataError(
            "INTRANGE",
            where=column.name,
            found="whole numbers beyond 2^53 mixed with fractions",
            expected="numbers a 64-bit float holds exactly",
            fix="name the column `identifier` in a schema file",
        )
    if kinds <= {"integer", "number"}:
        largest = max(abs(column.low or 0), abs(column.high or 0))
        decimals, dust = column.digits.settled(column.valid, largest)
        digits = "any precision" if decimals is None else f"{decimals} decimals"
        if dust:
            digits += f" but for the dust of arithmetic in {dust} of {column.valid}, read without it"
        return Number(**common, decimals=decimals, reason=f"numbers, {digits}{missing}")
    if kinds == {"boolean"}:
        return Boolean(**common, reason=f"only true and false{missing}")
    if kinds == {"date"}:
        return Date(**common, reason=f"dates (year-month-day){missing}")
    return _timestamp(column, common, missing)


def _written(column: Column, common: dict[str, Any], missing: str) -> AnyField:
    """A date or time in the format that takes every value; the first, where several do."""
    fit = [format for format, n in column.written.items() if n == column.valid]
    if not fit:
        best = max(column.written, key=lambda format: column.written[format])
        raise DataError(
            "TYPE",
            where=column.name,
            found=f"{column.valid - column.written[best]} of {column.valid} values are not written as {best}",
            expected="dates or times in one format",
            fix=f"list them in nulls=; `format: {best!r}` beside the kind in a schema file names their rows",
        )
    reason = f"written as {fit[0]}{missing}"
    if len(fit) > 1:
        reason += f"; {fit[1]} would do as well: set `format` to it if days and months are mixed up"
    if "%H" in fit[0] or "%I" in fit[0]:
        return Timestamp(**common, unit="s", format=fit[0], reason=f"points in time {reason}")
    return Date(**common, format=fit[0], reason=f"dates {reason}")


def _integer(column: Column, common: dict[str, Any], missing: str, target: bool) -> AnyField:
    few = column.distinct <= FEW and column.distinct * 2 <= column.valid
    if target and few:
        return Category(
            **common, reason=f"the target, {column.distinct} different whole numbers: classes{missing}"
        )
    span = (column.high or 0) - (column.low or 0) + 1
    if not column.nulls and not target and span == column.rows and column.distinct > 0.9 * column.rows:
        return Identifier(**common, storage="integer", reason="counts the rows: every number of a range once")
    return Integer(**common, reason=f"{column.unit or 'whole numbers'}{missing}")


def _choice(column: Column, common: dict[str, Any], missing: str, target: bool) -> AnyField:
    odd = column.types["text"]
    rest = column.valid - odd - column.types["code"]
    if odd and odd < STRAY * column.valid:
        main = max((k for k in column.types if k != "text"), key=lambda k: column.types[k])
        shown = "; ".join(
            f"{value!r} in row {row} of {uri.rsplit('/', 1)[-1]}" for uri, row, value in column.odd
        )
        raise DataError(
            "TYPE",
            where=column.name,
            found=f"{odd} of {column.valid} values are not of type {main}: {shown}",
            expected=main,
            fix="correct them, list them in nulls=, or name the column's kind in a schema file",
        )
    distinct = column.distinct
    why = f"{distinct} different texts in {column.valid} rows{missing}"
    if column.types["code"]:
        why = f"digits that a number would change (leading zeros or more than 18 digits), {why}"
    elif rest:
        uri, row, _ = column.odd[0]  # the reason travels with every bundle: no value of the data in it
        why += f"; {rest} look like numbers or dates, but row {row} of {uri.rsplit('/', 1)[-1]} does not"
    few = distinct <= FEW and distinct * 2 <= column.valid
    if (
        few
        or (distinct <= SOME and distinct * REPEATED <= column.valid)
        or (target and distinct * 2 <= column.valid)
    ):
        return Category(**common, reason=why)
    kind = (
        "free text"
        if column.chars > 60 * max(odd, 1)
        else "nearly all differ"
        if distinct * 2 > column.valid
        else "too many for a category"
    )
    return Identifier(**common, reason=f"{why}: {kind}")


def _timestamp(column: Column, common: dict[str, Any], missing: str) -> AnyField:
    kinds = {k for k in column.types if k.startswith("timestamp")}
    if not kinds or set(column.types) - kinds - {"date"}:
        raise DataError(
            "TYPE",
            where=column.name,
            found="values of different types: "
            + ", ".join(f"{n} {k}" for k, n in sorted(column.types.items())),
            expected="one type per column",
            fix="correct the values, or give the column's kind in a schema file",
        )
    zones = {k[10:-1].partition(",")[2] for k in kinds}
    if len(zones) > 1:
        raise DataError(
            "TZ",
            where=column.name,
            found="times with and without a time zone",
            expected="one rule for the column",
            fix="write all with a zone, or none",
        )
    unit = max((k[10:-1].partition(",")[0] for k in kinds), key=("s", "ms", "us", "ns").index)
    zone = zones.pop() or None
    reason = f"points in time{', ' + zone if zone else ''}{missing}"
    return Timestamp.model_validate({**common, "unit": unit, "timezone": zone, "reason": reason})
