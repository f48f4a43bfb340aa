"""What does a generator know of rows that were held out from its twin, and then learnt with all the others?

No row is unseen by a generator that learnt all. But its twin, by the same recipe and of the same seed, has
not seen those that were held out: they are members of the one and strangers to the other. So each attack is
made on both, and what tells them apart is what was learnt of these rows ("in" and "out" models: Carlini et
al., "Membership inference attacks from first principles", 2022, section 4). Held-out rows were chosen at
random, so they stand for all. What more rows teach of everybody counts as known, too: the figures are upper
bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from genpipe.evaluation.base import Judge, Points
from genpipe.evaluation.privacy.attacks import WINDOWS, Evidence
from genpipe.evaluation.privacy.findings import FEWEST, Finding
from genpipe.evaluation.privacy.inference import Guesses, read_off
from genpipe.evaluation.privacy.membership import Likelihoods, area, by_entity, judged
from genpipe.evaluation.privacy.nearest import Closest, Equals, Share, nearest
from genpipe.evaluation.privacy.singling_out import SinglingOut, whose
from genpipe.evaluation.privacy.verbatim import Verbatim
from genpipe.schema import Schema

AMONG = 2_000  # generated rows whose nearest real one is sought


@dataclass(frozen=True)
class Made:
    """What one of the two makes. rows: generated. points: where they lie. evidence: of rows of both sides."""

    rows: pa.Table
    points: Points
    evidence: Evidence


def attacked_twice(
    judge: Judge, last: Made, twin: Made, train: Iterable[pa.Table], unseen: pa.Table, who: np.ndarray
) -> tuple[Share, float, list[Finding]]:
    """(how much nearer `last` comes to the held-out rows, the share of its rows equal to any real one, what
    attacks found). train: what both learnt, piece by piece. unseen: what the twin did not. who: (N,) whose.
    """
    schema, held = judge.schema, judge.points(judge.view(unseen))
    witnesses = [w for made in (last, twin) if (w := _witness(made.rows, unseen, who, schema)) is not None]
    one, two = (Closest(made.points[np.arange(min(AMONG, len(made.points)))]) for made in (last, twin))
    equal, seen = Equals(value=last.points), 0
    for piece in train:
        points, owners = judge.points(judge.view(piece)), whose(piece, schema, seen)
        seen += piece.num_rows
        equal.see(points)
        one.see(points)
        two.see(points)
        for witness in witnesses:
            witness.see(piece, owners, member=True)
    equal.see(held)
    for witness in witnesses:
        witness.see(unseen, who, member=False)
    findings = [_membership(last, twin, held, who, schema)]
    if last.evidence.guesses is not None and twin.evidence.guesses is not None:
        findings.append(read_off(_guesses(last.evidence.guesses, twin.evidence.guesses)))
    if witnesses:
        findings += witnesses[0].findings(witnesses[1])  # type: ignore[arg-type]
    return _nearer(one, two, held), equal.share("value"), findings


def _witness(
    rows: pa.Table, unseen: pa.Table, who: np.ndarray, schema: Schema
) -> SinglingOut | Verbatim | None:
    if schema.kind == "tabular":
        return SinglingOut(rows, unseen, who, schema)
    return Verbatim(rows, schema) if schema.kind == "text" else None


def _nearer(last: Closest, twin: Closest, held: Points) -> Share:
    """The chance that a row whose nearest real one is a held-out one lies nearer to it if it is made by a
    generator that learnt that one; 0.5 where that has not mattered. Rows nearest to one record count as one.
    """
    apart = []
    for rows in (last, twin):
        found = nearest(rows.rows, held)
        near = found.distance < rows.found.distance
        apart.append(-by_entity(found.distance[near], found.index[near]))
    if min(map(len, apart)) < FEWEST:
        return Share(0.5, 0.5)
    return Share(*area(*apart))


def _membership(last: Made, twin: Made, held: Points, who: np.ndarray, schema: Schema) -> Finding:
    mine, other = last.evidence.likelihoods, twin.evidence.likelihoods
    if mine is not None and other is not None:
        ends = mine.unseen, other.unseen, mine.unseen_entities, other.unseen_entities
        return judged(Likelihoods(*ends))
    if schema.kind == "series" and not schema.about:
        return judged(None, WINDOWS)
    one, two = (-nearest(held, made.points).distance for made in (last, twin))
    return judged(Likelihoods(one, two, who, who, "distance"))


def _guesses(last: Sequence[Guesses], twin: Sequence[Guesses]) -> list[Guesses]:
    other = {g.column: g for g in twin}
    return [
        Guesses(
            g.column, g.unseen, o.unseen, g.unseen_entities, o.unseen_entities
        )
        for g in last
        if (o := other.get(g.column))
    ]  # fmt: skip
