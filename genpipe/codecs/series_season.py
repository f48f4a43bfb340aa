"""What comes again and again in long series, as a day and a week do, and where in it each series begins.

A model that reads a window from its first step on cannot know that it begins on a Friday at nine, and of what
it generates, days drift apart. So a period is looked for in the autocorrelation, and the mean course of one
period is kept. Where in that course a series begins is the place at which the two agree best (as in
shift-invariant clustering: Frey & Jojic 2003, "Transformation-invariant clustering using the EM algorithm");
it is told to the networks as one more condition, which moves on by one a step. How high a series lies as a
whole, as in summer and winter, is another: a model that learns stretches would let it wander.

N series · T steps · W channels of scores · P steps of the period
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from genpipe.codecs.conditions import spread_draws
from genpipe.codecs.holders import Crowd
from genpipe.codecs.stored import Form, Real, Share

FEWEST, MOST = 4, 1024  # steps of a period
HIGH = 0.2  # of the autocorrelation at a period, and how far it lies above the least before
NEARLY = 0.03  # as high, the shorter period is taken
TOLD = 0.1  # of the spread, that the course says at the least
LEVELS, FEWEST_EACH = 12, 4  # of whole series, at most; times `k` series of each at the least
SERIES, ROUNDS, TRIES = 512, 8, 5  # that are looked at; of moving them onto their mean; beginnings of that


@dataclass(frozen=True)
class Season:
    """periods: the longest first, which the others divide. course: (P, W) of mean 0. begins: (P,) the share
    of series that begin at each place of the course. along: (W,) in which direction means of series differ
    most. edges: ascending, between levels of about as many series.
    """

    periods: tuple[int, ...]
    course: np.ndarray
    begins: np.ndarray
    along: np.ndarray
    edges: np.ndarray

    @property
    def sizes(self) -> tuple[int, int]:
        """Classes of the two conditions: levels and places."""
        return len(self.edges) + 1, len(self.course)

    def conditions(self, x: np.ndarray) -> np.ndarray:
        """(N, 2) level and place of (N, T, W)."""
        return np.column_stack([np.searchsorted(self.edges, _means(x) @ self.along), self.places(x)])

    def places(self, x: np.ndarray) -> np.ndarray:
        """(N,) where in the course each of (N, T, W) begins; steps that are NaN say nothing."""
        return _places(*_folded(x, len(self.course)), self.course)

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """(rows, 2) levels and places."""
        levels = spread_draws(np.ones(len(self.edges) + 1), rows, rng)
        return np.column_stack([levels, spread_draws(self.begins, rows, rng)])

    def to_json(self) -> dict[str, Any]:
        return {
            "periods": list(self.periods),
            "course": self.course.round(4).tolist(),
            "begins": self.begins.round(6).tolist(),
            "along": self.along.round(6).tolist(),
            "edges": self.edges.round(6).tolist(),
        }


class SeasonForm(Form):
    periods: Annotated[list[Annotated[int, Field(ge=FEWEST, le=MOST)]], Field(min_length=1, max_length=16)]
    course: Annotated[list[list[Real]], Field(max_length=MOST)]
    begins: Annotated[list[Share], Field(max_length=MOST)]
    along: list[Real]
    edges: Annotated[list[Real], Field(max_length=LEVELS)]

    @model_validator(mode="after")
    def _check(self) -> SeasonForm:
        longest = self.periods[0]
        if any(longest % period for period in self.periods):
            raise ValueError("periods that do not divide the longest")
        if {len(self.course), len(self.begins)} != {longest} or not sum(self.begins) > 0:
            raise ValueError(f"a course or beginnings that are not those of {longest} steps")
        if any(b <= a for a, b in pairwise(self.edges)):
            raise ValueError("levels whose edges do not ascend")
        return self


def read_season(told: Any, width: int) -> Season | None:
    """Of codec.json; a ValueError where it is not a course of so many channels."""
    if told is None:
        return None
    form = SeasonForm.model_validate(told)
    if {len(step) for step in form.course} | {len(form.along)} != {width}:
        raise ValueError(f"a season of other than {width} channels")
    numbers = map(np.asarray, (form.course, form.begins, form.along, form.edges))
    return Season(tuple(form.periods), *numbers)


def find_season(x: np.ndarray, k: int, who: np.ndarray | None = None) -> Season | None:
    """Of (N, T, W); None where nothing comes again within half of a series, or fewer than 2 k entities have
    series. k: of so many entities a place that their series begin at is told apart from those of fewer. who:
    (N,) of each series; one of each entity is looked at. None = all are different.
    """
    if who is not None:
        x = x[np.sort(np.unique(who, return_index=True)[1])]
    if len(x) < 2 * k:
        return None
    x = x[np.linspace(0, len(x) - 1, min(len(x), SERIES)).astype(int)] if len(x) else x
    periods = _periods(x)
    if not periods:
        return None
    sums, counts = _folded(x, periods[0])
    tries = np.linspace(0, len(x) - 1, min(len(x), TRIES)).astype(int)
    told, course = max((_fitted(sums, counts, i) for i in tries.tolist()), key=lambda found: found[0])
    if told < TOLD:
        return None
    seen = np.bincount(_places(sums, counts, course), minlength=periods[0]).astype(float)
    few = (seen > 0) & (seen < k)
    seen[few] = seen[few].mean() if few.any() else 0.0
    return Season(periods, course.round(4), (seen / seen.sum()).round(6), *_levels(x, k))


def _means(x: np.ndarray) -> np.ndarray:
    """(N, W) of the steps that are there."""
    there = np.isfinite(x)
    found: np.ndarray = np.where(there, x, 0.0).sum(1) / np.maximum(there.sum(1), 1)
    return found


def _levels(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first principal direction of the means, and edges along it between equally many series."""
    means = _means(x)
    along = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][0].round(6)
    number = max(1, min(LEVELS, len(x) // (FEWEST_EACH * max(k, 1))))
    shares = np.arange(1, number) / number
    levels = np.sort(means @ along)
    edges = np.quantile(levels, shares)
    return along, np.unique((Crowd(k, levels).snapped(edges) if k > 1 else edges).round(6))


def _periods(x: np.ndarray) -> tuple[int, ...]:
    """The period at which series are most alike, and those inside of it; () where there is none."""
    rows, steps, _ = x.shape
    upto = min(steps // 2, MOST)
    if not rows or upto < 2 * FEWEST:
        return ()
    own = x - x.mean(1, keepdims=True)
    power = (np.abs(np.fft.rfft(own, 2 * steps, axis=1)) ** 2).mean(0)
    alike = np.fft.irfft(power, axis=0)[: upto + 1] / (steps - np.arange(upto + 1))[:, None]
    alike = alike / np.maximum(alike[0], 1e-12)
    least = np.minimum.accumulate(alike, 0)
    found = {}
    for lag in range(FEWEST, upto + 1):
        near = alike[max(1, lag - max(1, lag // 8)) : lag + max(1, lag // 8) + 1]
        rises = (alike[lag] >= near.max(0)) & (alike[lag] - least[lag] >= HIGH) & (alike[lag] >= HIGH)
        if rises.any():
            found[lag] = float(alike[lag][rises].max())
    if not found:
        return ()
    best = min(lag for lag, high in found.items() if high >= max(found.values()) - NEARLY)
    return (best, *sorted((lag for lag in found if lag < best and best % lag == 0), reverse=True))


def _folded(x: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, P, W) sums over the steps of each place of a period that begins with the series, and how many."""
    rows, steps, width = x.shape
    there = np.isfinite(x)
    if there.any(2).sum(1).min(initial=steps) >= period:  # of less the mean is another place's
        count = np.maximum(there.sum(1, keepdims=True), 1)
        x = x - np.where(there, x, 0.0).sum(1, keepdims=True) / count
    more = -steps % period
    sums = np.pad(np.where(there, x, 0.0), ((0, 0), (0, more), (0, 0))).reshape(rows, -1, period, width)
    counts = np.pad(there.astype(float), ((0, 0), (0, more), (0, 0))).reshape(rows, -1, period, width)
    return sums.sum(1), counts.sum(1)


def _places(sums: np.ndarray, counts: np.ndarray, course: np.ndarray) -> np.ndarray:
    """(N,) the place of least squares, by circular correlation."""

    def along(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(N, P) sums over j and channels of a[j] b[j + place]."""
        spectrum = (np.fft.rfft(a, axis=1).conj() * np.fft.rfft(b, axis=0)).sum(2)
        return np.fft.irfft(spectrum, len(course), axis=1)

    away = along(counts, course**2) - 2 * along(sums, course)
    found: np.ndarray = away.round(9).argmin(1)
    return found


def _fitted(sums: np.ndarray, counts: np.ndarray, first: int) -> tuple[float, np.ndarray]:
    """(the share of the means' spread that the course tells, (P, W) the course) that begins as one series."""
    rows, period = len(sums), sums.shape[1]
    means = sums / np.maximum(counts, 1)
    course = means[first]
    for _ in range(ROUNDS):
        at = (np.arange(period) - _places(sums, counts, course)[:, None]) % period
        course = np.stack([means[i, at[i]] for i in range(rows)]).mean(0)
        course = course - course.mean(0)
    at = (np.arange(period) - _places(sums, counts, course)[:, None]) % period
    left = sum(float(((means[i, at[i]] - course) ** 2).sum()) for i in range(rows))
    return 1.0 - left / max(float((means**2).sum()), 1e-12), course
