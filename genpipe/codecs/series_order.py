"""Channels of a series that are always in order: the high of a day is never below its low.

Of such channels one is learnt as how far it lies beyond the greatest of those below it (or below the least of
those above it), which is never negative. So whatever is decoded is in order. A family that adds noise of one
width to every step learns the channels better as they are, and they are moved into order afterwards. Order
alone is not enough: a pressure is always above a temperature. Only channels that move together are tied, and
none with gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genpipe.codecs.stored import TieForm

TOGETHER = 0.5  # of the lesser spread of two channels, of which their difference has less
MOST = 64  # channels of which pairs are looked at
Matrices = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tie:
    """A channel that is never below (over) or never above (not over) any of `others`.

    clamp: it is learnt as it is, and moved into order after decoding.
    """

    name: str
    over: bool
    others: tuple[str, ...]
    clamp: bool = False

    def edge(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The greatest of the others, or the least."""
        pick = np.maximum if self.over else np.minimum
        return np.asarray(pick.reduce([values[name] for name in self.others]))

    def reduce(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """How far the channel lies beyond them, at least 0."""
        if self.clamp:
            return values[self.name]
        beyond = values[self.name] - self.edge(values)
        found: np.ndarray = np.maximum(beyond if self.over else -beyond, 0.0)
        return found

    def rounded(self, values: np.ndarray, decimals: int | None) -> np.ndarray:
        """To so many digits after the point, away from the others."""
        if decimals is None:
            return values
        unit = 10.0**decimals
        away = np.ceil(values * unit - 1e-6) if self.over else np.floor(values * unit + 1e-6)
        found: np.ndarray = away / unit
        return found

    def restore(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        edge, own = self.edge(values), values[self.name]
        if self.clamp:
            return np.asarray(np.maximum(own, edge) if self.over else np.minimum(own, edge))
        found: np.ndarray = edge + own if self.over else edge - own
        return found


def least_steps(values: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """(a, b) -> the least of b - a over rows and steps, of channels without gaps; of very many nothing."""
    if len(values) > MOST:
        return {}
    whole = [name for name, matrix in values.items() if matrix.size and not np.isnan(matrix).any()]
    return {(a, b): float((values[b] - values[a]).min()) for a in whole for b in whole if a != b}


def merged(a: dict[tuple[str, str], float], b: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {pair: min(a[pair], b[pair]) for pair in a.keys() & b.keys()}


def find_ties(
    names: Iterable[str],
    least: Mapping[tuple[str, str], float],
    sample: Mapping[str, np.ndarray],
    *,
    clamp: bool = False,
) -> tuple[Tie, ...]:
    """Those with the most others first; what a tie is made of is made after it, or by itself.

    least: of all rows, see `least_steps`. sample: some rows of each channel, by which they move together.
    """
    names = list(names)
    near = {(a, b) for a, b in least if least[a, b] >= 0 and _together(sample[a], sample[b])}
    found: list[Tie] = []
    for i, name in enumerate(names):  # copies of another channel
        made = {tie.name for tie in found}
        twins = [o for o in names[:i] if o not in made and {(o, name), (name, o)} <= near]
        found += [Tie(name, True, (twin,)) for twin in twins[:1]]
    while True:
        left = [name for name in names if name not in {tie.name for tie in found}]
        ties = [
            Tie(name, over, tuple(o for o in left if ((o, name) if over else (name, o)) in near), clamp)
            for name in left
            for over in (True, False)
        ]
        best = max(ties, key=lambda tie: len(tie.others), default=None)
        if best is None or not best.others:
            return tuple(found)
        found.append(best)


def _together(a: np.ndarray, b: np.ndarray) -> bool:
    there = ~(np.isnan(a) | np.isnan(b))
    if not there.any():
        return False
    spread = min(float(a[there].std()), float(b[there].std()))
    return float((b - a)[there].std()) < TOGETHER * spread


def reduced(ties: tuple[Tie, ...], values: Matrices) -> Matrices:
    """(B, T) of every channel, of a tied one how far it lies beyond the others."""
    return values | {tie.name: tie.reduce(values) for tie in ties}


def restored(ties: tuple[Tie, ...], values: Matrices) -> Matrices:
    """The way back; a later tie is made of what stays, and an earlier one may be made of it."""
    for tie in reversed(ties):
        values = values | {tie.name: tie.restore(values)}
    return values


def read_ties(told: Any, whole: set[str]) -> tuple[Tie, ...]:
    """Of codec.json; a ValueError where one is made of itself, of an earlier one, or of one with gaps."""
    ties: list[Tie] = []
    for each in told:
        form = TieForm.model_validate(each)
        made = {tie.name for tie in ties}
        if form.name in made or not {form.name, *form.others} <= whole - made or form.name in form.others:
            raise ValueError(f"{form.name!r} cannot be made of {form.others}")
        ties.append(Tie(form.name, form.over, tuple(form.others), form.clamp))
    return tuple(ties)
