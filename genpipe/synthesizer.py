"""A data frame in, a data frame out, as in scikit-learn: ingest, train and generate behind an estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from sklearn.base import BaseEstimator

from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.verbs import generate, ingest, train


class Synthesizer(BaseEstimator):  # type: ignore[misc]
    """A generator of rows like those of a data frame.

        made = Synthesizer().fit(frame).sample(1000)

    recipe, seed, minutes: as of `train`; target, entity: as of `ingest`. name: of the dataset and the model
    in the store, where a frame takes the place of the one before. fit leaves `dataset_` and `model_`, which
    the verbs take (`genpipe.evaluate(synthesizer.model_)`). An equal frame is not learnt twice.
    """

    def __init__(
        self,
        recipe: str | None = None,
        *,
        target: str | None = None,
        entity: str | Sequence[str] | None = None,
        seed: int = 0,
        minutes: float | None = None,
        name: str = "synthesizer",
    ) -> None:
        self.recipe, self.target, self.entity = recipe, target, entity
        self.seed, self.minutes, self.name = seed, minutes, name

    def fit(self, X: Any, y: Any = None) -> Self:
        """X: a data frame of pandas, Polars or PyArrow. y: not used, there for pipelines; name a `target`."""
        self.dataset_ = ingest(X, name=self.name, target=self.target, entity=self.entity)
        self.model_ = train(
            self.dataset_, recipe=self.recipe, seed=self.seed, minutes=self.minutes, name=self.name
        )
        self.library_ = type(X).__module__.partition(".")[0]
        return self

    def sample(
        self, rows: int = 1000, *, conditions: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> Any:
        """New rows, in a frame of the library that `fit` was given. conditions: as of `generate`."""
        if not hasattr(self, "model_"):
            raise UsageError("UNFITTED", found="sample before fit", expected="fit(frame) first")
        made = generate(
            self.model_, rows=rows, conditions=conditions, seed=self.seed if seed is None else seed
        )
        assert isinstance(made, Dataset)
        as_frame = {"polars": made.polars, "pyarrow": made.arrow}.get(self.library_, made.pandas)
        return as_frame()
