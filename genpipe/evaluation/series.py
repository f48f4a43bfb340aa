"""Series: values, increments, autocorrelation, cross-correlation, and the windows as a whole.

values, increments: 1 - Kolmogorov-Smirnov, averaged over channels. autocorrelation, cross_correlation: 1 -
mean absolute difference of the average (cross-)correlations, over 2 where both signs are possible. rules: the
share of windows that keep what all real ones do (series_rules.py). frechet, coverage and precision look at
whole windows in their real principal components, so repeated or smeared windows score low.

    N windows · T steps · C channels
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.errors import QualityError
from genpipe.evaluation.base import Judge, Points, Usefulness, View, kolmogorov_smirnov
from genpipe.evaluation.feature_space import FeatureSpace
from genpipe.evaluation.learners import classify, regress
from genpipe.evaluation.series_rules import Rules

LAGS = 10
HISTORY = 4
MAX_TEST_STEPS = 40_000


class SeriesJudge(Judge):
    """View.x: (N, T, C) float64; missing steps hold the last value before them."""

    kind = "series"

    def view(self, table: pa.Table) -> View:
        self.main("series")
        fields = self.schema.of_kind("series")
        channels = [windows(table.column(f.name), f.length, f.name) for f in fields if f.kind == "series"]
        return View(np.stack(channels, -1), self.codes(table), self.labels(table))

    def fit(self) -> None:
        self.mean = self.real.x.mean((0, 1))
        self.scale = self.real.x.std((0, 1)) + 1e-12
        self.space = FeatureSpace(self.flat(self.real), self.real.labels)
        self.auto, self.cross = correlations(self.real.x)
        self.rules = Rules.of(self.real.x)

    def flat(self, view: View) -> np.ndarray:
        """(N, F): standardised windows with their increments, which carry the texture."""
        z = (view.x - self.mean) / self.scale
        return np.concatenate([z.reshape(len(z), -1), np.diff(z, axis=1).reshape(len(z), -1)], 1)

    def parts(self, view: View) -> dict[str, float]:
        def same(a: np.ndarray, b: np.ndarray) -> float:
            return 1.0 - float(
                np.mean(
                    [kolmogorov_smirnov(a[..., c].ravel(), b[..., c].ravel()) for c in range(a.shape[-1])]
                )
            )

        auto, cross = correlations(view.x)
        found = {
            "values": same(self.real.x, view.x),
            "increments": same(np.diff(self.real.x, axis=1), np.diff(view.x, axis=1)),
            "autocorrelation": 1.0 - float(np.minimum(1.0, np.abs(auto - self.auto)).mean())
            if auto.size
            else 1.0,
        }
        if cross.size:
            found["cross_correlation"] = 1.0 - float(np.minimum(1.0, np.abs(cross - self.cross)).mean())
        if (kept := self.rules.kept(view.x)) is not None:
            found["rules"] = kept
        return found | self.space.parts(self.flat(view), view.labels)

    def points(self, view: View) -> Points:
        z = (view.x - self.mean) / self.scale
        return Points(z.reshape(len(z), -1) / np.sqrt(z.shape[1] * z.shape[2]), view.codes)

    def scramble(self, view: View, rng: np.random.Generator) -> View:
        """Every channel's values shuffled over windows and steps: right values, no course."""
        x = np.stack(
            [
                rng.permutation(view.x[..., c].ravel()).reshape(view.x.shape[:2])
                for c in range(view.x.shape[-1])
            ],
            -1,
        )
        return View(x, view.codes, view.labels)

    def usefulness(self, fit_on: View, test: View) -> Usefulness:
        """With a label: predict it from the window. Without: predict the next step from the last few."""
        if fit_on.labels is not None and test.labels is not None:
            return classify(self.flat(fit_on), fit_on.labels, self.flat(test), test.labels, trees=False)
        if test.x.shape[1] <= HISTORY:
            return Usefulness("R²", None, 0.0, f"windows of {test.x.shape[1]} steps leave no step to predict")
        (x, y), (x_test, y_test) = (_next_step((v.x - self.mean) / self.scale) for v in (fit_on, test))
        found = regress(x, y, x_test, y_test, trees=False)
        return Usefulness("next-step R²", found.value, found.chance, found.reason)


def windows(column: pa.ChunkedArray, length: int, name: str) -> np.ndarray:
    """(N, T) from a list column; NaN values and wrong lengths are refused, nulls hold the last value."""
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    out = np.full((len(lists), length), np.nan)
    for i, row in enumerate(lists):
        values = row.values
        if values is None:
            continue
        if len(values) != length:
            raise QualityError(
                "LENGTH", where=f"{name}, row {i}", found=f"{len(values)} steps", expected=str(length)
            )
        step = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
        if not np.isfinite(step[np.asarray(values.is_valid())]).all():
            raise QualityError(
                "NANDATA", where=f"{name}, row {i}", found="NaN or infinite values", expected="finite steps"
            )
        out[i] = step
    return _hold(out)


def _hold(x: np.ndarray) -> np.ndarray:
    """Fill missing steps with the last value before them, then the first after, then 0."""
    missing = np.isnan(x)
    if not missing.any():
        return x
    last = np.maximum.accumulate(np.where(missing, 0, np.arange(x.shape[1])[None, :]), axis=1)
    x = np.take_along_axis(x, last, 1)
    first = np.where(np.isnan(x).all(1), 0.0, x[np.arange(len(x)), np.argmax(~np.isnan(x), axis=1)])
    return np.where(np.isnan(x), first[:, None], x)


def correlations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lags, C) autocorrelation within windows, averaged over them; then, for values and for increments, the
    C (C-1) / 2 correlations of channels at equal steps."""
    centred = x - x.mean(1, keepdims=True)
    power = (centred**2).mean(1).sum(0) + 1e-12
    lags = range(1, min(LAGS, x.shape[1] - 1) + 1)
    auto = (
        np.stack([(centred[:, k:] * centred[:, :-k]).mean(1).sum(0) / power for k in lags])
        if lags
        else np.zeros((0, 0))
    )
    upper = np.triu_indices(x.shape[2], 1)
    cross = []
    for v in (x, np.diff(x, axis=1)):
        z = v.reshape(-1, v.shape[-1])
        z = (z - z.mean(0)) / (z.std(0) + 1e-12)
        cross.append((z.T @ z / max(1, len(z)))[upper])
    return auto, np.concatenate(cross)


def _next_step(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Increments to predict and the HISTORY steps before each: predicting levels would be too easy."""
    steps = z.shape[1] - HISTORY
    past = np.concatenate([z[:, i : i + steps] for i in range(HISTORY)], -1).reshape(-1, HISTORY * z.shape[2])
    ahead = z[:, HISTORY:].reshape(-1, z.shape[2])
    stride = max(1, len(past) // MAX_TEST_STEPS)
    return past[::stride], ahead[::stride]
