"""Tables: the mean of column shapes, pairs, associations, and whether boosted trees can tell the rows apart.

shapes: 1 - Kolmogorov-Smirnov (numbers, dates) or 1 - total variation (choices), times agreement on what is
missing.
pairs: 1 - total variation of two-way marginals, numbers cut at real quantiles.
associations: 1 - sum |V - V'| / sum max(V, V') of bias-corrected Cramér's V (Bergsma, 2013): columns
shuffled on their own keep shapes and most of pairs, and lose this.
indistinguishable: 2 (1 - AUC) of gradient boosting, the strict one: shapes and pairs saturate (lab notes).
"""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa

from genpipe.constraints import NUMBERS
from genpipe.evaluation.base import (
    NULL,
    Judge,
    Points,
    Usefulness,
    View,
    empty_codes,
    kolmogorov_smirnov,
    numbers,
    total_variation,
)
from genpipe.evaluation.learners import classify, regress, tell_apart
from genpipe.seeds import derive, numpy_rng

MAX_PAIRS = 200
MAX_LEVELS = 8
FAINT = 0.05  # association a pair may have by chance: keeps a table of independent columns from scoring noise


class TabularJudge(Judge):
    """View.x: (N, D) numbers with NaN for missing, in the order of `self.numeric`."""

    kind = "tabular"

    @property
    def numeric(self) -> list[str]:
        return [f.name for f in self.schema.of_kind(*NUMBERS)]

    @property
    def choices(self) -> list[str]:
        return [f.name for f in self.schema.of_kind("category", "boolean")]

    def view(self, table: pa.Table) -> View:
        columns = [numbers(table.column(n), n) for n in self.numeric]
        x = np.stack(columns, 1) if columns else np.zeros((table.num_rows, 0))
        return View(x, self.codes(table))

    def fit(self) -> None:
        rows = len(self.real)
        bins = int(np.clip(np.sqrt(rows) / 4, 3, 10))
        self.sorted = [np.sort(c[~np.isnan(c)]) for c in self.real.x.T]
        self.edges = [
            np.unique(np.quantile(c, np.arange(1, bins) / bins)) if len(c) else c for c in self.sorted
        ]
        self.levels = [_frequent(c) for c in self.real.codes.T]
        width = self.real.x.shape[1] + self.real.codes.shape[1]
        pairs = list(itertools.combinations(range(width), 2))
        if len(pairs) > MAX_PAIRS:
            rng = numpy_rng(self.seed, "evaluation", "pairs")
            pairs = [pairs[i] for i in np.sort(rng.choice(len(pairs), MAX_PAIRS, replace=False))]
        self.pairs = pairs
        self.digits = self.digitise(self.real)
        self.associations = associations(self.digits, pairs)

    def digitise(self, view: View) -> np.ndarray:
        """(N, D + K) small integers: the real quantile bin of a number, the rank of a frequent choice."""
        columns = []
        for edges, column in zip(self.edges, view.x.T, strict=True):
            columns.append(
                np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="left"))
            )
        for levels, column in zip(self.levels, view.codes.T, strict=True):
            columns.append(_place(levels[:MAX_LEVELS], column))
        return np.stack(columns, 1) if columns else empty_codes(len(view))

    def parts(self, view: View) -> dict[str, float]:
        shapes = self.shapes(view)
        found = {"shapes": float(np.mean(list(shapes.values())))} if shapes else {}
        if self.pairs:
            found["pairs"], found["associations"] = self.between(view, self.pairs, self.associations)
        auc = tell_apart(self.matrix(self.real), self.matrix(view), derive(self.seed, "evaluation", "folds"))
        found["indistinguishable"] = 2.0 * (1.0 - max(0.5, auc))
        return found

    def between(self, view: View, pairs: list[tuple[int, int]], known: np.ndarray) -> tuple[float, float]:
        """How alike two-way marginals and associations are; known: the associations of the real pairs."""
        other = self.digits_of(view)
        base = max(int(self.digits.max()), int(other.max())) + 1
        apart = [
            total_variation(self.digits[:, i] * base + self.digits[:, j], other[:, i] * base + other[:, j])
            for i, j in pairs
        ]
        strength = associations(other, pairs)
        apart_by = np.abs(strength - known).sum() / (np.maximum(strength, known) + FAINT).sum()
        return 1.0 - float(np.mean(apart)), 1.0 - float(apart_by)

    def digits_of(self, view: View) -> np.ndarray:
        return self.digits if view is self.real else self.digitise(view)

    def shapes(self, view: View) -> dict[str, float]:
        """Similarity of every column by name."""
        found = {}
        for name, real, other in zip(self.numeric, self.real.x.T, view.x.T, strict=True):
            missing_real, missing_other = np.isnan(real), np.isnan(other)
            apart = kolmogorov_smirnov(real[~missing_real], other[~missing_other])
            found[name] = (1.0 - apart) * (1.0 - abs(float(missing_real.mean() - missing_other.mean())))
        for name, real, other in zip(self.choices, self.real.codes.T, view.codes.T, strict=True):
            found[name] = 1.0 - total_variation(real, other)
        return found

    def matrix(self, view: View) -> np.ndarray:
        """(N, D + K) for tree models: numbers as they are (NaN = missing), choices by real frequency rank."""
        ranks = [_place(levels, column) for levels, column in zip(self.levels, view.codes.T, strict=True)]
        return np.concatenate([view.x, *(r[:, None].astype(float) for r in ranks)], 1)

    def points(self, view: View) -> Points:
        """Numbers as real ranks in [0, 1] (a missing one is far from all others), choices as they are."""
        ranks = np.zeros(view.x.shape)
        for k, (ordered, column) in enumerate(zip(self.sorted, view.x.T, strict=True)):
            if len(ordered):
                ranks[:, k] = np.where(np.isnan(column), 0.0, _rank(ordered, column))
        missing = np.isnan(view.x).astype(np.int64)
        return Points(ranks, np.concatenate([view.codes, missing], 1))

    def scramble(self, view: View, rng: np.random.Generator) -> View:
        """Every column shuffled on its own: perfect marginals, no row is true."""
        x = np.stack([rng.permutation(c) for c in view.x.T], 1) if view.x.shape[1] else view.x
        codes = np.stack([rng.permutation(c) for c in view.codes.T], 1) if view.codes.shape[1] else view.codes
        return View(x, codes)

    def usefulness(self, fit_on: View, test: View) -> Usefulness:
        target = self.schema.target
        if target in self.choices:
            k = self.choices.index(target)
            a, b = fit_on.codes[:, k], test.codes[:, k]
            x, x_test = (np.delete(self.matrix(v), view_width(v) + k, 1) for v in (fit_on, test))
            if not x.shape[1]:
                return Usefulness("AUC", None, 0.5, "the target is the only column")
            keep, keep_test = a != NULL, b != NULL
            return classify(x[keep], a[keep], x_test[keep_test], b[keep_test], trees=True)
        if target in self.numeric:
            k = self.numeric.index(target)
            a, b = fit_on.x[:, k], test.x[:, k]
            x, x_test = (np.delete(self.matrix(v), k, 1) for v in (fit_on, test))
            keep, keep_test = ~np.isnan(a), ~np.isnan(b)
            if x.shape[1]:
                return regress(x[keep], a[keep], x_test[keep_test], b[keep_test], trees=True)
        return Usefulness("AUC", None, 0.5, "the schema names no target column to predict")


