"""One classification tree: grown, cut back to what left-out rows confirm, its leaves smoothed.

Growing and cutting are those of CART (Breiman, Friedman, Olshen & Stone 1984, "Classification and Regression
Trees", chapters 3 and 8): every leaf costs so many nats, and the cost is chosen by cross-validation. A tree
that is not cut splits columns that nothing decides, and then its leaves tell who was there.

B rows · M nodes, the root first, children after their parents · C columns seen · V codes of the column
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from genpipe.codecs.sketch import mix

CLASSES = 32  # of a column, by which splits are judged; leaves hold every code
COLUMNS = 32  # a split looks at, drawn at random where there are more: the cost of wide tables is linear
SMALLEST = 1e-9
FOLDS = 5
# nats that a leaf is to save for each number that it adds; ln(B) / 2 is that of the Bayesian criterion
COSTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, np.inf)
ERRORS = 1.0  # standard errors by which a larger tree must be better


@dataclass(frozen=True)
class Growth:
    """How a tree grows. leaf_minimum: rows in a leaf, at least. leaves: at most. smoothing, code_minimum: see
    `smoothed`. criterion: of splits, as scikit-learn names it.
    """

    leaf_minimum: int
    leaves: int
    smoothing: float
    code_minimum: int
    criterion: str = "gini"


@dataclass(frozen=True)
class Tree:
    """feature, threshold, left, right: (M,); a row goes left if its value is at most the threshold; children
    of a leaf are -1. counts: (M, V) rows of every node. classes: (M, K) the same by `coarse` class.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    classes: np.ndarray
    learner: Any

    def shares(self, growth: Growth) -> np.ndarray:
        return smoothed(self.counts, self.left, self.right, growth.smoothing, growth.code_minimum)

    def ends(self, cost: float) -> np.ndarray:
        """(M,) which nodes are the leaves, or below one, if each leaf costs so many nats a number of it."""
        rows = self.classes.sum(1, keepdims=True)
        likely = np.where(self.classes > 0, self.classes / rows, 1.0)
        numbers = max(1, int((self.classes[0] > 0).sum()) - 1)
        alone = -(self.classes * np.log(likely)).sum(1)
        if not np.isfinite(cost):
            return np.ones(len(alone), dtype=bool)
        alone += cost * numbers
        best, ends = alone.copy(), self.left < 0
        for node in np.flatnonzero(~ends)[::-1]:
            split = best[self.left[node]] + best[self.right[node]]
            ends[node] = split >= alone[node]
            best[node] = min(split, alone[node])
        return ends

    def cut(self, ends: np.ndarray) -> Tree:
        """Without what is below nodes that are leaves."""
        kept = np.zeros(len(ends), dtype=bool)
        kept[0] = True
        for node in np.flatnonzero(self.left >= 0):
            kept[[self.left[node], self.right[node]]] = kept[node] and not ends[node]
        number = np.where(kept, kept.cumsum() - 1, -1)
        left, right = (
            np.where(ends | (child < 0), -1, number[child])[kept] for child in (self.left, self.right)
        )
        feature, threshold, counts, classes = (
            a[kept] for a in (self.feature, self.threshold, self.counts, self.classes)
        )
        return Tree(feature, threshold, left, right, counts, classes, self.learner)

    def tops(self, ends: np.ndarray) -> np.ndarray:
        """(M,) the leaf that each node is in, or itself above the leaves."""
        top = np.arange(len(ends))
        for node in np.flatnonzero(self.left >= 0):
            for child in (self.left[node], self.right[node]):
                top[child] = top[node] if ends[top[node]] else child
        return top


def grown(
    seen: np.ndarray, codes: np.ndarray, classes: np.ndarray, size: int, growth: Growth, *, seed: int
) -> Tree:
    """A tree for codes (B,) of `size`, told apart by their classes (B,), given seen (B, C); not cut."""
    from sklearn.tree import DecisionTreeClassifier

    learner = DecisionTreeClassifier(
        criterion=growth.criterion,
        min_samples_leaf=growth.leaf_minimum,
        max_leaf_nodes=growth.leaves,
        max_features=min(COLUMNS, seen.shape[1]),
        random_state=seed,
    )
    found = learner.fit(seen, classes).tree_
    leaf, left, right = learner.apply(seen), found.children_left, found.children_right
    counts, coarsely = (np.zeros((found.node_count, n)) for n in (size, int(classes.max()) + 1))
    for count, values in ((counts, codes), (coarsely, classes)):
        np.add.at(count, (leaf, values), 1)
        for node in np.flatnonzero(left >= 0)[::-1]:
            count[node] = count[left[node]] + count[right[node]]
    return Tree(found.feature, np.floor(found.threshold), left, right, counts, coarsely, learner)


