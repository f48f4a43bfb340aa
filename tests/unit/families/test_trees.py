"""Sequential trees: what a leaf holds, that draws follow the data, and that no row comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.families.cart import CLASSES, coarse, smoothed
from genpipe.families.trees import CELLS, Forest, Trees, TreesConfig, seen_first
from genpipe.spec import TensorSpec

ROWS = 4000
SIZES = (3, 100, 4)
SPEC = TensorSpec(
    layout="tokens",
    shape=(3,),
    dtype="int32",
    vocabulary=SIZES,
    ordered=(False, True, False),
    conditions=(2,),
)


def table(rows: int = ROWS, *, seed: int = 0) -> Batch:
    """A column that follows the condition, a number that follows both, a column that follows the number."""
    rng = np.random.default_rng(seed)
    condition = rng.integers(0, 2, rows)
    first = np.where(rng.random(rows) < 0.8, condition, 2)
    number = np.clip(rng.normal(25 + 25 * first, 6), 0, 99).astype(np.int64)
    last = np.where(rng.random(rows) < 0.9, number // 25, rng.integers(0, 4, rows))
    x = torch.from_numpy(np.stack([first, number, last], 1))
    return Batch(x, torch.from_numpy(condition).unsqueeze(1))


def fitted(batch: Batch, spec: TensorSpec = SPEC, *, seed: int = 0, **config: Any) -> tuple[Trees, Forest]:
    family = Trees(TreesConfig(**config), spec)
    forest = family.build()["model"]
    assert isinstance(forest, Forest)
    family.finish({"model": forest}, batch, Draws(seed, "finish", total=batch.size))
    return family, forest


def draw(family: Trees, forest: Forest, condition: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return family.sample({"model": forest}, condition, Draws(seed, total=len(condition)))


def leaves_of(forest: Forest, batch: Batch, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    seen = torch.cat([seen_first(batch.condition), batch.x[:, :t]], 1)
    return forest.predict(t, seen)


@pytest.mark.parametrize(("minimum", "leaves"), [(2, 16), (20, 256), (300, 256)])
def test_every_leaf_has_its_minimum_of_rows_and_holds_their_shares(minimum: int, leaves: int) -> None:
    batch = table()
    _, forest = fitted(batch, leaf_minimum=minimum, leaves=leaves, smoothing=0, code_minimum=1, prune=False)
    for t, size in enumerate(SIZES):
        leaf, shares = leaves_of(forest, batch, t)
        rows = torch.bincount(leaf, minlength=leaves)
        assert 1 < (rows > 0).sum() <= leaves and rows[rows > 0].min() >= minimum
        for k in leaf.unique():
            own = torch.bincount(batch.x[leaf == k, t], minlength=size) / rows[k]
            torch.testing.assert_close(shares[leaf == k][0], own)


def test_shares_lean_on_those_of_the_ancestors() -> None:
    counts = np.array([[30, 30], [30, 20], [0, 10], [30, 0], [0, 20]], dtype=float)
    left, right = np.array([1, 3, -1, -1, -1]), np.array([2, 4, -1, -1, -1])
    shares = smoothed(counts, left, right, 10.0)[:, 0]
    root, inner = 30 / 60, (30 + 10 * 0.5) / 60
    expected = [root, inner, 5 / 20, (30 + 10 * inner) / 40, 10 * inner / 30]
    np.testing.assert_allclose(shares, expected)


def test_a_leaf_has_of_codes_of_few_rows_only_their_sum() -> None:
    counts = np.array([[8, 4, 4, 9], [6, 4, 1, 0], [2, 0, 3, 9]], dtype=float)
    told = smoothed(counts, np.array([1, -1, -1]), np.array([2, -1, -1]), 0.0, 5)
    np.testing.assert_allclose(told[1], [6 / 11, *(5 / 11 * np.array([4, 4, 9]) / 17)])
    np.testing.assert_allclose(told[2], [*(5 / 14 * np.array([8, 4, 4]) / 16), 9 / 14])


def test_draws_have_the_joint_distribution_of_the_rows() -> None:
    batch = table()
    x = draw(*fitted(batch), batch.condition)
    for sample, real in ((x, batch.x), (draw(*fitted(batch), batch.condition, seed=1), table(seed=1).x)):
        for a, b in ((0, 2), (1, 2), (0, 1)):
            size = SIZES[a] * SIZES[b]
            both = [
                torch.bincount(r[:, a] * SIZES[b] + r[:, b], minlength=size) / ROWS for r in (sample, real)
            ]
            assert float((both[0] - both[1]).abs().sum()) / 2 < (0.15 if 1 in (a, b) else 0.04)
    given = [float((r[:, 0] == 1)[batch.condition[:, 0] == 1].float().mean()) for r in (x, batch.x)]
    assert given[0] == pytest.approx(given[1], abs=0.01)


def test_the_seed_decides() -> None:
    batch = table(500)
    (family, forest), (_, twin) = fitted(batch), fitted(batch)
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in forest.state_dict().items())
    first = draw(family, forest, batch.condition)
    assert torch.equal(first, draw(family, twin, batch.condition))
    assert not torch.equal(first, draw(family, forest, batch.condition, seed=1))


def test_the_order_of_rows_does_not_matter() -> None:
    batch = table(500)
    turned = Batch(batch.x.flip(0), batch.condition.flip(0))
    one, other = fitted(batch)[1].state_dict(), fitted(turned)[1].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def copies(rows: torch.Tensor, **config: Any) -> int:
    spec = TensorSpec(layout="tokens", shape=(6,), dtype="int32", vocabulary=(30,) * 6, ordered=(True,) * 6)
    none = torch.zeros(ROWS, 0, dtype=torch.long)
    family, forest = fitted(Batch(rows, none[: len(rows)]), spec, **config)
    known = {tuple(row) for row in rows.tolist()}
    return sum(tuple(row) in known for row in draw(family, forest, none).tolist())


def test_no_row_of_a_small_table_of_unique_rows_comes_back() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, 30, (200, 6)))
    assert copies(rows) == 0
    assert copies(rows, leaf_minimum=2, smoothing=0, code_minimum=1, prune=False) > 0  # such trees remember


def test_before_the_fit_columns_are_drawn_from_their_shares() -> None:
    shares = ((0.5, 0.3, 0.2), (0.01,) * 100, (0.7, 0.1, 0.1, 0.1))
    family = Trees(TreesConfig(), SPEC.model_copy(update={"frequencies": shares}))
    x = family.sample(family.build(), torch.zeros(ROWS, 1, dtype=torch.long), Draws(0, total=ROWS))
    for t, wanted in enumerate(shares):
        have = torch.bincount(x[:, t], minlength=len(wanted)) / ROWS
        torch.testing.assert_close(have, torch.tensor(wanted), atol=0.01, rtol=0)


def test_a_low_temperature_prefers_what_is_frequent() -> None:
    batch = table()
    cold, plain = (draw(*fitted(batch, temperature=t), batch.condition)[:, 2] for t in (0.3, 1.0))
    agree = [(sample.bincount(minlength=4).double() / ROWS).square().sum() for sample in (cold, plain)]
    rare = [float((sample == batch.x[:, 2].bincount().argmin()).float().mean()) for sample in (cold, plain)]
    assert agree[0] > agree[1] and rare[0] < rare[1]


def test_the_loss_of_new_rows_falls_and_stays_finite_at_codes_never_seen() -> None:
    batch, new = table(), table(seed=9)
    family, forest = fitted(batch)
    before = family.holdout_loss(family.build(), new, Draws(0, total=ROWS))["nats"]
    after = family.holdout_loss({"model": forest}, new, Draws(0, total=ROWS))["nats"]
    assert float(before) == pytest.approx(np.log(SIZES).sum(), abs=1e-4) and after < before - 2
    few = fitted(Batch(batch.x[:30] % 2, batch.condition[:30]))[1]
    assert torch.isfinite(family.holdout_loss({"model": few}, new, Draws(0, total=ROWS))["nats"])


@pytest.mark.parametrize("rows", [1, 3])
def test_tables_of_a_few_rows_give_one_leaf_a_column(rows: int) -> None:
    batch = table(rows)
    family, forest = fitted(batch)
    assert all((leaves_of(forest, batch, t)[0] == 0).all() for t in range(3))
    assert draw(family, forest, batch.condition).shape == (rows, 3)


def test_columns_of_many_codes_get_few_leaves_and_coarse_splits() -> None:
    spec = TensorSpec(layout="tokens", shape=(1,), dtype="int32", vocabulary=(200_000,))
    assert Forest(spec, 256).shares.shape == (CELLS // 200_000, 200_000)
    codes = np.random.default_rng(0).geometric(0.01, 5000)
    ordered, frequent = coarse(codes, 5000, ordered=True), coarse(codes, 5000, ordered=False)
    counts = np.bincount(ordered)
    assert len(counts) == CLASSES and counts.max() < 1.5 * counts.min()
    assert (np.diff(ordered[codes.argsort()]) >= 0).all()
    assert set(frequent) == set(range(1, CLASSES))
    assert coarse(codes, 32, ordered=True) is codes


def test_more_rows_than_the_table_has_are_not_asked_for() -> None:
    family = Trees(TreesConfig(), SPEC)
    assert (family.finish_rows(100), family.finish_rows(10**9)) == (100, 1_000_000)


def test_columns_that_nothing_decides_are_not_split_and_those_that_something_does_are() -> None:
    rng = np.random.default_rng(0)
    for rows in (240, 3000):
        noise = torch.from_numpy(rng.integers(0, 4, (rows, 4)))
        spec = TensorSpec(
            layout="tokens", shape=(4,), dtype="int32", vocabulary=(4,) * 4, ordered=(True,) * 4
        )
        none = torch.zeros(rows, 0, dtype=torch.long)
        split = {}
        for prune in (True, False):
            _, forest = fitted(Batch(noise, none), spec, prune=prune)
            split[prune] = sum(len(leaves_of(forest, Batch(noise, none), t)[0].unique()) for t in range(4))
        assert split[True] <= 6 < 12 < split[False]
        tied = torch.stack(
            [noise[:, 0], noise[:, 1], torch.maximum(noise[:, 0], noise[:, 1]), noise[:, 3]], 1
        )
        family, forest = fitted(Batch(tied, none), spec, leaf_minimum=10, smoothing=0.1, prune=True)
        x = draw(family, forest, none)
        assert float((torch.maximum(x[:, 0], x[:, 1]) == x[:, 2]).double().mean()) > (
            0.9 if rows == 3000 else 0.7
        )


def test_rows_of_one_entity_do_not_confirm_each_other() -> None:
    rng = np.random.default_rng(0)
    people = np.column_stack([rng.integers(0, 90, (80, 2)), rng.integers(0, 4, 80)]).repeat(25, 0)
    batch = Batch(torch.from_numpy(people), torch.zeros(len(people), 0, dtype=torch.long))
    spec = TensorSpec(layout="tokens", shape=(3,), dtype="int32", vocabulary=(90, 90, 4), ordered=(True,) * 3)
    split = [
        len(leaves_of(fitted(batch, spec, given=2, shared=shared, prune=True)[1], batch, 2)[0].unique())
        for shared in (0, 2)
    ]
    assert split[0] > 20 and split[1] == 1


def test_a_tree_that_is_not_cut_is_the_plain_one_of_its_minimum() -> None:
    """So tables of many rows are learnt as they were before trees of few were cut."""
    batch = table()
    _, forest = fitted(batch, prune=False)
    seen = torch.cat([seen_first(batch.condition), batch.x[:, :2]], 1).numpy().astype(np.float32)
    plain = DecisionTreeClassifier(min_samples_leaf=20, max_leaf_nodes=256, random_state=0)
    found = plain.fit(seen, batch.x[:, 2].numpy()).tree_
    inner = found.children_left >= 0
    assert forest.feature[2][: inner.sum()].tolist() == found.feature[inner].tolist()
    assert forest.threshold[2][: inner.sum()].tolist() == np.floor(found.threshold[inner]).tolist()
