"""Relations between columns that a table shows: sums of up to five parts, equal columns, an order of two, and
formulas (formulas.py).

They are sought in a sample. Sums are found by a hash that is linear: of whole numbers x the hash is r . x for
random r, so that h(a) = h(b) + h(c) where a = b + c in all rows hashed, and sorted sums of pairs tell all
triples (as in two-sum and four-sum). Several groups of few rows are hashed, so that some hold none of the
rows that break a relation. What is found there counts only by rows in which it says something (two parts that
are not zero), and only where the same columns shuffled do not show it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.constraints import TIMES, Inequality, Reckoned, Sum, Within
from genpipe.derivations import reckoned
from genpipe.fields import AnyField, Integer, Number
from genpipe.sources.formulas import formulas, linears, products
from genpipe.sources.sample import Sample

OFTEN, BY_CHANCE = 0.95, 0.75  # shares of rows: that keep a relation; that keep it shuffled, at most
FEWEST = 50  # rows that say something
PROOF = np.log(1e9)
PARTS = {2: 1000, 3: 300, 4: 100, 5: 50}  # parts of a sum -> columns among which it is sought, the first ones
GROUPS, GROUP = 8, 16  # of rows that are hashed
MOST = 2000  # candidates of a group; more say that it is chance
TOLD = 100  # relations of a table
PLACES = 6  # digits after the point of what is added up
LOOKED_AT = 5  # columns that may be the closest below another
HEAD = 64  # rows that refute most pairs cheaply


@dataclass(frozen=True)
class Relation:
    """A constraint that `share` of the sampled rows that say something of it keep."""

    constraint: Reckoned | Within
    share: float
    rule: bool = True  # to be kept by construction where all rows do


def find(sample: Sample, fields: Iterable[AnyField]) -> list[Relation]:
    """Relations between the fields, none of which follows from those before it."""
    by_name = {f.name: f for f in fields if f.name in sample.columns}
    numbers = [f for f in by_name.values() if isinstance(f, Number | Integer)]
    found: list[Relation] = []
    if len(sample.keys) < FEWEST:
        return found
    digits = {f.name: 0 if isinstance(f, Integer) else f.decimals for f in numbers}
    exact = {name: places for name, places in digits.items() if places is not None and places <= PLACES}
    unit = 10.0 ** max(exact.values(), default=0)
    found += _Sums({name: sample.columns[name] * unit for name in exact}).find()
    for seek in (formulas, products):
        for made, kept, chance in seek(sample.columns, numbers):
            new = not any(set(made.names) <= set(r.constraint.names) for r in found)
            if new and _proven(kept, chance, len(numbers) ** 3.0):
                found.append(Relation(made, float(kept.mean())))
    made_so_far = {reckoned(r.constraint)[0] for r in found if isinstance(r.constraint, Reckoned)}
    for line, kept, chance in linears(sample.columns, numbers):
        if line.column not in made_so_far and _proven(kept, chance, len(numbers) ** 3.0):
            found.append(Relation(line, float(kept.mean())))
    kinds: dict[str, list[str]] = {"number": [f.name for f in numbers]}
    for f in by_name.values():
        if f.kind in TIMES:
            kinds.setdefault(str(f.arrow()), []).append(f.name)
    known = [set(r.constraint.names) for r in found]
    copies = {r.constraint.names[0] for r in found if len(r.constraint.names) == 2}
    for kind, names in kinds.items():
        # the larger of two numbers would be learnt as a difference, and lose how it is written
        orders = _orders({n: sample.columns[n] for n in names if n not in copies}, rule=kind != "number")
        found += [r for r in orders if not any(set(r.constraint.names) <= other for other in known)]
    found = _by_days(
        found,
        {f.name: _days(sample.columns[f.name], f) for f in by_name.values() if f.kind in TIMES},
        by_name,
    )
    return found[:TOLD]


def _by_days(
    found: list[Relation], days: Mapping[str, np.ndarray], fields: Mapping[str, AnyField]
) -> list[Relation]:
    """With the orders of a date and a time, where these lie closer together than what was found of the later
    one; and of two times mostly a day apart or more their days in place of their distance.
    """
    out = [r for r in found if r.constraint.names[0] not in days]
    orders = {r.constraint.high: r for r in found if isinstance(r.constraint, Inequality) and r not in out}

    def gap(relation: Relation) -> float:
        low, high = relation.constraint.names
        return float(np.nanmedian(days[high] - days[low]))

    for high, relation in orders.items():
        if fields[high].kind == "timestamp" and gap(relation) >= 1:
            orders[high] = replace(relation, constraint=relation.constraint.model_copy(update={"days": True}))
    for r in _orders(days, rule=True, apart=np.array([fields[name].kind == "date" for name in days])):
        low, high = r.constraint.names
        known = orders.get(high)
        turned = low in orders and orders[low].constraint.names[0] == high
        if not turned and (known is None or gap(r) < gap(known)):
            orders[high] = r
    return [*out, *orders.values()]


def _days(microseconds: np.ndarray, field: AnyField) -> np.ndarray:
    """(R,) the day of each by the clock of the field's zone."""
    there = np.isfinite(microseconds)
    zone = getattr(field, "timezone", None)
    moments = pa.array(np.where(there, microseconds, 0).astype(np.int64)).cast(pa.timestamp("us", zone))
    if zone:
        moments = pc.local_timestamp(moments)
    return np.where(there, moments.cast(pa.int64()).to_numpy() // 86_400_000_000, np.nan)


def _proven(kept: np.ndarray, shuffled: float, alternatives: float) -> bool:
    """Whether rows (B,) keep a relation often, and chance explains it in none of the alternatives."""
    rows, share = len(kept), float(kept.mean()) if len(kept) else 0.0
    chance = max(shuffled, 1.0 / (rows + 1))
    if rows < FEWEST or share < OFTEN or chance > BY_CHANCE:
        return False
    told = share * np.log(share / chance)
    if share < 1.0:
        told += (1.0 - share) * np.log((1.0 - share) / (1.0 - chance))
    return bool(rows * told > PROOF + np.log(alternatives))


class _Sums:
    """columns: whole numbers as floats, NaN where missing."""

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        fit = {n: np.rint(x) for n, x in columns.items() if np.nanmax(np.abs(x), initial=0.0) < 2.0**52}
        fit = {n: x for n, x in fit.items() if (x != x[0]).any() and np.isfinite(x).sum() >= FEWEST}
        self.names, self.rng = list(fit), np.random.default_rng(0)
        self.there = np.array([np.isfinite(x) for x in fit.values()])
        self.values = np.nan_to_num(np.array(list(fit.values()))).astype(np.int64)

    @cached_property
    def full(self) -> np.ndarray:
        """The rows with the fewest zeros."""
        order = np.argsort(-(self.values != 0).sum(0), kind="stable")
        found: np.ndarray = order[: max(GROUP, len(order) // 8)]
        return found

    def find(self) -> list[Relation]:
        if len(self.names) < 2:
            return []
        found, same = self._equal()
        self.columns = np.array([i for i in range(len(self.names)) if i not in same], dtype=np.int64)
        vectors: list[np.ndarray] = []
        for parts in PARTS:
            seen = sorted({c for group in self.groups for c in group.candidates(parts)})
            tested = ((self._share(c), c) for c in self._likely(seen))
            for share, (total, *rest) in sorted((t for t in tested if t[0]), key=lambda t: (-t[0], t[1])):
                vector = np.zeros(len(self.names))
                vector[total], vector[rest] = 1.0, -1.0
                if np.linalg.matrix_rank(np.array([*vectors, vector])) > len(vectors):
                    vectors.append(vector)
                    found.append(self._relation(total, rest, share))
        return found

    def _likely(self, candidates: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Those that rows with few zeros mostly keep."""
        if not candidates:
            return []
        head, which = self.values[:, self.full[: 2 * HEAD]], np.array(candidates)
        made = np.zeros((len(which), head.shape[1]), np.int64)
        for part in which[:, 1:].T:
            made += head[part]
        kept = (head[which[:, 0]] == made).mean(1)
        return [candidates[i] for i in np.flatnonzero(kept >= OFTEN - 0.15)]

    def _relation(self, total: int, parts: Iterable[int], share: float) -> Relation:
        made = Sum(total=self.names[total], parts=tuple(self.names[p] for p in parts))
        return Relation(made, share)

    @cached_property
    def groups(self) -> list[_Group]:
        """Half of them rows by chance, half those with the fewest zeros, where rare parts come together."""
        made = []
        for nth in range(GROUPS):
            among = self.full if nth % 2 else np.arange(self.values.shape[1])
            some = self.rng.choice(among, size=min(GROUP, len(among)), replace=False)
            weights = self.rng.integers(-(2**62), 2**62, size=len(some))
            told = self.columns[(self.values[np.ix_(self.columns, some)] != 0).sum(1) > 1]
            made.append(_Group(told, self.values[np.ix_(told, some)] @ weights))
        return made

    def _equal(self) -> tuple[list[Relation], set[int]]:
        """Equal columns, and those that need not be looked at since an earlier one is the same."""
        found, same = list[Relation](), set[int]()
        head = self.values[:, :: max(1, self.values.shape[1] // HEAD)]
        for i, j in _alike(head):
            there = self.there[i] & self.there[j]
            a, b = self.values[i][there], self.values[j][there]
            told = ~((a == _usual(a)) & (b == _usual(b)))
            kept = a[told] == b[told]
            shuffled = float((self.rng.permutation(a[told]) == b[told]).mean()) if len(kept) else 1.0
            if i not in same and _proven(kept, shuffled, len(self.names) ** 2):
                same.add(j)
                # of few values one decides the other, which the codec finds by itself
                if (a != b).any() or len(np.unique(a)) * 5 > len(a):
                    found.append(self._relation(j, [i], float((a == b).mean())))
        return found, same

    def _share(self, candidate: tuple[int, ...]) -> float:
        """The share of all rows that keep the sum, 0 where nothing proves it."""
        total, parts = self.values[candidate[0]], self.values[list(candidate[1:])]
        there = self.there[list(candidate)].all(0)
        told = there & ((parts != 0).sum(0) > 1)
        if told.sum() < FEWEST or ((parts[:, told] != 0).sum(1) < FEWEST // 5).any():
            return 0.0
        made = parts.sum(0)
        shuffled = float((self.rng.permutation(total[told]) == made[told]).mean())
        if not _proven(total[told] == made[told], shuffled, float(len(self.names)) ** len(candidate)):
            return 0.0
        share = float((total == made)[there].mean())
        return share if share >= OFTEN else 0.0


@dataclass(frozen=True)
class _Group:
    """columns: (C,) that are not zero in some of its rows. hashes: (C,) int64, linear in the column."""

    columns: np.ndarray
    hashes: np.ndarray

    def candidates(self, parts: int) -> Iterator[tuple[int, ...]]:
        """(total, parts ascending) of the sums that these rows show."""
        n = min(len(self.columns), PARTS[parts])
        if n <= parts:
            return
        left, right = _subsets(n, parts // 2), _subsets(n, parts - parts // 2)
        sums = [self.hashes[side].sum(1) for side in (left, right)]
        order = np.argsort(sums[1], kind="stable")
        wanted = (self.hashes[:n, None] - sums[0]).ravel()
        first = np.searchsorted(sums[1][order], wanted)
        hit = np.flatnonzero(sums[1][order][np.minimum(first, len(order) - 1)] == wanted)
        if len(hit) > MOST:  # columns of few values agree by chance, and tell nothing here
            return
        seen: set[tuple[int, ...]] = set()
        for at in hit.tolist():
            total, one, other = at // len(left), left[at % len(left)], right[order[first[at]]]
            rest = sorted({*one.tolist(), *other.tolist()})
            if len(rest) == parts and total not in rest:
                seen.add((int(self.columns[total]), *self.columns[rest].tolist()))
        yield from seen


def _subsets(n: int, size: int) -> np.ndarray:
    """(S, size) all subsets of 0 .. n-1."""
    if size < 3:
        return np.stack(np.triu_indices(n, 1), 1) if size == 2 else np.arange(n)[:, None]
    return np.array(list(combinations(range(n), size)))


def _usual(values: np.ndarray) -> int:
    seen, counts = np.unique(values, return_counts=True)
    return int(seen[counts.argmax()]) if len(seen) else 0


def _alike(head: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of (C, B) that agree nearly everywhere."""
    for i in range(len(head)):
        agree = (head[i + 1 :] == head[i]).mean(1)
        yield from ((i, i + 1 + int(j)) for j in np.flatnonzero(agree >= 0.8))


def _orders(
    columns: Mapping[str, np.ndarray], *, rule: bool, apart: np.ndarray | None = None
) -> Iterator[Relation]:
    """Of each column that another is never, or seldom, larger than, the closest such. apart: (C,) of two
    sorts, only columns of different ones are compared."""
    if len(columns) < 2:
        return
    names, x = list(columns), np.array(list(columns.values()))
    rng = np.random.default_rng(0)
    some, others = (rng.permutation(x.shape[1])[: 4 * HEAD] for _ in range(2))
    head, shuffled = (np.where(np.isnan(x), -np.inf, x)[:, at] for at in (some, others))
    for high, name in enumerate(names):
        top = np.where(np.isnan(x[high]), np.inf, x[high])[some]
        kept, chance = ((low <= top).mean(1) for low in (head, shuffled))
        likely = (kept >= OFTEN - 0.05) & (chance <= BY_CHANCE + 0.1) & (np.arange(len(names)) != high)
        if apart is not None:
            likely &= apart != apart[high]
        nearest = sorted(np.flatnonzero(likely).tolist(), key=lambda low: (-kept[low], chance[low]))
        for low in nearest[:LOOKED_AT]:
            there = np.isfinite(x[low] - x[high])
            a, b = x[low][there], x[high][there]
            by_chance = float((rng.permutation(a) <= b).mean()) if len(a) else 1.0
            if _proven(a <= b, by_chance, len(names) ** 2.0) and ((a < b).any() or apart is not None):
                yield Relation(Inequality(low=names[low], high=name), float((a <= b).mean()), rule)
                break
