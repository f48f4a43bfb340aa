"""What tells, value by value, how a table is written and which rules its rows keep; see reader.py.

N rows
"""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.constraints import CHOICES, NUMBERS
from genpipe.evaluation.base import hashed, numbers
from genpipe.schema import Schema

KEPT, FEWEST = 0.998, 50  # share of the rows that say something, and how many of these, for a rule
PAIRED = 20  # columns, the first ones, that are compared with each other
SCREENED = 2_000  # rows on which three columns are tried
MULTIPLES = (5, 10, 100, 1000)
DIGITS = range(7)
ROUNDED = 1e-3  # by which a rate or a logarithm may be off
OFTEN = 0.05  # share of rows of a sum, for it to be a clue
REPEATED = 10  # rows of a value on average, for it to determine another

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Clue:
    """values: (N,) NaN where a row says nothing. always, never: the rule, where all or none have it; empty =
    none. threshold: of another clue, so trees find it there.
    """

    name: str
    values: np.ndarray
    always: str = ""
    never: str = ""
    threshold: bool = False


def columns(table: pa.Table, schema: Schema) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(numbers by name, NaN where missing; hashes of choices by name)."""
    numeric = {f.name: numbers(table.column(f.name), f.name) for f in schema.of_kind("number", "integer")}
    return numeric, {f.name: hashed(table.column(f.name)) for f in schema.of_kind(*CHOICES)}


def moments_as_numbers(table: pa.Table, schema: Schema) -> dict[str, np.ndarray]:
    """Dates and times as seconds since 1970, so that one can be compared with the other."""
    found = {}
    for field in schema.of_kind("date", "timestamp"):
        column = table.column(field.name)
        zone = getattr(column.type, "tz", None)
        column = pc.local_timestamp(column) if zone else column
        found[field.name] = numbers(column.cast(pa.timestamp("us"), safe=False), field.name) / 1e6
    return found


def equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.where(
        np.isnan(a) | np.isnan(b), np.nan, np.abs(a - b) < 1e-6 * np.maximum(1.0, np.abs(a))
    )
    return out


def written(name: str, x: np.ndarray) -> Iterator[Clue]:
    """How the numbers of a column end."""
    there = ~np.isnan(x)
    for m in MULTIPLES:
        on = np.abs(x / m - np.round(x / m)) < 1e-9
        yield Clue(f"{name} % {m}", np.where(there, on, np.nan), always=f"{name} is a multiple of {m}")
    digits = np.full(len(x), float(len(DIGITS)))
    for d in reversed(DIGITS):
        digits[np.abs(x * 10.0**d - np.round(x * 10.0**d)) < 1e-6] = d
    yield Clue(f"{name} decimals", np.where(there, digits, np.nan))
    for d in DIGITS:
        text = f"{name} has {d} decimals at most" if d else f"{name} is whole"
        yield Clue(text, np.where(there, digits <= d, np.nan), always=text, threshold=True)
    minutes = np.where(there & (digits == 0), np.abs(x) % 100 < 60, np.nan)
    yield Clue(f"{name} minutes", minutes, always=f"{name} ends in 00 to 59, as clocks do")


def moments(name: str, column: pa.ChunkedArray) -> Iterator[Clue]:
    """Which days and hours a date has."""
    days = pc.day_of_week(column).cast(pa.float64()).to_numpy()
    for day, called in enumerate(calendar.day_name):
        on = np.where(np.isnan(days), np.nan, days == day)
        yield Clue(f"{name} on a {called}", on, f"{name} is on a {called}", f"{name} is never on a {called}")
    if pa.types.is_timestamp(column.type):
        hours = pc.hour(column).cast(pa.float64()).to_numpy()
        for hour in range(24):
            at = np.where(np.isnan(hours), np.nan, hours == hour)
            yield Clue(f"{name} at {hour} h", at, never=f"{name} is never at {hour} h")
        for unit, part in (("minute", pc.minute(column)), ("second", pc.second(column))):
            zero = part.cast(pa.float64()).to_numpy()
            text = f"{name} is at the full {'hour' if unit == 'minute' else 'minute'}"
            yield Clue(text, np.where(np.isnan(zero), np.nan, zero == 0), always=text)


def compared(schema: Schema, columns: Columns) -> Iterator[Clue]:
    """Which of two columns is the larger, and whether they are equal: of numbers, and of dates and times."""
    moments = {f.name for f in schema.of_kind("date", "timestamp")}
    for a, b in itertools.combinations([f.name for f in schema.of_kind(*NUMBERS)][:PAIRED], 2):
        if (a in moments) != (b in moments):
            continue
        x, y = columns[a], columns[b]
        there = ~(np.isnan(x) | np.isnan(y))
        yield Clue(f"{a} == {b}", np.where(there, x == y, np.nan), always=f"{a} = {b}")
        yield Clue(
            f"{a} <= {b}", np.where(there, x <= y, np.nan), f"{a} is at most {b}", f"{a} is more than {b}"
        )
        yield Clue(f"{a} >= {b}", np.where(there, x >= y, np.nan), f"{a} is at least {b}")


def sums(numeric: Columns) -> Iterator[tuple[str, str, str]]:
    """(total, a, b) where total = a + b often."""
    few = {name: values[:SCREENED] for name, values in list(numeric.items())[:PAIRED]}
    for total, a, b in itertools.permutations(few, 3):
        if a < b and all(_summed(those, total, a, b) > OFTEN for those in (few, numeric)):
            yield total, a, b


def _summed(numeric: Columns, total: str, a: str, b: str) -> float:
    x, y = numeric[a], numeric[b]
    return float(np.mean((equal(numeric[total], x + y) == 1) & (x != 0) & (y != 0)))


def determined(
    numeric: Columns, choices: Columns
) -> Iterator[tuple[str, str, tuple[np.ndarray, np.ndarray]]]:
    """(a, b, (values of a ascending, the b of each)) where a column a that repeats determines b."""
    columns = {}
    for name, values in {**numeric, **choices}.items():
        distinct = len(np.unique(values[~np.isnan(values)]))
        if 1 < distinct <= len(values) / REPEATED:
            columns[name] = values
    for a, b in itertools.permutations(list(columns)[:PAIRED], 2):
        x, y = columns[a], columns[b]
        there = ~(np.isnan(x) | np.isnan(y))
        if there.sum() < FEWEST:
            continue
        codes = [np.unique(v[there], return_inverse=True) for v in (x, y)]
        pairs, counts = np.unique(codes[0][1] * len(codes[1][0]) + codes[1][1], return_counts=True)
        of, to = np.divmod(pairs, len(codes[1][0]))
        order = np.lexsort((-counts, of))
        values, first = np.unique(of[order], return_index=True)
        if counts[order][first].sum() >= KEPT * there.sum():
            yield a, b, (codes[0][0][values], codes[1][0][to[order][first]])


def summed(numeric: Columns, found: Iterable[tuple[str, str, str]]) -> Iterator[Clue]:
    """Whether the sums of two columns are right."""
    for total, a, b in found:
        at_all = (numeric[a] != 0) & (numeric[b] != 0)
        right = np.where(at_all, equal(numeric[total], numeric[a] + numeric[b]), np.nan)
        yield Clue(f"{total} = {a} + {b}", right, always=f"{total} = {a} + {b}")


def fitting(every: Columns, fits: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> Iterator[Clue]:
    """Whether a value is the one that another column's says; NaN where that is unknown."""
    for (a, b), (values, those) in fits.items():
        at = np.minimum(np.searchsorted(values, every[a]), len(values) - 1)
        fit = (those[at] == every[b]).astype(float)
        text = f"{b} is that of {a}"
        yield Clue(text, np.where(values[at] == every[a], fit, np.nan), always=text)


