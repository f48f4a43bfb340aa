"""Attribute inference: can one value of a person be read off by trying all of them?

An attacker who knows all of a row but one value asks the generator how likely the row is with every value in
its place, and takes the likeliest (Yeom et al., "Privacy risk in machine learning", 2018, section 4, with the
likelihood in place of the loss). What holds for everybody is guessed right of anybody, so what counts is how
much more often it is right of training entities than of others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genpipe.evaluation.privacy.findings import FEWEST, Excess, Finding, told
from genpipe.evaluation.privacy.membership import by_entity

LIMIT = 0.1  # by which guesses of training entities may be right more often than those of others


@dataclass(frozen=True)
class Guesses:
    """Of a column: for rows of training and for rows never shown, (N,) whether the guess is right, in parts
    where several values are as likely, and (N,) which entity each is of; None = every row is one.
    """

    column: str
    train: np.ndarray
    unseen: np.ndarray
    train_entities: np.ndarray | None = None
    unseen_entities: np.ndarray | None = None


def read_off(found: list[Guesses]) -> Finding:
    each = [e for e in map(_excess, found) if e]
    return told(
        "read_off", "Values read off",
        "how often trying all values tells a training entity's, knowing the rest; of real data: an unseen"
        " one's",
        each, LIMIT, reason="too few entities, or no column of few values",
        leak="It tells a training entity's values to whoever knows the others and tries all",
    )  # fmt: skip


def _excess(found: Guesses) -> Excess | None:
    members = by_entity(found.train, found.train_entities)
    others = by_entity(found.unseen, found.unseen_entities)
    if min(len(members), len(others)) < FEWEST:
        return None
    return Excess(
        found.column,
        float(members.mean()),
        float(others.mean()),
        float(np.sqrt(_variance(members) + _variance(others))),
    )


def _variance(right: np.ndarray) -> float:
    """Of a share, with one success and one failure more (Agresti & Caffo, "Simple and effective confidence
    intervals for proportions", 2000): right at the ends, too, and never too small for shares of entities.
    """
    share = (right.sum() + 1) / (len(right) + 2)
    return float(share * (1 - share) / (len(right) + 2))
