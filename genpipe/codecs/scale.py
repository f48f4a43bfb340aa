"""How a column of ordered values (number, integer, date, timestamp) becomes cells, scores, and values again.

Axis     Arrow column <-> int64 lattice points (whole numbers, times, decimals) or float64: exact, and
         any point decodes to a legal value within the field's and the training split's limits.
Cells    for tokens: the axis cut into exact atoms (spikes, or every value where few are distinct) and
         quantile bins between them, numbered in the order of the axis. Inside a bin decode draws
         from a piecewise-uniform density; the two outer bins have geometrically finer pieces towards
         the extremes, because a uniform tail breaks correlations. endings.py then writes the values
         as they are written in the data.
Score    for vectors: a piecewise-linear normal score in [-1, 1], the inverse of itself both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.endings import Endings, steps
from genpipe.errors import DataError
from genpipe.fields import AnyField


@dataclass(frozen=True)
class Axis:
    """Points are multiples of `step` storage units, or of 10**-decimals; without either, real numbers."""

    field: AnyField
    step: int
    decimals: int | None
    low: float
    high: float

    @property
    def whole(self) -> bool:
        return self.step > 0 or self.decimals is not None

    def places(self, values: np.ndarray) -> np.ndarray:
        """Storage values -> points."""
        if self.decimals is not None:
            found: np.ndarray = np.rint(np.clip(values, -9e15, 9e15) * 10.0**self.decimals).astype(np.int64)
            return found
        return values // self.step if self.step else values

    def points(self, values: np.ndarray) -> np.ndarray:
        """Storage values -> points, clipped to [low, high]."""
        found: np.ndarray = np.clip(self.places(values), self.low, self.high)
        return found

    def arrow(self, points: np.ndarray, missing: np.ndarray | None) -> pa.Array:
        points = np.clip(points, self.low, self.high)
        kind = self.field.arrow()
        if self.decimals is not None:
            return pa.array(points / 10.0**self.decimals, kind, mask=missing)
        if not self.step:
            return pa.array(points, kind, mask=missing)
        whole = pa.array(points * self.step, pa.int64(), mask=missing)
        return whole.cast(pa.int32()).cast(kind) if pa.types.is_date32(kind) else whole.cast(kind)

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "decimals": self.decimals, "low": self.low, "high": self.high}


def make_axis(field: AnyField, *, step: int, low: float, high: float) -> Axis:
    """step: greatest common divisor of the whole numbers seen; low, high: extremes seen, in storage units."""
    decimals = getattr(field, "decimals", None)
    minimum, maximum = getattr(field, "minimum", None), getattr(field, "maximum", None)
    low = low if minimum is None else max(low, minimum)
    high = high if maximum is None else min(high, maximum)
    if low > high:
        raise DataError(
            "RANGE", where=field.name, found="every value outside minimum and maximum of the schema"
        )
    if field.kind in ("integer", "timestamp", "date"):
        step = max(step, 1)
        while (int(high) - int(low)) // step >= 2**62:  # differences of points must fit int64
            step *= 2
        return Axis(field, step, None, -(-int(low) // step), int(high) // step)
    if decimals is None or max(abs(low), abs(high)) * 10.0**decimals >= 2**53:
        return Axis(field, 0, None, float(low), float(high))
    unit = 10.0**decimals
    # rint: data lies on the lattice up to rounding; floor and ceil: a limit between two points binds inwards
    bottom, top = round(low * unit), round(high * unit)
    bottom += bottom / unit < (minimum if minimum is not None else -np.inf)
    top -= top / unit > (maximum if maximum is not None else np.inf)
    return Axis(field, 0, decimals, bottom, max(bottom, top))


@dataclass(frozen=True)
class Cells:
    """atoms: (A,) points kept exactly. edges: (N, pieces + 1) of the bins, see `coordinate`."""

    atoms: np.ndarray
    edges: np.ndarray
    pieces: int
    whole: bool
    origin: float
    endings: Endings | None = None  # how the values of a bin are written; None: evenly, as before version 4

    def coordinate(self, points: np.ndarray) -> np.ndarray:
        """Points that are no atoms, as floats. On a lattice atoms are taken out and the rest closes up,
        so that a draw from a bin can never land on an atom and make it too frequent."""
        if not self.whole:
            return points
        return (points - self.origin - np.searchsorted(self.atoms, points)).astype(np.float64)

    def point(self, coordinates: np.ndarray) -> np.ndarray:
        if not self.whole:
            return coordinates
        nth = np.maximum(np.rint(coordinates), 0).astype(np.int64)
        free = self.atoms - self.origin - np.arange(len(self.atoms))
        found: np.ndarray = nth + self.origin + np.searchsorted(free, nth, side="right")
        return found

    @cached_property
    def order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(code of each atom, code of each bin, is the code an atom, which atom or bin is it)."""
        centers = self.point(self.edges.mean(1)) if len(self.edges) else np.zeros(0)
        rank = np.argsort(np.concatenate([self.atoms, centers]), kind="stable")
        code = np.argsort(rank, kind="stable")
        count = len(self.atoms)
        return code[:count], code[count:], rank < count, np.where(rank < count, rank, rank - count)

    @cached_property
    def ends(self) -> np.ndarray:
        """(N, 2) the first and the last point of each bin."""
        half = 0.5 * self.whole
        return np.stack([self.point(self.edges[:, 0] + half), self.point(self.edges[:, -1] - half)], 1)

    def bins(self, points: np.ndarray) -> np.ndarray:
        """The bin of each point, none of them an atom."""
        found: np.ndarray = self.order[3][self.encode(points)]
        return found

    @property
    def size(self) -> int:
        return len(self.atoms) + len(self.edges)

    def encode(self, points: np.ndarray) -> np.ndarray:
        of_atom, of_bin, _, _ = self.order
        if not len(self.edges):
            found: np.ndarray = of_atom[nearest(self.atoms, points)]
            return found
        which = np.searchsorted(self.edges[1:, 0], self.coordinate(points), side="right")
        codes = of_bin[which]
        if len(self.atoms):
            near = np.minimum(np.searchsorted(self.atoms, points), len(self.atoms) - 1)
            codes = np.where(self.atoms[near] == points, of_atom[near], codes)
        return codes

    @property
    def ladder(self) -> tuple[int, ...]:
        return self.endings.ladder if self.endings is not None else ()

    def decode(
        self, codes: np.ndarray, rng: np.random.Generator, steps: np.ndarray | None = None
    ) -> np.ndarray:
        """Any codes -> points: atoms exactly, bins by a draw inside them. steps: (B,) on the ladder."""
        _, _, is_atom, index = self.order
        codes = np.clip(codes, 0, self.size - 1)
        uniform = rng.random(len(codes))
        if not len(self.edges):
            found: np.ndarray = self.atoms[index[codes]]
            return found
        which = np.where(is_atom[codes], 0, index[codes])
        piece, inside = _pieces(which, uniform, len(self.edges), self.pieces)
        left, right = self.edges[which, piece], self.edges[which, piece + 1]
        points = self.point(left + inside * (right - left))
        if self.endings is not None:
            row = which if steps is None else which * len(self.ladder) + steps
            written = self.endings.draw(row, points, self.ends[which], rng)
            points = np.where(np.isin(written, self.atoms), points, written)
        if len(self.atoms):
            points = np.where(is_atom[codes], self.atoms[np.where(is_atom[codes], index[codes], 0)], points)
        return points

    def widest(self) -> float:
        return float((self.edges[:, -1] - self.edges[:, 0]).max()) if len(self.edges) else 0.0