def ratios(numeric: Columns) -> Iterator[tuple[str, str, str, float]]:
    """(rate, part, whole, factor) where rate = factor * part / whole in nearly all rows."""
    names = [name for name in list(numeric)[:PAIRED] if _varies(numeric, name)]
    few = {name: numeric[name][:SCREENED] for name in names}
    for triple in itertools.permutations(names, 3):
        if _factor(few, *triple) is not None and (factor := _factor(numeric, *triple)) is not None:
            yield *triple, factor


def _factor(numeric: Columns, rate: str, part: str, whole: str) -> float | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = numeric[rate] * numeric[whole] / numeric[part]
    found = found[np.isfinite(found) & (found != 0)]
    if len(found) < max(FEWEST, OFTEN * len(numeric[rate])):
        return None
    usual = float(np.median(found))
    return usual if np.mean(np.abs(found / usual - 1) < ROUNDED) >= KEPT else None


def _varies(numeric: Columns, name: str) -> bool:
    """Whether a column has enough values for a relation to say something."""
    return len(np.unique(numeric[name][~np.isnan(numeric[name])])) >= FEWEST


def divided(numeric: Columns, found: Iterable[tuple[str, str, str, float]]) -> Iterator[Clue]:
    """Whether the rates are right."""
    for rate, part, whole, factor in found:
        with np.errstate(divide="ignore", invalid="ignore"):
            off = numeric[rate] * numeric[whole] / numeric[part] / factor - 1
        text = f"{rate} goes as {part} / {whole}"
        right = np.where(np.isfinite(off) & (off != -1), np.abs(off) < ROUNDED, np.nan)
        yield Clue(text, right, always=text)


