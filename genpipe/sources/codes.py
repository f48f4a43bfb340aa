"""Codes that go with few values of other columns: a postal code with its city, a flight with its airline.

They are sought in what columns repeat (repeats.py): rows that share a code mostly share the other column,
though rows by chance seldom do. A code is a text or a whole number of many values, each of which comes back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from genpipe.constraints import Within
from genpipe.fields import AnyField
from genpipe.keys import NULL
from genpipe.sources.relations import Relation
from genpipe.sources.repeats import Repeats

MANY = 110  # different values
OFTEN, MOSTLY = 8, 0.5  # rows of a value that comes back, and the share of rows whose value does
PAIRS = 200  # of rows of one value that agree or not
STRONG, RARE = (
    0.8,
    0.25,
)  # how often rows of one code agree in at least one column, and rows by chance, at most
AGREE, CHANCE, GAIN = 0.7, 0.5, 0.5  # in every column of it; of the way from chance to always
ALWAYS = 1.0 - 1e-9  # of the sample: a column told by another one says nothing beside it
PARENTS = 4


def find_codes(
    repeats: Mapping[str, Repeats], fields: Iterable[AnyField], taken: Collection[str | None]
) -> list[Relation]:
    """taken: columns that are no codes: the target, and those of other relations."""
    kinds = {f.name: f.kind for f in fields if f.kind in ("category", "integer", "boolean")}
    share = {name: _agreement(repeats[name], kinds) for name in kinds if name in repeats}
    found: dict[str, list[str]] = {}
    for name, agree in share.items():
        seen = repeats[name]
        back = seen.counts[seen.counts >= OFTEN].sum() >= MOSTLY * seen.counts.sum()
        if name in taken or kinds[name] == "boolean" or seen.distinct < MANY or not back:
            continue
        good = {p: a for p, (a, by_chance) in agree.items() if _good(a, by_chance)}
        if any(a >= STRONG and agree[p][1] <= RARE for p, a in good.items()):
            size = {p: repeats[p].distinct if p in repeats else 2 for p in good}
            found[name] = sorted(
                (p for p in good if size[p] < seen.distinct and p not in taken), key=size.__getitem__
            )
    out = []
    for name, parents in found.items():
        told = {p for p in parents for q in parents if p != q and _decides(share, q, p)}
        of = [p for p in parents if p not in told][:PARENTS]
        if of:
            out.append(Relation(Within(column=name, of=tuple(of)), 1.0))
    return out


def _good(agree: float, by_chance: float) -> bool:
    return agree >= AGREE and by_chance <= CHANCE and agree >= by_chance + GAIN * (1 - by_chance)


def _decides(share: Mapping[str, Mapping[str, tuple[float, float]]], one: str, other: str) -> bool:
    return share.get(one, {}).get(other, (0.0, 1.0))[0] >= ALWAYS


def _agreement(seen: Repeats, kinds: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Column -> how often two rows of one value agree in it, and how often two rows do."""
    size = np.bincount(seen.of)
    pairs = float((size * (size - 1)).sum())
    out = {}
    for name in kinds:
        if name in seen.cells and pairs >= 2 * PAIRS and not (seen.cells[name] == NULL).all():
            values, code = np.unique(seen.cells[name], return_inverse=True)
            both = np.unique(seen.of * len(values) + code, return_counts=True)[1].astype(np.float64)
            alone = np.bincount(code) / len(code)
            out[name] = float((both * (both - 1)).sum() / pairs), float((alone**2).sum())
    return out
