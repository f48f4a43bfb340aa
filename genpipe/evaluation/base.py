"""A Judge: what is known of the real records of one kind, and how any other table compares with them.

    judge = Judge(real, schema)                    real-side features are computed once and kept
    judge.score(synthetic)                         one number in [0, 1], higher is better

A kind's judge answers five questions about a `View` (a table, decoded once): which parts fidelity has,
where its rows lie as points (for distances and spread), what a worthless but well-formed copy looks like
(the floor), how well a model fitted on it predicts real rows, and in which unit that is told.

    N rows · D numeric columns · K choice columns
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError, QualityError
from genpipe.schema import Schema
from genpipe.seeds import drawn, numpy_rng

MAX_ROWS = 5_000  # fidelity looks at no more rows of either side; privacy looks at all training rows
NULL = -1


@dataclass(frozen=True)
class View:
    """x: what the kind makes of its main fields; codes: (N, K) choices as stable hashes; labels: the
    target.
    """

    x: Any
    codes: np.ndarray
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Points:
    """Where rows lie. Squared distance = squared Euclidean over `numeric` (N, D) + mismatches over `codes`
    (N, K).
    """

    numeric: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Points:
        return Points(self.numeric[rows], self.codes[rows])

    @property
    def spread(self) -> float:
        """Half the mean squared distance of two rows: total variance, Gini impurity for choices. 0 = all
        alike.
        """
        total = float(self.numeric.var(axis=0, dtype=np.float64).sum()) if self.numeric.shape[1] else 0.0
        for column in self.codes.T:
            share = np.unique(column, return_counts=True)[1] / max(1, len(column))
            total += (1.0 - float(share @ share)) / 2
        return total


def one_thread() -> AbstractContextManager[Any]:
    """For everything that is scored.

    Training calls it beside a busy trainer, where threads only wait for each other; and one order of
    summation gives one result.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


class Judge(ABC):
    """Knows the real rows of one kind. `seed` fixes every draw, so equal tables get equal scores."""

    kind: ClassVar[str]

    def __init__(self, real: pa.Table, schema: Schema, *, seed: int = 0) -> None:
        if real.num_rows < 2:
            raise DataError(
                "FEWROWS", found=f"{real.num_rows} real rows", expected="at least 2 to compare with"
            )
        self.schema, self.seed = schema, seed
        with one_thread():
            self.real = self.view(self.thin(real))
            self.fit()

    def fit(self) -> None:  # noqa: B027 - a kind without a feature space has nothing to fit
        """Compute what the parts need of the real side, from `self.real`."""

    @abstractmethod
    def view(self, table: pa.Table) -> View: ...

    @abstractmethod
    def parts(self, view: View) -> dict[str, float]:
        """The components of fidelity, each in [0, 1], 1 = like the real rows."""

    @abstractmethod
    def points(self, view: View) -> Points: ...

    @abstractmethod
    def scramble(self, view: View, rng: np.random.Generator) -> View:
        """Keep the simplest marginals, destroy everything between them: the floor."""

    @abstractmethod
    def usefulness(self, fit_on: View, test: View) -> Usefulness:
        """Fit a small model on one view, test it on another (train on synthetic, test on real)."""

    @cached_property
    def spread(self) -> float:
        return self.points(self.real).spread

    def thin(self, table: pa.Table) -> pa.Table:
        return subset(table, MAX_ROWS, self.seed)

    def score(self, synthetic: pa.Table) -> float:
        """Fidelity in [0, 1]: the mean of the parts, scaled down where the rows are less varied than real
        ones.
        """
        with one_thread():
            return self.score_view(self.view(self.thin(synthetic)))

    def score_view(self, view: View, parts: dict[str, float] | None = None) -> float:
        parts = self.parts(view) if parts is None else parts
        diversity = min(1.0, self.points(view).spread / self.spread) if self.spread > 0 else 1.0
        value = float(np.mean(list(parts.values()))) * diversity
        if not np.isfinite(value):
            raise QualityError(
                "NANMETRIC", found=f"fidelity is {value} ({parts})", expected="a finite number"
            )
        return min(1.0, max(0.0, value))

    def codes(self, table: pa.Table) -> np.ndarray:
        """(N, K) of the category and boolean fields."""
        fields = self.schema.of_kind("category", "boolean")
        return (
            np.stack([hashed(table.column(f.name)) for f in fields], 1)
            if fields
            else empty_codes(table.num_rows)
        )

    def labels(self, table: pa.Table) -> np.ndarray | None:
        """The condition column as strings; None where the target is not a choice of few."""
        if not self.schema.conditions:
            return None
        return np.asarray(
            table.column(self.schema.conditions[0]).cast(pa.string()).fill_null("").to_pylist(), dtype=object
        )

    def main(self, *kinds: str) -> list[str]:
        names = [f.name for f in self.schema.of_kind(*kinds)]
        if not names:
            raise DataError(
                "SCHEMA", found=f"a schema of kind {self.schema.kind} without a {' or '.join(kinds)} field"
            )
        return names


@dataclass(frozen=True)
class Usefulness:
    """value None: not applicable, for `reason`. chance: what guessing reaches."""

    measure: str
    value: float | None
    chance: float = 0.0
    reason: str = ""


def subset(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """At most `rows` rows, drawn without replacement and kept in order."""
    if table.num_rows <= rows:
        return table
    return table.take(pa.array(kept_rows(table.num_rows, rows, seed)))


def kept_rows(count: int, rows: int, seed: int) -> np.ndarray:
    """The places of the rows that `subset` keeps of so many."""
    return drawn(numpy_rng(seed, "evaluation", "subset"), count, rows)


def numbers(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """(N,) float64 of a number, integer or time column, NaN where missing; a NaN *value* is refused."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_date(kind):
        column = column.cast(pa.int32())
    values = column.cast(pa.float64(), safe=False)
    if values.null_count < len(values) and not pc.all(pc.is_finite(values)).as_py():
        raise QualityError(
            "NANDATA", where=name, found="NaN or infinite values", expected="finite numbers or missing values"
        )
    return np.asarray(values.to_numpy(), dtype=np.float64)


def hashed(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) int64: a code per distinct value that is the same in every table and process; NULL where
    missing.
    """
    encoded = pa.chunked_array(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    encoded = encoded.cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    table = np.asarray(
        [zlib.crc32(v.encode()) for v in encoded.dictionary.to_pylist()] + [NULL], dtype=np.int64
    )
    index = encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
    return table[index]


def empty_codes(rows: int) -> np.ndarray:
    return np.zeros((rows, 0), dtype=np.int64)


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Of the empirical distributions of two integer columns."""
    values, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    p = np.bincount(index[: len(a)], minlength=len(values)) / max(1, len(a))
    q = np.bincount(index[len(a) :], minlength=len(values)) / max(1, len(b))
    return 0.5 * float(np.abs(p - q).sum())


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance of two empirical distribution functions; 1 if exactly one side is empty."""
    if not len(a) or not len(b):
        return float(len(a) != len(b))
    a, b = np.sort(a), np.sort(b)
    grid = np.concatenate([a, b])
    return float(
        np.abs(np.searchsorted(a, grid, "right") / len(a) - np.searchsorted(b, grid, "right") / len(b)).max()
    )