def curves(numeric: Columns) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(a, b, values of a ascending, the b of each) where b only rises, or falls, with a, as logarithms do."""
    names = [name for name in list(numeric)[:PAIRED] if _varies(numeric, name)]
    for a, b in itertools.permutations(names, 2):
        there = ~(np.isnan(numeric[a]) | np.isnan(numeric[b]))
        x, first = np.unique(numeric[a][there], return_index=True)
        if there.sum() < FEWEST or len(x) < FEWEST:
            continue
        y = numeric[b][there]
        rises = np.diff(y[first])
        if np.mean(rises >= 0) >= KEPT or np.mean(rises <= 0) >= KEPT:
            same = np.abs(y - y[first][np.searchsorted(x, numeric[a][there])])
            if np.mean(same <= ROUNDED * np.abs(y)) >= KEPT:
                yield a, b, x, y[first]


def followed(numeric: Columns, found: Iterable[tuple[str, str, np.ndarray, np.ndarray]]) -> Iterator[Clue]:
    """Whether a number lies between those that the next lower and the next higher value it follows have."""
    for a, b, x, y in found:
        right = np.clip(np.searchsorted(x, numeric[a]), 0, len(x) - 1)
        left = np.clip(np.searchsorted(x, numeric[a], "right") - 1, 0, len(x) - 1)
        inside = (numeric[a] >= x[0]) & (numeric[a] <= x[-1]) & ~np.isnan(numeric[b])
        ends = np.sort(np.stack([y[left], y[right]]), axis=0)
        slack = ROUNDED * np.abs(numeric[b])
        fits = (numeric[b] >= ends[0] - slack) & (numeric[b] <= ends[1] + slack)
        text = f"{b} follows {a}"
        yield Clue(text, np.where(inside, fits, np.nan), always=text)


def missing(table: pa.Table, schema: Schema) -> Iterator[Clue]:
    """Whether two columns are missing together."""
    names = [f.name for f in schema.fields if f.nullable and f.kind not in ("identifier", "text")][:PAIRED]
    gaps = {name: table.column(name).is_null().to_numpy() for name in names}
    for a, b in itertools.combinations(names, 2):
        at_all = gaps[a] | gaps[b]
        text = f"{a} and {b} are missing together"
        yield Clue(text, np.where(at_all, gaps[a] & gaps[b], np.nan), always=text)
