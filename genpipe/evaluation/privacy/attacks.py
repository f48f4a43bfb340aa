"""What is tried to get at people: what is known of them, whose rows are whose, and all attacks in one pass.

membership.py asks who was there, inference.py what a person's values are, singling_out.py and verbatim.py
what generated rows give out of one person alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from genpipe.evaluation.base import Judge, Points, kept_rows
from genpipe.evaluation.privacy.findings import Finding
from genpipe.evaluation.privacy.inference import Guesses, read_off
from genpipe.evaluation.privacy.membership import Likelihoods, distances, judged
from genpipe.evaluation.privacy.near_copies import NearCopies
from genpipe.evaluation.privacy.nearest import Hidden
from genpipe.evaluation.privacy.singling_out import SinglingOut, whose
from genpipe.evaluation.privacy.verbatim import Verbatim
from genpipe.schema import Schema

UNSEEN = 2**40  # rows without an entity are their own: held-out ones are numbered from here
WINDOWS = "windows of a few series are not independent of each other"


@dataclass(frozen=True)
class Evidence:
    """What tells of training rows, besides generated ones.

    every: where `train` is a sample, all training rows piece by piece, `rows` of them. likelihoods, guesses:
    of a generator that has them. entities: (N,) of each training and each held-out row, where these do not
    name them themselves (`Schema.about`).
    """

    every: Iterable[pa.Table] | None = None
    rows: int = 0
    likelihoods: Likelihoods | None = None
    guesses: Sequence[Guesses] | None = None
    entities: tuple[np.ndarray, np.ndarray] | None = None

    def whose(self, train: pa.Table, unseen: pa.Table, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
        """(N,) uint64 keys of both sides."""
        if self.entities:
            return tuple(e.astype(np.uint64) for e in self.entities)  # type: ignore[return-value]
        return whose(train, schema), whose(unseen, schema, UNSEEN)


@dataclass(frozen=True)
class Sides:
    """The rows that are compared. real: as many training rows as generated ones. unseen: all held-out rows,
    holdout: those that all but privacy looks at. who_real, who_unseen: (N,) whose they are.
    """

    train: pa.Table
    real: pa.Table
    synthetic: pa.Table
    unseen: pa.Table
    holdout: pa.Table
    who_train: np.ndarray
    who_unseen: np.ndarray
    schema: Schema
    seed: int

    @property
    def who_real(self) -> np.ndarray:
        return self.who_train[kept_rows(self.train.num_rows, self.real.num_rows, self.seed)]

    @property
    def independent(self) -> bool:
        """Whether rows of different entities are; windows of a few long series are not."""
        return self.schema.kind != "series" or bool(self.schema.about)

    @property
    def halves(self) -> np.ndarray:
        """(N,) 0 or 1: the unseen rows in two halves, those of one entity together."""
        if len(np.unique(self.who_unseen)) == len(self.who_unseen):
            return np.arange(len(self.who_unseen)) % 2
        return np.unique(self.who_unseen, return_inverse=True)[1] % 2


def attacked(
    judge: Judge, spots: dict[str, Points], sides: Sides, evidence: Evidence
) -> tuple[Hidden, NearCopies | None, list[Finding]]:
    """What is equal or nearest to generated and to unseen rows, of very many training rows what is near them,
    and what the attacks on people found. All training rows are gone through once.
    """
    schema, seed, many = sides.schema, sides.seed, evidence.every is not None
    made, unseen = spots["synthetic"], spots["unseen"]
    hidden = Hidden(made, spots["real"], unseen, nearest=not many)
    near = NearCopies(made, unseen, sides.halves, evidence.rows, seed) if many else None
    witness: SinglingOut | Verbatim | None = None
    if schema.kind == "tabular":
        witness = SinglingOut(sides.synthetic, sides.unseen, sides.who_unseen, schema)
    elif schema.kind == "text":
        witness = Verbatim(sides.synthetic, schema)
    for piece in [sides.train] if evidence.every is None else evidence.every:
        who = sides.who_train if evidence.every is None else whose(piece, schema, hidden.seen)
        points = judge.points(judge.view(piece))
        hidden.see(points)
        if near:
            near.see(points)
        if witness:
            witness.see(piece, who, member=True)
    if witness:
        witness.see(sides.unseen, sides.who_unseen, member=False)
    told = evidence.likelihoods
    if told is None and sides.independent:
        told = distances(made, spots["real"], unseen, sides.who_real, sides.who_unseen, seed)
    findings = [near.finding()] if near else []
    findings += [judged(told, "" if told else WINDOWS)]
    findings += [read_off(list(evidence.guesses))] if evidence.guesses is not None else []
    return hidden, near, findings + (witness.findings() if witness else [])
