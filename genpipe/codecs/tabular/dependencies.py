"""Functional dependencies of a table: columns that one other column decides, found while the codec is fitted.

For every pair of columns of few values the pairs of values are counted, until a value shows two partners.
What is left when all rows are seen is kept if chance does not explain it: were the columns independent,
a value of n rows would show one partner only with the probability sum_b p_b ** n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from genpipe.codecs.sketch import add_counts
from genpipe.codecs.tabular.choice import Counted
from genpipe.codecs.tabular.lookups import Pairs, coded, count_pairs
from genpipe.constraints import NUMBERS
from genpipe.fields import AnyField

MOST_VALUES, MOST_COLUMNS = 1_000, 100  # of a column; of a table, the first ones
HEAD = 2_000  # rows that refute most pairs cheaply
ROWS_PER_VALUE = 5
MOST_ATOMS = 100  # a number of so few values is learnt exactly
COVERED = 0.9  # of the rows have a value that a look-up may keep
LOG_CHANCE = np.log(1e-9)

Found = dict[tuple[str, str], Pairs]  # (column, column that it decides)


def observe_dependencies(columns: Mapping[str, pa.Array], names: Sequence[str]) -> Found:
    """The pairs of `names` that these rows do not refute, with their counts."""
    codes = {}
    for name in names[:MOST_COLUMNS]:
        if len(coded(columns[name][:HEAD])[1]) <= MOST_VALUES:
            code = coded(columns[name])
            if len(code[1]) <= MOST_VALUES:
                codes[name] = code
    if not codes:
        return {}
    kept = list(codes)
    table = np.stack([codes[name][0] for name in kept], axis=1).astype(np.int32)
    found: Found = {}
    for i, name in enumerate(kept):
        alive = np.arange(len(kept)) != i
        for part in (table[:HEAD], table):
            alive[alive] = _decided(part[:, i], part[:, alive])
        found |= {(name, kept[j]): count_pairs(codes[name], codes[kept[j]]) for j in np.flatnonzero(alive)}
    return found


def _decided(key: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(C,) whether rows of equal `key` (B,) are equal in each column of `others` (B, C)."""
    if not others.shape[1]:
        return np.ones(0, dtype=bool)
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(np.diff(key[order]) == 0)
    before, after = others[order[same]], others[order[same + 1]]
    found: np.ndarray = ~(before != after).any(0)
    return found


def merge_dependencies(one: Found, other: Found) -> Found:
    """What neither part refutes, nor both together."""
    both = {pair: add_counts(one[pair], other[pair]) for pair in one.keys() & other.keys()}
    return {
        pair: counts
        for pair, counts in both.items()
        if len(counts) == len({k for k, _ in counts}) <= MOST_VALUES
    }


def held_pairs(pairs: Pairs, counted: Counted | None) -> Pairs:
    """How many entities are known to have each pair; a value has one partner, so they are those it has.
    counted: who has the values of the first column; None = every row is an entity.
    """
    if counted is None:
        return pairs
    return dict(zip(pairs, counted.entities([key for key, _ in pairs]).tolist(), strict=True))


def proven(counts: Pairs) -> bool:
    """Whether the second column varies, values repeat, and chance does not explain the dependency.

    counts: how many entities have each pair: rows of one are no evidence of a rule.
    """
    keys = np.array(list(counts.values()), dtype=np.float64)
    partners: dict[object, int] = {}
    for (_, partner), n in counts.items():
        partners[partner] = partners.get(partner, 0) + n
    if len(partners) < 2 or keys.sum() < ROWS_PER_VALUE * len(keys):
        return False
    shares = np.array(sorted(partners.values())) / keys.sum()
    pure = np.log((shares[None, :] ** keys[:, None]).sum(1).clip(1e-300))
    return bool(pure.sum() < LOG_CHANCE)


def _covered(seen: Pairs, held: Pairs, rare: int) -> float:
    """The share of rows whose value is not rare."""
    return sum(n for pair, n in seen.items() if held[pair] >= rare) / sum(seen.values())


def choose_dependencies(
    found: Mapping[tuple[str, str], tuple[Pairs, Pairs]],
    fields: Sequence[AnyField],
    free: set[str],
    *,
    rare: int,
) -> list[tuple[str, str]]:
    """(column, column it decides), sources before what is made of them.

    found: of each, the rows of its pairs and the entities that have them. free: columns that may be made from
    others. The column of fewest values goes first, of two that decide each other the words (what follows
    learns more from a rank than from a name), or the later one; it is made from the closest column that
    decides it. Where many rows have a value too rare for a look-up, the columns are learnt apart.
    """
    counts = {
        pair: seen
        for pair, (seen, held) in found.items()
        if proven(held) and _covered(seen, held, rare) >= COVERED
    }
    sizes = {name: len(seen) for (name, _), seen in counts.items()}
    sizes |= {n: len({p for _, p in seen}) for (_, n), seen in counts.items() if n not in sizes}
    ranked = {f.name: f.kind in NUMBERS and sizes.get(f.name, 0) <= MOST_ATOMS for f in fields}
    place = {f.name: (ranked[f.name], -i) for i, f in enumerate(fields)}
    made: dict[str, str] = {}
    for name in sorted({b for _, b in counts} & free, key=lambda n: (sizes[n], place[n])):
        sources = [a for a, b in counts if b == name and a not in made]
        if sources:
            # a column that stays is better than one that is made itself, ranks better than words
            made[name] = min(sources, key=lambda a: (sizes[a], a in free, not place[a][0], -place[a][1]))
    return [(source, name) for name, source in reversed(made.items())]
