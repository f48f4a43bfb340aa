"""Does the generator know who was in its training data? Two attacks, counted by entity.

likelihood: an attacker who holds the generator asks how likely it finds a person's rows, and calls the
likelier ones members (Yeom et al., "Privacy risk in machine learning", 2018, section 3). It needs no
generated row, costs seconds, and sees memorised rows that no distance to the closest record sees.

distance, where a family has no likelihood: those are members whose rows have a generated row nearer by than a
real one that is neither theirs nor the generator's ("calibrated" attack: Chen et al., "GAN-Leaks", 2020,
arXiv 1909.03935, section 5.4; the distance as a stand-in for the density: Hilprecht et al., "Monte Carlo and
reconstruction membership inference attacks", 2019, section 3). It is a weaker attack.

AUC is the chance that a training entity is likelier, or nearer, than one never shown: 0.5 = the generator
does not know, 1 = it names them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genpipe.evaluation.base import Points
from genpipe.evaluation.privacy.findings import FEWEST, Finding
from genpipe.evaluation.privacy.nearest import nearest
from genpipe.evaluation.report import Score
from genpipe.seeds import drawn, numpy_rng

CONFIDENCE = 1.96  # standard errors of a two-sided interval of 95 %
LIMIT = 0.6  # the interval must reach down to here
AMONG = 1_000  # rows of each side whose distances are taken
MEANING = {
    "likelihood": "chance that a training entity is likelier to the model than an unseen one; 0.5 is none",
    "distance": "chance that generated rows lie nearer to a training entity than to an unseen one, a weaker"
    " attack than likelihood; 0.5 is none",
}
SAID = {
    "likelihood": "a training entity is likelier to it than an unseen one",
    "distance": "its rows lie nearer to a training entity than to an unseen one",
}


@dataclass(frozen=True)
class Likelihoods:
    """Log-likelihood, or what stands for it, (N,) of training rows and of rows never shown, and (N,) which
    entity each is of; None = every row is one. attack: how it was found.
    """

    train: np.ndarray
    unseen: np.ndarray
    train_entities: np.ndarray | None = None
    unseen_entities: np.ndarray | None = None
    attack: str = "likelihood"


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


def judged(found: Likelihoods | None, reason: str = "") -> Finding:
    """reason: why there is nothing to judge by, where there is not."""
    told = membership(found) if found else None
    attack = found.attack if found else "likelihood"
    score = Score(
        name="membership", title="Membership", goal="min", value=told.auc if told else None, ceiling=0.5,
        floor=1.0, meaning=MEANING[attack], error=told.error if told else None,
        reason="" if told else reason or "too few entities",
    )  # fmt: skip
    if told is None or told.low <= LIMIT:
        return Finding(score)
    return Finding(
        score,
        f"It knows who was in the training data: {SAID[attack]} {told.auc:.0%} of the time"
        f" (at least {told.low:.0%}; allowed {LIMIT:.0%})",
    )


def distances(
    synthetic: Points, train: Points, unseen: Points, train_entities: np.ndarray, unseen_entities: np.ndarray,
    seed: int,
) -> Likelihoods:  # fmt: skip
    """How much nearer real rows are to a generated row than to unseen real rows of others: half of the unseen
    entities are asked about, the other half is what distances are compared with. entities: (N,) uint64.
    """
    rng = numpy_rng(seed, "evaluation", "distances")
    names = np.unique(unseen_entities)
    asked = np.isin(unseen_entities, names[rng.permutation(len(names)) < len(names) // 2])
    places = np.flatnonzero(asked)
    others = places[drawn(rng, len(places), AMONG)]
    members = drawn(rng, len(train), AMONG)
    reference = unseen[~asked]
    reference = reference[drawn(rng, len(reference), len(synthetic))]

    def nearer(rows: Points) -> np.ndarray:
        return nearest(rows, reference).distance - nearest(rows, synthetic).distance

    return Likelihoods(
        nearer(train[members]), nearer(unseen[others]), train_entities[members], unseen_entities[others],
        "distance",
    )  # fmt: skip


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
