"""The column of ordered values: numbers, whole numbers, dates and timestamps as tokens and as vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from genpipe.codecs.columns import WIDEST_HEAD, Fixed, Learnt, hottest, one_hot, rounded
from genpipe.codecs.endings import fit_endings, steps
from genpipe.codecs.fitting import fit_score, make_cells, within
from genpipe.codecs.holders import Crowd, coarse
from genpipe.codecs.scale import Axis, Cells, Score, log_density, make_axis, nearest
from genpipe.codecs.sketch import Tally, to_numpy
from genpipe.codecs.stored import ScaleForm, check_legal, read_axis, read_score
from genpipe.errors import DataError
from genpipe.fields import AnyField
from genpipe.spec import Span

FEW = 12  # so few distinct values are a choice in a vector, not a scalar
LARGEST = 1e150  # squares of numbers must be finite
SPIKE = 0.05  # a value of this share of the rows gets a mode of its own in a vector


@dataclass(frozen=True)
class NumberStats:
    """valid: rows with a value. step: greatest common divisor of whole numbers, 0 for real ones."""

    valid: int
    low: float | None
    high: float | None
    step: int
    tally: Tally

    def merge(self, other: NumberStats) -> NumberStats:
        lows = [v for v in (self.low, other.low) if v is not None]
        highs = [v for v in (self.high, other.high) if v is not None]
        return NumberStats(
            self.valid + other.valid,
            min(lows, default=None),
            max(highs, default=None),
            gcd(self.step, other.step),
            self.tally.merge(other.tally),
        )


def observe_number(field: AnyField, column: pa.Array) -> tuple[NumberStats, np.ndarray, np.ndarray]:
    """(statistics, values, valid) of one batch of a column."""
    values, valid = to_numpy(column)
    seen = values[valid]
    if values.dtype.kind == "f" and np.abs(seen).max(initial=0.0) > LARGEST:
        found = f"the number {seen[np.abs(seen).argmax()]}"
        expected = f"at most {LARGEST:g}, or missing values"
        raise DataError("NONFINITE", where=field.name, found=found, expected=expected)
    if not field.nullable and not valid.all():
        missing = int(len(valid) - valid.sum())
        raise DataError(
            "NULL", where=field.name, found=f"{missing} missing values", expected="none, as the schema says"
        )
    whole = values.dtype.kind == "i"
    low, high = (seen.min().item(), seen.max().item()) if len(seen) else (None, None)
    step = int(np.gcd.reduce(np.unique(seen))) if whole and len(seen) else 0
    return NumberStats(len(seen), low, high, step, Tally.of(seen)), values, valid


@dataclass(frozen=True)
class Scale(Learnt):
    """cells for tokens; for vectors the atoms `modes` are choices of their own beside `score`.

    score None: the modes are all there is. written: of each step of the ladder (endings.py), the share of
    rows. With a ladder a code is cell * G + step, two tokens; shares are those of cells.
    """

    type: ClassVar[str] = "scale"
    ordered: ClassVar[bool] = True
    field: AnyField
    axis: Axis
    cells: Cells
    modes: np.ndarray
    score: Score | None
    shares: tuple[float, ...]
    missing: bool = False
    written: tuple[float, ...] = ()

    @property
    def steps(self) -> int:
        return max(1, len(self.written))

    @property
    def vocabulary(self) -> int:
        return (self.cells.size + self.missing) * self.steps

    @property
    def digits(self) -> tuple[int, ...]:
        return (self.vocabulary // self.steps, self.steps) if self.written else super().digits

    @property
    def digit_shares(self) -> tuple[tuple[float, ...], ...]:
        return (self.shares, self.written) if self.written else super().digit_shares

    @property
    def usual(self) -> int:
        return int(np.argmax(self.shares)) * self.steps + int(np.argmax(self.written or (1.0,)))

    @property
    def spans(self) -> tuple[Span, ...]:
        name, size = self.field.name, self.num_modes
        if self.score is None:
            return (Span(name=name, start=0, size=size, kind="categorical"),)
        scalar = Span(name=name, start=0, size=1, kind="continuous")
        if size == 1:
            return (scalar,)
        return scalar, Span(name=f"{name}.mode", start=1, size=size, kind="categorical")

    @property
    def num_modes(self) -> int:
        return (self.score is not None) + len(self.modes) + self.missing

    def encode(self, column: pa.Array) -> np.ndarray:
        values, valid = to_numpy(column)
        points = self.axis.points(values)
        codes = self.cells.encode(points)
        absent = self.cells.size if self.missing else self.cells.size // 2
        if self.written:
            codes, absent = codes * self.steps + steps(points, self.cells.ladder), absent * self.steps
        return np.where(valid, codes, absent).astype(np.int32)

    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pa.Array:
        written = None
        if self.written:
            codes, written = np.divmod(codes, self.steps)
        missing = codes >= self.cells.size if self.missing else None
        return self.axis.arrow(self.cells.decode(codes, rng, written), missing)

    def legal(self, column: pa.Array) -> np.ndarray:
        values, valid = to_numpy(column)
        back, _ = to_numpy(self.axis.arrow(self.axis.points(values), None))
        return np.where(valid, back == values, self.missing)

    def allowed(self) -> list[str]:
        low, high = self.axis.arrow(np.array([self.axis.low, self.axis.high]), None).to_pylist()
        return [f"{low} to {high}", *(["None"] if self.missing else [])]

    def log_density(self, column: pa.Array) -> np.ndarray:
        values, valid = to_numpy(column)
        found = log_density(self.cells, self.axis.points(values))
        if self.axis.decimals is None and self.axis.step == 0:
            return np.where(self.legal(column), np.where(valid, found, 0.0), -np.inf)
        return np.where(self.legal(column), np.where(valid, np.minimum(found, 0.0), 0.0), -np.inf)

    @property
    def origin(self) -> float:
        """Scores are taken of distances from here: float64 would blur nanoseconds since 1970."""
        return self.axis.low if self.axis.whole else 0.0

    def encode_vector(self, column: pa.Array) -> np.ndarray:
        values, valid = to_numpy(column)
        points = self.axis.points(values)
        mode = np.zeros(len(points), dtype=np.int64)
        shift = int(self.score is not None)
        if len(self.modes):
            near = nearest(self.modes, points)
            exact = self.modes[near] == points
            mode = np.where(exact | (self.score is None), near + shift, 0)
        if self.missing:
            mode = np.where(valid, mode, self.num_modes - 1)
        parts = []
        if self.score is not None:
            scalar = self.score.encode((points - self.origin).astype(np.float64))
            parts.append(np.where(valid, scalar, 0.0).astype(np.float32)[:, None])
        if self.score is None or self.num_modes > 1:
            parts.append(one_hot(mode, self.num_modes))
        return np.concatenate(parts, axis=1)

    def decode_vector(self, x: np.ndarray, rng: np.random.Generator) -> pa.Array:
        continuous = int(self.score is not None)
        points = np.zeros(len(x), dtype=np.int64 if self.axis.whole else np.float64)
        if self.score is not None:
            points = self.score.decode(x[:, 0].astype(np.float64))
            if self.axis.whole:
                points = np.rint(points).astype(np.int64) + self.origin
        if self.num_modes == continuous:
            return self.axis.arrow(points, None)
        mode = hottest(x[:, continuous:])
        if len(self.modes):
            nth = np.clip(mode - continuous, 0, len(self.modes) - 1)
            points = np.where(mode >= continuous, self.modes[nth], points)
        return self.axis.arrow(points, mode == self.num_modes - 1 if self.missing else None)

    def tolerance(self, layout: str) -> float:
        """In the unit of the values, for values within the extremes."""
        step = 1.0 if self.axis.step == 0 else float(self.axis.step)
        if layout == "tokens":
            widest = self.cells.widest()
            error = widest + len(self.cells.atoms) if self.axis.whole and widest else widest
        else:
            error = self.score.error() if self.score is not None else 0.0
            error = 0.0 if self.axis.whole and error < 0.49 else error + self.axis.whole
        if self.axis.decimals is not None:
            return error / 10.0**self.axis.decimals
        return error * step

    def to_json(self) -> dict[str, Any]:
        endings = self.cells.endings
        cells = {
            "atoms": self.cells.atoms.tolist(),
            "edges": self.cells.edges.tolist(),
            "pieces": self.cells.pieces,
            "endings": endings and endings.to_json(),
        }
        score = self.score and {"knots": self.score.knots.tolist(), "scores": self.score.scores.tolist()}
        modes = self.modes.tolist()
        return {
            "axis": self.axis.to_json(),
            "cells": cells,
            "modes": modes,
            "score": score,
            "shares": list(self.shares),
            "missing": self.missing,
            **({"written": list(self.written)} if self.written else {}),
        }

    @classmethod
    def from_json(cls, field: AnyField, data: dict[str, Any]) -> Scale:
        form = ScaleForm.model_validate(data)
        axis, cells = read_axis(field, form.axis), form.cells
        atoms, modes = form.axis.points(cells.atoms, "atoms"), form.axis.points(form.modes, "modes")
        origin = axis.low if axis.whole else 0.0
        made = Cells(atoms, cells.edge_table(form.axis), cells.pieces, axis.whole, origin)
        if cells.endings is not None:
            kept = form.axis.points(cells.endings.points, "endings")
            made = replace(made, endings=cells.endings.read(kept, made.bins(kept), len(made.edges)))
        if len(form.written) != len(made.ladder):
            raise ValueError("shares of other steps than those of the ladder")
        check_legal(field, pa.nulls(int(form.missing), field.arrow()))
        score = read_score(form.score, form.axis)
        return cls(field, axis, made, modes, score, tuple(form.shares), form.missing, tuple(form.written))


def make_scale(
    field: AnyField,
    values: np.ndarray,
    counts: np.ndarray,
    *,
    step: int,
    low: float,
    high: float,
    missing: float,
    bins: int,
    crowd: Crowd | None = None,
    ladder: tuple[int, ...] = (),
) -> Scale | Fixed:
    """values, counts: distinct values ascending, of all rows or a sample. Fixed: only one value is left.

    missing: share of the training rows without a value. crowd: whose the values are, see holders.py; None =
    all of them are kept. ladder: see writing.py.
    """
    axis = make_axis(field, step=step, low=low, high=high)
    if crowd is not None:
        axis = within(axis, crowd)
    points, back = np.unique(axis.points(values), return_inverse=True)
    weights = np.bincount(back, weights=counts, minlength=len(points)).astype(np.int64)
    held = np.ones(len(points), dtype=bool)
    if crowd is not None:  # what lies beyond an end does not make it a value that many have
        held = crowd.at(axis.places(crowd.points)).held(points)
        crowd = crowd.at(axis.points(crowd.points))
    if len(points) == 1 and not missing:
        left, _ = to_numpy(axis.arrow(points, None))
        return Fixed(field, left[0].item())
    own = (weights / weights.sum() >= SPIKE) & held
    if len(points) <= FEW and held.all():
        own[:] = True
    score = fit_score(points[~own], weights[~own], axis, crowd)
    if score is None and (crowd is None or not own.any()):
        own[:] = True
    k = crowd.k if crowd is not None else 0
    cells = make_cells(points, weights, axis, bins=bins, crowd=crowd, held=held)
    if len(cells.edges):
        rest = ~np.isin(points, cells.atoms)
        inside = points[rest], weights[rest], cells.bins(points[rest]), held[rest]
        numbers = axis.whole and field.kind in ("integer", "number")
        ladder = ladder if numbers and cells.size < WIDEST_HEAD else ()
        made = fit_endings(*inside, len(cells.edges), k=k, whole=numbers, ladder=ladder)
        cells = replace(cells, endings=made)
    seen = coarse(np.bincount(cells.encode(points), weights=weights, minlength=cells.size), k)
    shares = rounded([*(seen / seen.sum() * (1 - missing)), *([missing] if missing else [])])
    written: tuple[float, ...] = ()
    if cells.ladder:
        seen = coarse(np.bincount(steps(points, cells.ladder), weights, len(cells.ladder)), k)
        written = rounded(seen / seen.sum() * (1 - missing) + missing * (np.arange(len(seen)) == 0))
    return Scale(field, axis, cells, points[own], score, shares, missing > 0, written)