def pruned(
    seen: np.ndarray, codes: np.ndarray, classes: np.ndarray, size: int, growth: Growth, fold: np.ndarray,
    *, seed: int,
) -> Tree:  # fmt: skip
    """As `grown`, cut at the largest cost by which left-out rows are as likely as by the best one, but for
    `ERRORS` standard errors of the difference. fold: (B,) from `folds`.
    """
    tree = grown(seen, codes, classes, size, growth, seed=seed)
    if len(tree.left) == 1:
        return tree
    fewer = replace(growth, leaf_minimum=max(1, growth.leaf_minimum * (FOLDS - 1) // FOLDS))
    nats = np.zeros((len(COSTS), len(codes)))
    for k in np.unique(fold):
        out = fold == k
        if out.all():
            return tree.cut(tree.ends(np.inf))  # one group of rows: nothing to judge by
        part = grown(seen[~out], codes[~out], classes[~out], size, fewer, seed=seed)
        shares, leaf = part.shares(fewer), part.learner.apply(seen[out])
        for i, cost in enumerate(COSTS):
            own = shares[part.tops(part.ends(cost))[leaf], codes[out]]
            nats[i, out] = np.log(np.maximum(own, SMALLEST))
    best = int(nats.mean(1).argmax())
    worse = nats[best] - nats
    near = worse.mean(1) <= ERRORS * worse.std(1) / np.sqrt(nats.shape[1])
    return tree.cut(tree.ends(COSTS[int(np.flatnonzero(near)[-1])]))


def folds(rows: np.ndarray, *, together: bool = False) -> np.ndarray:
    """(B,) from 0 to `FOLDS` - 1, by what the rows (B, C) hold, so that their order does not matter.

    together: equal rows are in one fold.
    """
    odd = np.random.default_rng(0).integers(2**63, size=rows.shape[1], dtype=np.uint64) * 2 + 1
    key = mix((rows.astype(np.uint64) * odd).sum(1, dtype=np.uint64))
    if not together:
        order = np.argsort(key, kind="stable")
        found = key[order]
        first = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]]))
        occurrence = np.arange(len(key)) - np.repeat(first, np.diff([*first, len(key)]))
        key[order] = mix(found + occurrence.astype(np.uint64))
    fold: np.ndarray = (key % FOLDS).astype(np.int64)
    return fold


def coarse(codes: np.ndarray, size: int, *, ordered: bool) -> np.ndarray:
    """At most `CLASSES` classes: stretches of equal share of an ordered column, else the most frequent codes.

    It bounds the cost of a split at any number of codes, and splits generalise better.
    """
    if size <= CLASSES:
        return codes
    if not ordered:
        last: np.ndarray = np.minimum(codes, CLASSES - 1)
        return last
    counts = np.bincount(codes, minlength=size)
    middle = counts.cumsum() - counts / 2
    stretches: np.ndarray = (middle * CLASSES / len(codes)).astype(np.int64)[codes]
    return stretches


def smoothed(
    counts: np.ndarray, left: np.ndarray, right: np.ndarray, strength: float, least: int = 1
) -> np.ndarray:
    """(M, V) shares of every node, from their counts.

    From the root down, n rows of a node weigh n against `strength` rows of its parent's shares. Codes of
    fewer than `least` rows of a node keep their common share there, and their parent's shares within it.
    left, right: (M,) children, after their parents; -1 at leaves.
    """
    shares: np.ndarray = counts / counts.sum(1, keepdims=True)
    for node in np.flatnonzero(left >= 0):
        for child in (left[node], right[node]):
            weight = strength / (counts[child].sum() + strength)
            shares[child] += weight * (shares[node] - shares[child])
            few = counts[child] < least
            if (given := shares[node][few].sum()) > 0:
                shares[child][few] = shares[node][few] * (shares[child][few].sum() / given)
    return shares
