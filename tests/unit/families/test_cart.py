"""One tree: what cutting it costs and saves, and the folds it is judged by."""

from __future__ import annotations

from itertools import product

import numpy as np

from genpipe.families.cart import COSTS, FOLDS, Growth, Tree, folds, grown, pruned

GROWTH = Growth(leaf_minimum=10, leaves=12, smoothing=5.0, code_minimum=1, criterion="log_loss")


def data(rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    seen = rng.integers(0, 20, (rows, 2)).astype(np.float32)
    return seen, np.where(rng.random(rows) < 0.6, seen[:, 0] // 7, rng.integers(0, 3, rows)).astype(np.int64)


def deviance(tree: Tree, ends: np.ndarray, cost: float) -> float:
    """Nats of the rows in the leaves, and what the leaves cost."""
    cut = tree.cut(ends)
    leaves = cut.classes[cut.left < 0]
    shares = leaves / leaves.sum(1, keepdims=True)
    nats = -(leaves * np.log(np.where(leaves > 0, shares, 1.0))).sum()
    return float(nats + cost * 2 * len(leaves))  # three classes: two numbers a leaf


def test_the_cut_tree_is_the_best_of_all_subtrees() -> None:
    seen, codes = data()
    tree = grown(seen, codes, codes, 3, GROWTH, seed=0)
    inner = np.flatnonzero(tree.left >= 0)
    assert 4 < len(inner) <= 11
    for cost in (0.5, 1.5, 4.0):
        best = min(
            deviance(tree, ends, cost)
            for choice in product([False, True], repeat=len(inner))
            for ends in [_ends(tree, inner, choice)]
        )
        assert np.isclose(deviance(tree, tree.ends(cost), cost), best)
    assert tree.cut(tree.ends(np.inf)).left.tolist() == [-1]


def _ends(tree: Tree, inner: np.ndarray, choice: tuple[bool, ...]) -> np.ndarray:
    ends = tree.left < 0
    ends[inner] = choice
    return ends


def test_a_dearer_leaf_is_never_in_a_larger_tree() -> None:
    seen, codes = data()
    tree = grown(seen, codes, codes, 3, GROWTH, seed=0)
    sizes = [len(tree.cut(tree.ends(cost)).left) for cost in COSTS]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1


def test_rows_lie_in_the_leaf_that_they_lie_below() -> None:
    seen, codes = data()
    tree = grown(seen, codes, codes, 3, GROWTH, seed=0)
    ends = tree.ends(1.5)
    cut, top = tree.cut(ends), tree.tops(ends)[tree.learner.apply(seen)]
    for node in np.unique(top):
        assert ends[node]
        assert np.bincount(codes[top == node], minlength=3).tolist() == tree.counts[node].tolist()
    assert len(np.unique(top)) == (cut.left < 0).sum()


def test_folds_know_rows_by_what_they_hold() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 5, (4000, 3))
    order = rng.permutation(len(rows))
    alone, together = folds(rows), folds(rows, together=True)
    for fold in (alone, together):
        assert set(fold.tolist()) == set(range(FOLDS))
    assert np.bincount(alone).min() > 700  # repeated rows are spread
    assert np.array_equal(folds(rows, together=True)[order], folds(rows[order], together=True))
    key = rows @ [25, 5, 1]
    for one in np.unique(key):
        assert len(np.unique(together[key == one])) == 1
        there = [sorted(f.tolist()) for f in (alone[key == one], folds(rows[order])[key[order] == one])]
        assert there[0] == there[1]  # as many in each fold, whichever of them


def test_equal_rows_alone_say_nothing_of_others() -> None:
    seen, codes = data()
    same = np.zeros(len(codes), dtype=np.int64)
    assert len(pruned(seen, codes, codes, 3, GROWTH, same, seed=0).left) == 1
