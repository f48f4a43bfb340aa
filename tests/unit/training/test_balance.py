"""Batches balanced over the classes of the condition: how often each row comes, and the same at any split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_dataset import small_dataset

from genpipe.codecs import CODECS
from genpipe.codecs.base import fit
from genpipe.errors import UsageError
from genpipe.training.data import Resident, balanced, open_source

CLASSES = np.repeat([0, 1, 2], [900, 90, 10]).astype(np.int32)[:, None]
ARRAYS = {"x": np.arange(1000, dtype=np.float32)[:, None], "condition": CLASSES}


def test_a_class_comes_as_often_as_the_logarithm_of_its_frequency() -> None:
    chances = balanced(CLASSES)
    logs = np.log1p([900, 90, 10])
    np.testing.assert_allclose(np.bincount(CLASSES[:, 0], weights=chances), logs / logs.sum())
    assert all(len(np.unique(chances[CLASSES[:, 0] == k])) == 1 for k in range(3))


def test_of_several_fields_each_is_balanced_in_its_turn() -> None:
    second = (np.arange(1000) % 4 == 0).astype(np.int32)[:, None]
    both = balanced(np.concatenate([CLASSES, second], 1))
    np.testing.assert_allclose(both, (balanced(CLASSES) + balanced(second)) / 2)
    assert both.sum() == pytest.approx(1)


def test_a_class_without_rows_is_never_drawn() -> None:
    chances = balanced(np.array([[0], [2], [2]], dtype=np.int32))
    assert np.isfinite(chances).all() and chances.sum() == pytest.approx(1)


def test_drawn_batches_follow_the_chances() -> None:
    source = Resident(ARRAYS, seed=0, balance=True)
    batches = [source.batch(step, size=500, start=0, stop=500) for step in range(40)]
    share = np.bincount(np.concatenate([b["condition"][:, 0] for b in batches])) / 20_000
    logs = np.log1p([900, 90, 10])
    np.testing.assert_allclose(share, logs / logs.sum(), atol=0.015)  # 4 standard deviations
    for batch in batches:  # every row keeps its class
        np.testing.assert_array_equal(CLASSES[batch["x"][:, 0].astype(int)], batch["condition"])
    assert len(np.unique(np.concatenate([b["x"] for b in batches]))) > 990


@pytest.mark.parametrize("world", [2, 3, 8])
def test_slices_are_the_global_batch_at_any_number_of_workers(world: int) -> None:
    whole = Resident(ARRAYS, seed=5, balance=True)
    for step in (7, 0, 41):  # a resumed run starts anywhere
        expected = whole.batch(step, size=50, start=0, stop=50)["x"]
        cuts = [(r * 50 // world, (r + 1) * 50 // world) for r in range(world)]
        mine = [
            Resident(ARRAYS, seed=5, balance=True).batch(step, size=50, start=a, stop=b)["x"] for a, b in cuts
        ]
        np.testing.assert_array_equal(np.concatenate(mine), expected)


def test_another_step_or_seed_is_another_batch() -> None:
    def rows(seed: int, step: int) -> list[float]:
        return (
            Resident(ARRAYS, seed=seed, balance=True)
            .batch(step, size=50, start=0, stop=50)["x"][:, 0]
            .tolist()
        )

    assert rows(0, 3) == rows(0, 3)
    assert rows(0, 3) != rows(0, 4) and rows(0, 3) != rows(1, 3)


def test_data_beyond_memory_says_what_to_change(tmp_path: Path) -> None:
    dataset = small_dataset(str(tmp_path / "people"), rows=60, parts=1)
    codec = fit(CODECS["tabular"], dataset.schema, dataset.batches("train"))
    assert isinstance(open_source(dataset, codec, "vector", seed=0, batch_size=8, balance=True), Resident)
    with pytest.raises(UsageError, match=r"training.balance: 60 training rows.*balance to false"):
        open_source(dataset, codec, "vector", seed=0, batch_size=8, memory_mb=0.001, balance=True)


@pytest.mark.parametrize("arrays", [{"x": ARRAYS["x"]}, {"x": ARRAYS["x"], "condition": CLASSES[:, :0]}])
def test_without_classes_there_is_nothing_to_balance(arrays: dict[str, np.ndarray]) -> None:
    balanced_, plain = (
        Resident(arrays, seed=0, balance=b).batch(3, size=9, start=2, stop=7) for b in (True, False)
    )
    np.testing.assert_array_equal(balanced_["x"], plain["x"])