def _rank(ordered: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(N,) share of real values below, linear between them, so that different numbers stay different; and
    linear beyond the ends, at most one range further."""
    values, first, counts = np.unique(ordered, return_index=True, return_counts=True)
    low, high = float(values[0]), float(values[-1])
    reach = (high - low) or 1.0
    inside = np.interp(column, values, (first + counts / 2) / len(ordered))
    return inside + np.clip((column - high) / reach, 0, 1) - np.clip((low - column) / reach, 0, 1)


def view_width(view: View) -> int:
    return int(view.x.shape[1])


def associations(digits: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Bias-corrected Cramér's V of each pair of cut columns: 0 = independent, 1 = one tells the other."""
    rows = len(digits)
    places = [np.unique(column, return_inverse=True)[1] for column in digits.T]
    out = np.zeros(len(pairs))
    for at, (i, j) in enumerate(pairs):
        a, b = int(places[i].max()) + 1, int(places[j].max()) + 1
        counts = np.bincount(places[i] * b + places[j], minlength=a * b).reshape(a, b)
        expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / rows
        chance = (a - 1) * (b - 1) / max(1, rows - 1)
        phi = max(0.0, float(((counts - expected) ** 2 / expected).sum()) / rows - chance)
        most = min(a - (a - 1) ** 2 / max(1, rows - 1), b - (b - 1) ** 2 / max(1, rows - 1)) - 1
        out[at] = np.sqrt(min(1.0, phi / most)) if most > 0 else 0.0
    return out


def association_matrix(digits: np.ndarray) -> np.ndarray:
    """(C, C), ones on the diagonal."""
    upper = np.triu_indices(digits.shape[1], 1)
    out = np.eye(digits.shape[1])
    out[upper] = associations(digits, list(zip(*(u.tolist() for u in upper), strict=True)))
    return np.maximum(out, out.T)


def _frequent(column: np.ndarray) -> np.ndarray:
    """Distinct codes, most frequent first."""
    values, counts = np.unique(column, return_counts=True)
    return values[np.lexsort((values, -counts))]


def _place(levels: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(N,) position of every code in `levels`, len(levels) for any other."""
    if not len(levels):
        return np.zeros(len(column), dtype=np.int64)
    order = np.argsort(levels)
    spot = np.clip(np.searchsorted(levels[order], column), 0, len(levels) - 1)
    return np.where(levels[order][spot] == column, order[spot], len(levels))
