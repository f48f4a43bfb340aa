"""Channels that go round as a clock does: the hour of a step, its weekday, its month.

Where such a channel is now says nearly always where it is a step later. A generator learns that up to noise,
and one wrong hour of twenty-four is seen at once. So the course that is decoded is the likeliest one of those
that the channel has taken in the data, given what the generator made (Viterbi 1967). A slow clock moves on
only where a faster one says so, as a month does at midnight.

B rows · T steps · K values
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from genpipe.codecs.stored import Form, Real, Share

FEWEST, MOST = 3, 64  # values of a clock
ONE_WAY = 0.95  # of the moves away from a value, that go to one other
KNOWN = 0.999  # of the steps, that are seen often enough to be taken
ALWAYS = 0.99  # of the moves of a slow clock, at one time of a faster one; of the steps of that, that move
CELLS = 2**22  # of rows, values and values that are looked at together
WRONG, FAR = 20.0, 1.0  # nats of a step that is not as it was made, and of each place it lies beyond
Matrices = dict[str, np.ndarray]
Place = Annotated[int, Field(ge=0, lt=MOST)]


@dataclass(frozen=True)
class Clock:
    """name: the channel. values: (K,) ascending. moves: (K, K) the share of the steps from one value to
    another. by, at: the faster clock, and its value at the steps by which this one may have moved on.
    """

    name: str
    values: np.ndarray
    moves: np.ndarray
    by: str | None = None
    at: float | None = None

    def places(self, steps: np.ndarray) -> np.ndarray:
        """(B, T) the value nearest to each."""
        right = np.searchsorted(self.values, steps).clip(1, len(self.values) - 1)
        lower = steps - self.values[right - 1] < self.values[right] - steps
        found: np.ndarray = np.where(lower, right - 1, right)
        return found

    def set(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """(B, T) the likeliest course, of what was made of this channel and of the faster one, set before."""
        own, other = values[self.name], values.get(self.by or "", values[self.name])
        some = max(1, CELLS // self.moves.size)
        pieces = [self._course(own[i : i + some], other[i : i + some]) for i in range(0, len(own), some)]
        return np.concatenate(pieces) if pieces else own

    def _course(self, steps: np.ndarray, other: np.ndarray) -> np.ndarray:
        made = self.places(steps)
        with np.errstate(divide="ignore"):
            go = np.log(self.moves)
        stay = np.where(np.eye(len(self.values), dtype=bool), 0.0, -np.inf)
        free = None if self.by is None else other == self.at
        away = np.abs(np.arange(len(self.values)) - np.arange(len(self.values))[:, None])
        away = -np.where(away == 0, 0.0, WRONG + FAR * np.minimum(away, len(away) - away))
        rows, length = made.shape
        best, came = away[made[:, 0]], np.zeros((rows, length, len(self.values)), np.int8)
        for t in range(1, length):
            way = go[None] if free is None else np.where(free[:, t, None, None], go, stay)
            upto = best[:, :, None] + way
            came[:, t] = upto.argmax(1)
            best = upto.max(1) + away[made[:, t]]
        path = np.empty((rows, length), np.int64)
        path[:, -1] = best.argmax(1)
        for t in range(length - 1, 0, -1):
            path[:, t - 1] = came[np.arange(rows), t, path[:, t]]
        found: np.ndarray = self.values[path]
        return found

    def to_json(self) -> dict[str, Any]:
        before, after = self.moves.nonzero()
        return {
            "name": self.name,
            "values": self.values.tolist(),
            "before": before.tolist(),
            "after": after.tolist(),
            "shares": self.moves[before, after].round(6).tolist(),
            "by": self.by,
            "at": self.at,
        }


class ClockForm(Form):
    name: str
    values: Annotated[list[Real], Field(min_length=FEWEST, max_length=MOST)]
    before: Annotated[list[Place], Field(max_length=MOST**2)]
    after: Annotated[list[Place], Field(max_length=MOST**2)]
    shares: Annotated[list[Share], Field(max_length=MOST**2)]
    by: str | None
    at: Real | None

    @model_validator(mode="after")
    def _check(self) -> ClockForm:
        if any(b <= a for a, b in pairwise(self.values)):
            raise ValueError("values of a clock that do not ascend")
        if len({len(self.before), len(self.after), len(self.shares)}) > 1:
            raise ValueError("moves of a clock of other lengths than their shares")
        if max([*self.before, *self.after], default=0) >= len(self.values):
            raise ValueError("a clock that moves to where it has no value")
        if not self.table().any(1).all() or (self.by is None) != (self.at is None):
            raise ValueError("a clock that stands still, or follows another at no time")
        return self

    def table(self) -> np.ndarray:
        found = np.zeros((len(self.values), len(self.values)))
        found[self.before, self.after] = self.shares
        return found


def find_clocks(sample: Mapping[str, np.ndarray], k: int) -> tuple[Clock, ...]:
    """Of channels (B, T) of some rows; faster ones first. k: rows that must show a move for it to be kept."""
    found = [clock for name, steps in sample.items() if (clock := _clock(name, steps, max(k, 1))) is not None]
    fast = [clock for clock in found if np.diag(clock.moves).max() <= 1 - ALWAYS]
    slow = [_driven(c, fast, sample) for c in found if all(c is not other for other in fast)]
    return (*fast, *slow)


def _clock(name: str, steps: np.ndarray, k: int) -> Clock | None:
    if steps.shape[1] < 2 or not len(steps) or np.isnan(steps).any():
        return None
    values = np.unique(steps[: 4 * MOST])
    if len(values) > MOST or not FEWEST <= len(values := np.unique(steps)) <= MOST:
        return None
    size, at = len(values), np.searchsorted(values, steps)
    pairs = at[:, :-1] * size + at[:, 1:]
    row = np.arange(len(at))[:, None].repeat(pairs.shape[1], 1)
    once = np.unique(row.ravel() * size**2 + pairs.ravel()) % size**2  # each pair once a row
    shown = np.bincount(once, minlength=size * size).reshape(size, size) >= k
    counts = np.bincount(pairs.ravel(), minlength=size * size).reshape(size, size)
    if counts[shown].sum() < KNOWN * counts.sum():
        return None
    moved = np.where(shown, counts, 0) * ~np.eye(size, dtype=bool)
    if moved.max(1).sum() < ONE_WAY * moved.sum() or len(np.unique(moved.argmax(1)[moved.any(1)])) < size - 1:
        return None
    kept = np.where(shown, counts, 0).astype(float)
    kept[~kept.any(1)] = np.eye(size)[~kept.any(1)]
    return Clock(name, values.astype(float), kept / kept.sum(1, keepdims=True))


def _driven(clock: Clock, fast: list[Clock], sample: Mapping[str, np.ndarray]) -> Clock:
    """The clock with the faster one at one time of which it moves, if there is one."""
    steps = sample[clock.name]
    moves = steps[:, 1:] != steps[:, :-1]
    for other in fast:
        times, often = np.unique(sample[other.name][:, 1:][moves], return_counts=True)
        if len(times) and often.max() >= ALWAYS * often.sum():
            at = times[often.argmax()]
            size, places = len(clock.values), clock.places(steps)
            here = (sample[other.name] == at)[:, 1:]
            pairs = (places[:, :-1] * size + places[:, 1:])[here]
            counts = np.bincount(pairs, minlength=size * size).reshape(size, size) * (clock.moves > 0)
            own = counts + np.eye(size) * ~counts.any(1)  # where it never was at that time it stays
            return Clock(clock.name, clock.values, own / own.sum(1, keepdims=True), other.name, float(at))
    return clock


def set_clocks(clocks: tuple[Clock, ...], values: Matrices) -> Matrices:
    for clock in clocks:
        values = values | {clock.name: clock.set(values)}
    return values


def read_clocks(told: Any, whole: set[str]) -> tuple[Clock, ...]:
    """Of codec.json; a ValueError where one is of no channel or says what no clock does."""
    clocks: list[Clock] = []
    for each in told:
        form = ClockForm.model_validate(each)
        names = {clock.name for clock in clocks}
        if form.name not in whole - names or not (form.by is None or form.by in names):
            raise ValueError(f"{form.name!r} is no channel, or follows {form.by!r}, which is none before it")
        clocks.append(Clock(form.name, np.asarray(form.values), form.table(), form.by, form.at))
    return tuple(clocks)