def log_density(cells: Cells, points: np.ndarray) -> np.ndarray:
    """Log of the density, per point of a lattice or per unit, with which `cells.decode` draws points given
    their codes.
    """
    out, (_, _, is_atom, index) = np.zeros(len(points)), cells.order
    codes = cells.encode(points)
    inside = np.flatnonzero(~is_atom[codes])
    which, where = index[codes[inside]], cells.coordinate(points[inside])
    edges, levels = cells.edges[which], bin_levels(len(cells.edges), cells.pieces)[which]
    piece = (edges[:, 1:-1] <= where[:, None]).sum(1)
    mass, width = (np.diff(each, axis=1)[np.arange(len(inside)), piece] for each in (levels, edges))
    out[inside] = np.log(mass / np.maximum(width, 1.0 if cells.whole else np.finfo(float).tiny))
    if cells.endings is not None:
        if cells.ladder:
            which = which * len(cells.ladder) + steps(points[inside], cells.ladder)
        out[inside] = cells.endings.log_density(which, points[inside], out[inside])
    return out


def nearest(atoms: np.ndarray, points: np.ndarray) -> np.ndarray:
    right = np.minimum(np.searchsorted(atoms, points), len(atoms) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(points - atoms[left] < atoms[right] - points, left, right)


def bin_levels(bins: int, pieces: int) -> np.ndarray:
    """(N, pieces + 1) levels of the piece edges within each bin: even, but geometric in the outer bins."""
    inner = np.tile(np.linspace(0.0, 1.0, pieces + 1), (bins, 1))
    if pieces > 1:
        halves = np.concatenate([1.0 - 0.5 ** np.arange(pieces), [1.0]])
        inner[-1] = halves
        if bins > 1:
            inner[0] = 1.0 - halves[::-1]
    return inner


def _pieces(which: np.ndarray, uniform: np.ndarray, bins: int, pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """The piece of its bin a uniform number falls in, and how far into it."""
    levels = bin_levels(bins, pieces)
    piece = np.minimum((uniform * pieces).astype(np.int64), pieces - 1)
    for outer in {0, bins - 1}:
        rows = np.flatnonzero(which == outer)
        piece[rows] = np.searchsorted(levels[outer][1:-1], uniform[rows], side="right")
    left = levels[which, piece]
    return piece, (uniform - left) / (levels[which, piece + 1] - left)


@dataclass(frozen=True)
class Score:
    """Piecewise-linear, strictly increasing: points (as floats from `origin`) <-> [-1, 1]."""

    knots: np.ndarray
    scores: np.ndarray

    def encode(self, points: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.interp(points, self.knots, self.scores)
        return found

    def decode(self, scores: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.interp(np.nan_to_num(scores), self.scores, self.knots)
        return found

    def error(self) -> float:
        """Largest error of a float32 round trip."""
        slope = (np.diff(self.knots) / np.diff(self.scores)).max()
        return float(slope * 2.0**-24 + np.abs(self.knots).max() * 2.0**-50)
