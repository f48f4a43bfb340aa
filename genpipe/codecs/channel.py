"""One channel of a series: its values as scores in [-1, 1], and a second one above 0 where one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.fitting import fit_score, within
from genpipe.codecs.holders import Crowd
from genpipe.codecs.scale import Axis, Score, make_axis
from genpipe.codecs.sketch import combine
from genpipe.codecs.stored import ChannelForm, read_axis, read_score
from genpipe.errors import DataError
from genpipe.fields import Number, Series

OFTEN, ROOM = 0.02, 0.8  # share of the steps; of the way to the next knot


@dataclass(frozen=True)
class Channel:
    """score None: the channel is always `axis.low`; axis None: it is always missing."""

    field: Series
    axis: Axis | None
    score: Score | None
    gaps: bool

    def encode(self, values: np.ndarray) -> np.ndarray:
        """(B, T) with NaN for missing -> (B, T, 1 or 2)."""
        assert self.axis is not None
        valid = ~np.isnan(values)
        parts = []
        if self.score is not None:
            points = self.axis.points(_filled(np.where(valid, values, 0.0), valid))
            parts.append(self.score.encode((points - self._origin).astype(np.float64)))
        if self.gaps:
            parts.append(np.where(valid, -1.0, 1.0))
        return np.stack(parts, axis=-1).astype(np.float32)

    def decode(self, x: np.ndarray) -> pa.Array:
        """(B, T, width) -> a list column of T values a row."""
        rows, steps, _ = x.shape
        if self.axis is None:
            flat = pa.nulls(rows * steps, pa.float64())
        else:
            missing = x[:, :, -1].reshape(-1) > 0 if self.gaps else None
            points = np.full(rows * steps, self.axis.low, dtype=np.int64 if self.axis.whole else np.float64)
            if self.score is not None:
                scores = self.score.decode(x[:, :, 0].reshape(-1).astype(np.float64))
                points = np.rint(scores).astype(np.int64) + self._origin if self.axis.whole else scores
            flat = self.axis.arrow(points, missing)
        return lists(flat, rows, steps)

    @property
    def _origin(self) -> float:
        return self.axis.low if self.axis is not None and self.axis.whole else 0.0

    @property
    def width(self) -> int:
        return 0 if self.axis is None else (self.score is not None) + self.gaps

    def tolerance(self) -> float:
        if self.axis is None or self.score is None:
            return 0.0
        error = self.score.error()
        if not self.axis.whole:
            return error
        return 0.0 if error < 0.49 else (error + 1) / 10.0 ** (self.axis.decimals or 0)

    def to_json(self) -> dict[str, Any]:
        score = self.score and {"knots": self.score.knots.tolist(), "scores": self.score.scores.tolist()}
        return {"axis": self.axis and self.axis.to_json(), "score": score, "gaps": self.gaps}

    @classmethod
    def from_json(cls, field: Series, data: dict[str, Any]) -> Channel:
        form = ChannelForm.model_validate(data)
        if form.axis is None:
            return cls(field, None, None, form.gaps)
        axis = read_axis(Number(name=field.name, decimals=field.decimals), form.axis)
        return cls(field, axis, read_score(form.score, form.axis), form.gaps)


def lists(flat: pa.Array, rows: int, steps: int) -> pa.Array:
    """(B * T,) -> a list column of T values a row."""
    ends = np.arange(0, rows * steps + 1, max(steps, 1), dtype=np.int32)
    return pa.ListArray.from_arrays(ends, flat)


def _filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Gaps take the last valid value of their row, leading gaps the first; rows without any keep 0."""
    if valid.all():
        return values
    steps = np.arange(values.shape[1])
    last = np.maximum.accumulate(np.where(valid, steps, -1), axis=1)
    source = np.where(last < 0, valid.argmax(1)[:, None], last)
    return np.take_along_axis(values, source, axis=1)


def fit_channel(
    field: Series,
    decimals: int | None,
    ends: tuple[float | None, float | None],
    steps: np.ndarray,
    weights: np.ndarray,
    who: np.ndarray | None,
    *,
    gaps: bool,
    k: int,
) -> Channel:
    """ends: of all rows; None, None of one that is always missing. steps: (B, T) of some rows, which come so
    often (B,), and are about these entities (B,).
    """
    low, high = ends
    if low is None or high is None:
        return Channel(field, None, None, True)
    axis = make_axis(Number(name=field.name, decimals=decimals), step=0, low=low, high=high)
    valid, crowd = ~np.isnan(steps), None
    values, counts = steps[valid], np.broadcast_to(weights[:, None], steps.shape)[valid]
    if k < 2:
        values, counts = np.concatenate([values, [low, high]]), np.concatenate([counts, [1, 1]])
    else:  # all steps of a series are one entity's
        who = np.arange(len(steps)) if who is None else who
        crowd = Crowd(k, values, np.broadcast_to(who[:, None], steps.shape)[valid]).sorted()
        if not crowd.enough():
            return Channel(field, None, None, True)
        axis = within(axis, crowd)
        crowd = crowd.at(axis.points(crowd.points))
    points, counts = combine(axis.points(values), counts)
    score = fit_score(points, counts, axis, crowd)
    if score is not None and axis.whole:
        origin = axis.low
        score = spaced(score, points - origin, counts / counts.sum())
    return Channel(field, axis, score, gaps)


def spaced(score: Score, points: np.ndarray, shares: np.ndarray) -> Score:
    """The score with room around values that are frequent, such as no rain: what is near one on the scale of
    scores, as a network says it, is that value and not another close to it.

    points: ascending, whole, with their shares. The next whole numbers get scores most of the way to the next
    knots.
    """
    knots, scores = list[float](), list[float]()
    place = np.searchsorted(points, score.knots).clip(0, len(points) - 1)
    often = (points[place] == score.knots) & (shares[place] >= OFTEN)
    for k, (knot, at) in enumerate(zip(score.knots.tolist(), score.scores.tolist(), strict=True)):
        before, after = (knots[-1] if knots else None), score.knots[k + 1 : k + 2]
        if often[k] and before is not None and knot - before > 1:
            knots.append(knot - 1)
            scores.append(at - ROOM * (at - scores[-1]))
        knots.append(knot)
        scores.append(at)
        if often[k] and len(after) and after[0] - knot > 2:
            knots.append(knot + 1)
            scores.append(at + ROOM * (float(score.scores[k + 1]) - at))
    return Score(np.array(knots), np.array(scores))


def matrix(batch: pa.RecordBatch, field: Series) -> np.ndarray:
    """(B, T) float64 of one channel, NaN where a step or the whole row is missing."""
    column = batch.column(field.name)
    lengths = column.value_lengths().fill_null(field.length).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != field.length)
    if len(wrong):
        got = f"{lengths[wrong[0]]} steps"
        raise DataError(
            "LENGTH",
            where=f"{field.name}:row {wrong[0]}",
            found=got,
            expected=f"{field.length} as the schema says",
        )
    out = np.full((batch.num_rows, field.length), np.nan)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    out[valid] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, field.length)
    return out


def channel_values(column: pa.Array, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values of all steps, of whom each is); who: (B,) of whom each row is."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values, whose = column.flatten().to_numpy(zero_copy_only=False), np.repeat(who, lengths)
    there = ~np.isnan(values)
    return values[there], whose[there]
