"""Frames in, frames out, as in scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone

import genpipe
from genpipe.errors import UsageError


def frame(rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(rows)
    age = rng.integers(18, 80, rows)
    rich = rng.random(rows) < age / 100
    return pd.DataFrame(
        {"age": age, "job": rng.choice(["cook", "nurse"], rows), "income": np.where(rich, "high", "low")}
    )


def test_a_frame_comes_back_as_a_frame_of_its_library(home: Path) -> None:
    estimator = genpipe.Synthesizer("tabular_trees", target="income")
    people = frame()
    made = estimator.fit(people).sample(50)
    assert isinstance(made, pd.DataFrame) and list(made) == list(people) and len(made) == 50
    assert set(estimator.sample(20, conditions={"income": "high"})["income"]) == {"high"}
    assert not estimator.sample(50, seed=7).equals(made) and estimator.sample(50).equals(made)
    table = clone(estimator).fit(pa.Table.from_pandas(people, preserve_index=False)).sample(5)
    assert isinstance(table, pa.Table) and table.num_rows == 5


def test_another_frame_takes_the_place_and_an_equal_one_is_not_learnt_again(home: Path) -> None:
    estimator = genpipe.Synthesizer("tabular_trees")
    first = estimator.fit(frame()).model_
    assert estimator.fit(frame()).model_.uri == first.uri
    assert estimator.fit(frame(400)).model_.uri != first.uri
    assert genpipe.evaluate(estimator.model_).verdict


def test_what_is_not_fitted_says_so(home: Path) -> None:
    with pytest.raises(UsageError, match="fit"):
        genpipe.Synthesizer().sample(3)
