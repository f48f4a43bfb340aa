"""Does the generator know who was in its training data? Likelihood attack, counted by entity.

An attacker who holds the generator asks how likely it finds a person's rows, and calls the likelier ones
members (Yeom et al., "Privacy risk in machine learning", 2018, section 3). AUC is the chance that a training
entity is likelier than one never shown: 0.5 = the generator does not know, 1 = it names them all. It needs no
generated row, costs seconds, and sees memorised rows that no distance to the closest record sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 1.96  # standard errors of a two-sided interval of 95 %
FEWEST = 20  # entities of either side, below which nothing is said


@dataclass(frozen=True)
class Likelihoods:
    """Log-likelihood (N,) of training rows and of rows never shown, and (N,) which entity each is of; None =
    every row is one.
    """

    train: np.ndarray
    unseen: np.ndarray
    train_entities: np.ndarray | None = None
    unseen_entities: np.ndarray | None = None


@dataclass(frozen=True)
class Membership:
    """auc: chance that a training entity is likelier than an unseen one. error: its standard error."""

    auc: float
    error: float
    members: int
    others: int

    @property
    def low(self) -> float:
        return self.auc - CONFIDENCE * self.error


def membership(found: Likelihoods) -> Membership | None:
    """None where there are too few entities to say."""
    members = by_entity(found.train, found.train_entities)
    others = by_entity(found.unseen, found.unseen_entities)
    if min(len(members), len(others)) < FEWEST:
        return None
    auc, error = area(members, others)
    return Membership(auc, error, len(members), len(others))


def by_entity(nats: np.ndarray, entities: np.ndarray | None) -> np.ndarray:
    """(E,) mean over the rows of each entity: what is of one person is one observation."""
    if entities is None:
        return nats
    of = np.unique(entities, return_inverse=True)[1]
    finite = np.maximum(nats, np.finfo(np.float64).min / (len(nats) + 1))  # the mean of -inf has no rank
    return np.bincount(of, weights=finite) / np.bincount(of)


def area(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """(AUC, standard error) by DeLong et al., "Comparing the areas under two or more correlated receiver
    operating characteristic curves", 1988; ties count half, and minus infinity is a value like any other.
    """
    above = _beaten(positive, negative)
    below = 1 - _beaten(negative, positive)
    n, m = len(positive), len(negative)
    variance = above.var(ddof=1) / n + below.var(ddof=1) / m
    # all pairs one way: the variance is 0, but one more entity could have been another way
    return float(above.mean()), float(max(np.sqrt(variance), 1 / (2 * np.sqrt(n * m))))


def _beaten(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) the share of `others` below each of `some`."""
    order = np.sort(others)
    left, right = np.searchsorted(order, some, "left"), np.searchsorted(order, some, "right")
    return (left + right) / (2 * len(order))
