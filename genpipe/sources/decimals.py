"""Digits after the point: how many a column of numbers is written with, and the dust that arithmetic leaves.

47.7209 that was reckoned with may be 47.72090000000001. Where most values of a column have few digits and all
others differ from so few by no more than such dust, the column has few, and the others are read so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

MOST, ANY = 10, 99
DUST = 1e-9  # of a value
FULL = 14  # digits of a value from its first one, that nobody writes and arithmetic fills
NOTHING = 1e-15  # what a difference of equal numbers leaves
CLEAR = 1e-4  # of the last place: four zeros or nines follow it
NEARLY_ALL, MAJORITY = 0.95, 0.5
SMALLEST = 1e-3  # of a column's largest value; below, NOTHING may be something


@dataclass(frozen=True)
class Digits:
    """Of the values of a column, digits after the point; ANY where ten lose something.

    most: that lose nothing (29.0 is a whole number). clear: that lose no more than dust. dusty: most of one
    value -> how many values lose dust by fewer.
    """

    most: int = 0
    clear: int = 0
    dusty: Mapping[int, int] = field(default_factory=Counter)

    def merge(self, other: Digits) -> Digits:
        dusty = Counter(self.dusty) + Counter(other.dusty)
        return Digits(max(self.most, other.most), max(self.clear, other.clear), dusty)

    def settled(self, valid: int, largest: float) -> tuple[int | None, int]:
        """(digits, how many values lose dust by them); None = all there are. valid: number of values."""
        dust = sum(n for most, n in self.dusty.items() if most > self.clear)
        if self.clear < self.most and dust <= MAJORITY * valid and largest >= SMALLEST:
            return self.clear, dust
        return (self.most if self.most <= MOST else None), 0


def digits(values: np.ndarray) -> Digits:
    """Of one batch of numbers, none of them missing."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        usual = 0
        for end in (64, 4096):  # few tell nearly always what nearly all confirm
            some = values[:end]
            while usual <= MOST and (np.round(some, usual) == some).mean() < NEARLY_ALL:
                usual += 1
            usual = _common(some) if usual > MOST else usual
        if usual > MOST:
            return Digits(ANY, ANY)
        left = values[np.round(values, usual) != values]
        most, clear = np.full(len(left), ANY), np.full(len(left), ANY)
        for places in range(MOST, usual, -1):
            most[np.round(left, places) == left] = places
        for places in range(MOST, usual - 1, -1):
            clear[_is_dust(left, np.round(left, places), places)] = places
        before = np.floor(np.log10(np.abs(left))) + 1
    clear = np.where(most + before >= FULL, np.minimum(most, clear), most)
    dusty = Counter(most[clear < most].tolist())
    return Digits(int(most.max(initial=usual)), int(clear.max(initial=usual)), dusty)


def _common(values: np.ndarray) -> int:
    """Digits that most values have, where there are too many for nearly all; ANY = most values have more."""
    shares = [(np.round(values, places) == values).mean() for places in range(MOST + 1)]
    return int(np.argmax(shares)) if shares[-1] >= MAJORITY else ANY  # the first of the largest


def repaired(values: np.ndarray, decimals: int) -> np.ndarray:
    """The values without what is dust to so many digits."""
    with np.errstate(over="ignore", invalid="ignore"):
        settled = np.round(values, decimals)
        found: np.ndarray = np.where(_is_dust(values, settled, decimals), settled, values)
    return found


def _is_dust(values: np.ndarray, settled: np.ndarray, places: int) -> np.ndarray:
    """Whether values differ from rounded ones by less than arithmetic does."""
    small = np.maximum(DUST * np.abs(values), NOTHING)
    found: np.ndarray = np.abs(values - settled) <= np.minimum(small, CLEAR * 10.0**-places)
    return found
