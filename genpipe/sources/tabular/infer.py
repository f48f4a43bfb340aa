"""Column statistics -> the field they amount to, with the reason a person can check and overrule."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from genpipe.errors import DataError
from genpipe.fields import AnyField, Boolean, Category, Date, Identifier, Integer, Number, Text, Timestamp
from genpipe.sources.columns import EXACT_FLOAT, Column
from genpipe.sources.tabular import pii
from genpipe.sources.tabular.look import PLAIN, WHOLE
from genpipe.written import clocks, dates, numbers, settle
from genpipe.written.codes import LONGEST

LONG = 60  # characters of a free text, on average
FEWEST = 5  # values that a form is found from: it is published, and says what they have in common
STRAY = 0.1  # a column with a smaller share of odd values is a faulty column of its main type
NAMED = 100  # rows of one name, at most, on average, for it to be an identifier
# a category has at most FEW values, or SOME of REPEATED rows each, on average, or MANY of OFTEN rows each
FEW, SOME, REPEATED, MANY, OFTEN = 20, 1000, 5, 20_000, 10


def infer_field(column: Column, *, target: bool = False) -> AnyField | None:
    """The field of a column; None = it holds nothing at all."""
    if column.valid == 0:
        return None
    common: dict[str, Any] = {"name": column.name, "nullable": column.nulls > 0}
    missing = f", {column.nulls} missing" if column.nulls else ""
    kinds = set(column.types)
    days = [(form, n) for form, n in dates.settle(column.written) if n > (1 - STRAY) * column.valid]
    if days and ("text" in kinds or (days[0][1] == column.valid >= FEWEST)):
        return _dated(column, days, common, missing)
    if not target and (found := pii.find(column.name, column.looked)):
        kind, why = found
        decision = "personal data, never learnt, the output gets made-up ones (another kind is learnt)"
        return Text.model_validate({**common, "pii": kind, "reason": f"{why}: {decision}{missing}"})
    if "text" in kinds and not (target and _few(column)) and (made := _number(column, common, missing)):
        return made
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
        words = [pair for pair, n in column.written.items() if n == column.valid and pair != "true/false"]
        return Boolean(**common, format=words[0] if words else None, reason=f"only true and false{missing}")
    if kinds == {"date"}:
        return Date(**common, reason=f"dates (year-month-day){missing}")
    return _timestamp(column, common, missing)


def to_sample(column: Column) -> bool:
    """Whether texts of a column wait for it to be known how all are written: numbers, times, identifiers (of
    which a customer may have many rows)."""
    codes = column.types["text"] + column.types["code"]
    named = codes == column.valid < NAMED * column.distinct and column.chars <= LONGEST * codes
    return named or max(column.written.values(), default=0) * 2 > column.valid


def legible(columns: Iterable[Column]) -> dict[str, AnyField]:
    """The fields of the columns that amount to one, whatever a schema file makes of them."""
    found = {}
    for column in columns:
        with suppress(DataError):
            if (field := infer_field(column)) is not None:
                found[column.name] = field
    return found


def unlearnt(columns: Iterable[Column]) -> list[str]:
    """A line for each column of texts that are no personal data and yet not learnt: why, and what helps."""
    lines = []
    texts = [c for c in columns if "text" in c.types and not pii.find(c.name, c.looked)]
    fields = legible(texts)
    for column in texts:
        field = fields.get(column.name)
        if isinstance(field, Identifier):
            form, taken = max(settle(column.written), key=lambda item: item[1], default=("", 0))
            fix = "`kind: category` in a schema file has it learnt"
            if _free(column):  # a category keeps only what several rows share
                option = shlex.quote(f"field={column.name}")
                fix = f"`--kind text -o {option}` makes a dataset of these texts alone, from a file, to learn"
                fix += " them apart from the table; `--target` and a column's name, a class of each text"
            if taken * 2 > column.valid:
                fix = f"{taken} are written as {form}: list the others in nulls= to have it learnt, or {fix}"
            lines.append(f"column {column.name!r} is NOT LEARNT: {field.reason}; {fix}")
    return lines


def _dated(column: Column, days: list[tuple[str, int]], common: dict[str, Any], missing: str) -> AnyField:
    """A date or time in the format that takes every value; the first, where several do."""
    fit = [form for form, n in days if n == column.valid]
    if not fit:
        best, n = days[0]
        raise DataError(
            "TYPE",
            where=column.name,
            found=f"{column.valid - n} of {column.valid} values are not written as {best}",
            expected="dates or times in one format",
            fix=f"list them in nulls=; `format: {best!r}` beside the kind in a schema file names their rows",
        )
    reason = f"written as {fit[0]}, all {column.valid}{missing}"
    others = [form for form in fit[1:] if sorted(form) == sorted(fit[0])]
    if others:
        reason += f"; {others[0]} would do as well: set `format` to it if days and months are mixed up"
    if dates.has_time(fit[0]):
        return Timestamp(**common, unit="s", format=fit[0], reason=f"points in time {reason}")
    return Date(**common, format=fit[0], reason=f"dates {reason}")


def _number(column: Column, common: dict[str, Any], missing: str) -> AnyField | None:
    """A number, time of day or duration in the form that takes every text; None where none does."""
    plain = column.written[PLAIN]
    readers = (clocks, numbers)
    forms = [(form, reader) for reader in readers for form, n in reader.settle(column.written)
             if n >= FEWEST and n + plain == column.valid]  # fmt: skip
    if not forms:
        return None
    form, reader = forms[0]
    reason = f"written as {form}, all {column.valid}{missing}"
    if len(forms) > 1:
        reason += f"; {forms[1][0]} would do as well: set `format` to it if that is meant"
    if reader is clocks:
        return Integer(**common, format=form, reason=f"seconds of times of day or durations {reason}")
    decimals = numbers.parse(form).most
    if not decimals:
        return Integer(**common, format=form, reason=f"whole numbers {reason}")
    return Number(**common, format=form, decimals=decimals, reason=f"numbers {reason}")


def _integer(column: Column, common: dict[str, Any], missing: str, target: bool) -> AnyField:
    if target and _few(column):
        return Category(
            **common, reason=f"the target, {column.distinct} different whole numbers: classes{missing}"
        )
    span = (column.high or 0) - (column.low or 0) + 1
    if not column.nulls and not target and span == column.rows and column.distinct > 0.9 * column.rows:
        why = "counts the rows: every number of a range once, as made-up ones do"
        return Identifier(**common, storage="integer", minimum=int(column.low or 0), reason=why)
    form = "0.0" if column.written[WHOLE] == column.valid else None
    written = " written with .0" if form else ""
    return Integer(**common, format=form, reason=f"{column.unit or 'whole numbers'}{written}{missing}")


def _few(column: Column) -> bool:
    return column.distinct <= FEW and column.distinct * 2 <= column.valid


def _free(column: Column) -> bool:
    """Whether its texts are so long that they are free ones."""
    return column.chars > LONG * max(column.types["text"], 1)


def _choice(column: Column, common: dict[str, Any], missing: str, target: bool) -> AnyField:
    odd = column.types["text"]
    rest = column.valid - odd - column.types["code"]
    if odd and odd < STRAY * column.valid and not _few(column):  # grades 1 to 6 and "7+" are words
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
    if (
        _few(column)
        or (distinct <= SOME and distinct * REPEATED <= column.valid)
        or (distinct <= MANY and distinct * OFTEN <= column.valid and column.chars <= LONG * max(odd, 1))
        or (target and distinct * 2 <= column.valid)
    ):
        return Category(**common, reason=why)
    kind = (
        "free text"
        if _free(column)
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
