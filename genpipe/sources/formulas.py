"""Formulas between the columns of a sample: a product of two, a rate that is a part of a whole, a logarithm,
a number in another unit (inches of centimetres, Fahrenheit of Celsius, a tax of so many percent).

Sought is what people reckon and round: the column that is made is written more finely than those it is made
of (a rate of two counts); a product is not. Rows whose part is 0 say nothing, nor those in which a factor of
a product is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, permutations, product

import numpy as np

from genpipe.constraints import Linear, Logarithm, Product, Ratio
from genpipe.fields import Integer, Number
from genpipe.written.significant import MOST, SLACK, digits_of, significant

COLUMNS = 25  # among which formulas are sought, the first ones
HEAD = 64  # rows that refute most cheaply
FEWEST = 50  # rows that say something, and different values of each column
WRITTEN = 0.98  # share of rows that are written with so many significant digits
ROUND = 4  # significant digits of a factor that is meant to be round
LIKELY = 0.9  # share of the head that keeps a formula worth a look
FACTORS = (1.0, 0.01)  # of products: of two numbers, of a number and a percentage
FEW = 8  # rows of the head by which a product is worth a look


def formulas(
    columns: Mapping[str, np.ndarray], fields: Iterable[Number | Integer]
) -> Iterator[tuple[Ratio | Logarithm, np.ndarray, float]]:
    """(a formula, whether each row that says something keeps it, the share that keeps it when shuffled)."""
    places = {f.name: _places(f) for f in list(fields)[:COLUMNS] if _varies(columns[f.name])}
    made = set[str]()
    for name, finest in places.items():
        coarser = [other for other, least in places.items() if least < finest and other not in made]
        y = columns[name]
        if finest == 0 or not coarser:
            continue
        digits = digits_of(y[np.isfinite(y)], WRITTEN)
        for part, whole in permutations(coarser, 2):
            found = _fitted(y, columns[part] / _there(columns[whole]), digits)
            if found is not None:
                yield Ratio(rate=name, part=part, whole=whole, factor=found[0], digits=digits), *found[1:]
                made.add(name)
                break
        for of in coarser if name not in made else ():
            found = _fitted(y, np.log(_there(np.maximum(columns[of], 0.0))), digits)
            if found is not None:
                yield Logarithm(column=name, of=of, factor=found[0], digits=digits), *found[1:]
                made.add(name)
                break


def products(
    columns: Mapping[str, np.ndarray], fields: Iterable[Number | Integer]
) -> Iterator[tuple[Product, np.ndarray, float]]:
    """As `formulas`: of two columns."""
    written = {f.name: _places(f) for f in list(fields)[:COLUMNS] if np.isfinite(_places(f))}
    told = {name: np.where(np.isin(columns[name], (0.0, 1.0)), np.nan, columns[name]) for name in written}
    varied = [name for name in written if _varies(columns[name])]
    for name in varied:
        y, unit = columns[name], 10.0 ** -written[name]
        pairs = [pair for pair in combinations(written, 2) if name not in pair and {*pair} & {*varied}]
        for (one, two), factor in product(pairs, FACTORS):
            base = factor * told[one][:HEAD] * told[two][:HEAD]
            there = np.isfinite(base) & np.isfinite(y[:HEAD])
            near = np.abs(y[:HEAD] - base)[there] <= 0.5001 * unit
            if there.sum() < FEW or near.mean() < LIKELY:
                continue
            base = factor * told[one] * told[two]
            there = np.isfinite(base) & np.isfinite(y)
            y, base = y[there], base[there]
            shuffled = np.random.default_rng(0).permutation(base)
            kept, chance = (np.abs(y - b) <= 0.5001 * unit for b in (base, shuffled))
            yield Product(total=name, parts=(one, two), factor=factor), kept, float(np.mean(chance))
            break


def linears(
    columns: Mapping[str, np.ndarray], fields: Iterable[Number | Integer]
) -> Iterator[tuple[Linear, np.ndarray, float]]:
    """As `formulas`: of one column, that with more different values, which tells more."""
    places = {f.name: _places(f) for f in list(fields)[:COLUMNS] if _varies(columns[f.name])}
    telling = sorted(places, key=lambda name: -len(np.unique(columns[name])))
    made = set[str]()
    for of, name in combinations(telling, 2):
        if of in made or name in made or not np.isfinite(places[name]):
            continue
        there = np.isfinite(columns[of]) & np.isfinite(columns[name])
        x, y, unit = columns[of][there], columns[name][there], 10.0 ** -places[name]
        if len(x) < FEWEST or (found := _line(x, y, unit)) is None or found == (1.0, 0.0):
            continue
        shuffled = np.random.default_rng(0).permutation(x)
        kept, chance = (np.abs(y - found[0] * b - found[1]) <= 0.5001 * unit for b in (x, shuffled))
        yield Linear(column=name, of=of, factor=found[0], offset=found[1]), kept, float(np.mean(chance))
        made.add(name)


def _line(x: np.ndarray, y: np.ndarray, unit: float) -> tuple[float, float] | None:
    """(factor, offset) of the line on which nearly all points (x, y) lie, y rounded to `unit`, both as round
    as they can be; None where there is none. A median of slopes, as Theil's and Sen's, minds no few points
    that lie elsewhere; then the factor is known to be between the least and the greatest that points allow.
    """
    order = np.argsort(x[:HEAD], kind="stable")
    low, high = order[: len(order) // 2], order[-(len(order) // 2) :]
    gaps = (x[high] - x[low])[x[high] > x[low]]
    if not len(gaps):
        return None
    slope = float(np.median((y[high] - y[low])[x[high] > x[low]] / gaps))
    start = float(np.median(y[:HEAD] - slope * x[:HEAD]))
    near = np.abs(y - slope * x - start) <= unit * (2 + np.ptp(x) / float(np.median(gaps)))
    if slope == 0 or min(near[:HEAD].mean(), near.mean()) < LIKELY:
        return None
    x, y = x[near], y[near]
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / np.square(x - x.mean()).sum())
    start = float(y.mean() - slope * x.mean())
    told, half = x != 0, 0.5001 * unit
    for step in unit * 10.0 ** np.arange(6, -3, -1):
        offset = round(float(np.rint(start / step) * step), 12)
        ends = np.stack([y - offset - half, y - offset + half])[:, told] / x[told]
        least, most = float(ends.min(0).max()), float(ends.max(0).min())
        for digits in range(1, MOST + 1) if least <= most else ():
            factor = float(significant(np.array([(least + most) / 2]), digits)[0])
            if least <= factor <= most:
                return factor, offset
    return None


def _fitted(y: np.ndarray, base: np.ndarray, digits: int) -> tuple[float, np.ndarray, float] | None:
    """(factor, (B,) rows that keep y = factor * base, the same share shuffled); None where few would."""
    told = np.flatnonzero(np.isfinite(base) & np.isfinite(y) & (base != 0))
    slack = SLACK * 10.0 ** (1 - digits)
    if len(told) < FEWEST:
        return None
    y, base = y[told], base[told]
    head = y[:HEAD] / base[:HEAD]
    usual = float(np.median(head))
    if usual == 0 or np.mean(np.abs(head - usual) <= max(slack, 1e-2) * abs(usual)) < LIKELY:
        return None
    factor = float(np.median(y / base))
    meant = float(significant(np.array([factor]), ROUND)[0])
    factor = meant if abs(meant - factor) <= slack * abs(factor) else factor
    kept = np.abs(y - factor * base) <= slack * np.abs(y)
    shuffled = np.random.default_rng(0).permutation(base)
    return factor, kept, float(np.mean(np.abs(y - factor * shuffled) <= slack * np.abs(y)))


def _there(values: np.ndarray) -> np.ndarray:
    """NaN for 0: nothing is divided by it, and it has no logarithm."""
    return np.where(values == 0, np.nan, values)


def _places(field: Number | Integer) -> float:
    """Digits after the point."""
    if isinstance(field, Integer):
        return 0.0
    return float("inf") if field.decimals is None else float(field.decimals)


def _varies(values: np.ndarray) -> bool:
    return len(np.unique(values[np.isfinite(values)])) >= FEWEST
