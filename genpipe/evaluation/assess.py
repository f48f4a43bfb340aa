"""Put a generated table to the test: every score three times, for it, for real rows and for worthless ones.

The reference of fidelity and usefulness is the holdout, which no generator has seen. The ceiling is what as
many real training rows score, the floor what the same rows score once scrambled. Privacy turns it round: the
ceiling is one half of the holdout against the other, the floor a generator that hands out training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.dataset import MIN_HOLDOUT
from genpipe.errors import DataError, PrivacyError, QualityError
from genpipe.evaluation import JUDGES
from genpipe.evaluation.base import Judge, Points, Usefulness, View, one_thread, subset
from genpipe.evaluation.privacy.attacks import Evidence, Sides, attacked
from genpipe.evaluation.privacy.near_copies import NearCopies
from genpipe.evaluation.privacy.nearest import (
    Hidden,
    Nearest,
    Share,
    coverage,
    nearest,
    reach,
    share_nearer_train,
)
from genpipe.evaluation.reader import read
from genpipe.evaluation.report import Distances, Report, Score
from genpipe.evaluation.tabular import TabularJudge
from genpipe.evaluation.verdict import MARGIN, collapsed, conclude
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng

JUDGED = 10_000  # held-out rows, at most, for all but privacy
BINS = 40
FLOOR_ROWS = 2_000  # training rows, of very many, by which the floor of privacy is told

MEANING = {
    "fidelity": "how alike generated and real rows are; 1 cannot be told apart",
    "usefulness": "a small model trained on generated rows, tested on real ones it never saw",
    "privacy": "share of rows nearer to a training than to an unseen real row; 0.5 is chance, 1 is copying",
    "copies": "share of rows equal to a training row",
    "coverage": "share of unseen real rows with a generated row close by",
}
NEAR_EACH_OTHER = "nothing to compare with: unseen rows lie nearer to each other, as windows that overlap do"


def evaluate_tables(
    train: pa.Table,
    holdout: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    *,
    seed: int = 0,
    lineage: Mapping[str, Any] | None = None,
    evidence: Evidence | None = None,
    fewest: int = MIN_HOLDOUT,
) -> Report:
    """Judge `synthetic` against the holdout; deterministic for equal tables and seed.

    holdout: of more than `JUDGED` rows only privacy looks at all.
    Raises PrivacyError with fewer than `fewest` holdout rows (one fold of several may have fewer than 50) and
    QualityError where generated values are NaN.
    """
    _enough(train, holdout, synthetic, fewest)
    evidence = evidence or Evidence()
    who = evidence.whose(train, holdout, schema)
    real, judging = subset(train, synthetic.num_rows, seed), subset(holdout, JUDGED, seed)
    with one_thread():
        sides = Sides(train, real, synthetic, holdout, judging, *who, schema, seed)
        return _assess(sides, evidence, dict(lineage or {}))


def fidelity_alone(
    train: pa.Table, holdout: pa.Table, synthetic: pa.Table, schema: Schema, *, seed: int = 0
) -> float:
    """The fidelity of `evaluate_tables` of the same tables, without all else."""
    _enough(train, holdout, synthetic, MIN_HOLDOUT)
    with one_thread():
        judge = JUDGES[schema.kind](subset(holdout, JUDGED, seed), schema, seed=seed)
        return judge.score_view(judge.view(synthetic))


def _assess(sides: Sides, evidence: Evidence, lineage: dict[str, Any]) -> Report:
    seed, schema = sides.seed, sides.schema
    judge = JUDGES[schema.kind](sides.holdout, schema, seed=seed)
    views = {"value": judge.view(sides.synthetic), "ceiling": judge.view(sides.real)}
    views["floor"] = judge.scramble(views["ceiling"], numpy_rng(seed, "evaluation", "scramble"))
    holdout_view = judge.view(sides.holdout)

    fidelity, parts = _fidelity(judge, views)
    usefulness = _usefulness(judge, views, holdout_view)
    spots = {"synthetic": judge.points(views["value"]), "real": judge.points(views["ceiling"])}
    spots |= {"holdout": judge.points(holdout_view), "floor": judge.points(views["floor"])}
    spots["unseen"] = (
        spots["holdout"] if sides.unseen is sides.holdout else judge.points(judge.view(sides.unseen))
    )
    covered = _coverage(spots)
    hidden, near, findings = attacked(judge, spots, sides, evidence)
    privacy, share, histogram = _privacy(hidden, near, sides.halves)
    read, said = _read(judge, sides)
    scores = (fidelity, *read, usefulness, covered, privacy, _copies(hidden), *(f.score for f in findings))
    verdict, headline = conclude(scores, share, collapsed(spots, covered, parts), findings)
    return Report(
        kind=schema.kind,
        train_rows=hidden.seen,
        holdout_rows=sides.unseen.num_rows,
        rows=sides.synthetic.num_rows,
        seed=seed,
        scores=scores,
        parts=parts,
        warnings=(*_warnings(judge, views, holdout_view, spots), *said),
        verdict=verdict,
        headline=headline,
        distances=histogram,
        lineage=lineage,
    )


def _enough(train: pa.Table, holdout: pa.Table, synthetic: pa.Table, fewest: int) -> None:
    if holdout.num_rows < fewest:
        raise PrivacyError(
            "FEWHOLDOUT",
            found=f"not enough hold-out rows for the privacy test: {holdout.num_rows}",
            expected=f"at least {fewest}",
            fix="collect more; a larger share held out leaves fewer to learn from, who are then known better",
        )
    for name, table in (("training", train), ("generated", synthetic)):
        if table.num_rows < 2:
            raise DataError("FEWROWS", found=f"{table.num_rows} {name} rows", expected="at least 2")


def _fidelity(judge: Judge, views: dict[str, View]) -> tuple[Score, dict[str, dict[str, float]]]:
    parts: dict[str, dict[str, float]] = {}
    ends: dict[str, float] = {}
    for end, view in views.items():
        found = judge.parts(view)
        ends[end] = judge.score_view(view, found)
        for name, number in found.items():
            parts.setdefault(name, {})[end] = number
    return _score("fidelity", "Fidelity", "max", ends), parts


def _read(judge: Judge, sides: Sides) -> tuple[list[Score], list[str]]:
    """What a careful reader says of a table; nothing of other kinds."""
    if not isinstance(judge, TabularJudge):
        return [], []
    return read(judge, sides.train, sides.real, sides.holdout, sides.synthetic)


def _usefulness(judge: Judge, views: dict[str, View], holdout: View) -> Score:
    found: dict[str, Usefulness] = {}
    for end in ("value", "ceiling", "floor"):
        found[end] = judge.usefulness(views[end], holdout)
    told = found["ceiling"]
    ends = {end: u.value for end, u in found.items()}
    if told.value is not None and ends["floor"] is not None:
        ends["floor"] = max(told.chance, ends["floor"])
    return _score("usefulness", "Usefulness", "max", ends, unit=told.measure, reason=told.reason)


def _privacy(hidden: Hidden, near: NearCopies | None, halves: np.ndarray) -> tuple[Score, Share, Distances]:
    """near: of very many training rows. halves: (N,) which half of the unseen rows each is in."""
    unseen, rows = hidden.unseen, hidden.seen
    if near:
        share, apart = near.share("value"), [near.share("ceiling")]
        distances = near.distances("value"), near.distances("ceiling")
    else:
        to_train, real_to_train = (hidden.closest[end].found for end in ("value", "ceiling"))
        share = share_nearer_train(to_train, nearest(hidden.synthetic, unseen), rows, len(unseen))
        apart = list(_apart(real_to_train, unseen, rows, halves))
        distances = to_train.distance, real_to_train.distance
    real = float(np.mean([s.value for s in apart])) if apart else None
    alone = real is None or real + 3 * max(s.error for s in apart) < 0.5 - MARGIN
    handed = hidden.real[:: max(1, len(hidden.real) // FLOOR_ROWS)] if near else hidden.real
    there = Nearest(np.zeros(len(handed)), np.arange(len(handed)))
    copied = share_nearer_train(there, nearest(handed, unseen), rows, len(unseen)).value
    nearness = {"value": share.value, "ceiling": None if alone else real, "floor": copied}
    score = _score("privacy", "Privacy signal", "min", nearness, error=share.error)
    more = f"; of {near.told}" if near else ""
    more += f"; {NEAR_EACH_OTHER}" if alone else ""
    return score.model_copy(update={"meaning": score.meaning + more}), share, _histograms(*distances)


def _apart(to_train: Nearest, unseen: Points, rows: int, halves: np.ndarray) -> Iterator[Share]:
    """Of the unseen rows, each half against the other."""
    for half in (0, 1):
        mine, other = halves == half, unseen[halves != half]
        if mine.any() and len(other):
            yield share_nearer_train(to_train[mine], nearest(unseen[mine], other), rows, len(other))


def _histograms(near: np.ndarray, real_near: np.ndarray) -> Distances:
    both = np.concatenate([near, real_near])
    high = (float(np.quantile(both, 0.995)) if len(both) else 0.0) or 1.0
    edges = np.linspace(0, high, BINS + 1)
    shares = [
        tuple(float(v) for v in np.histogram(np.minimum(d, high), edges)[0] / max(1, len(d)))
        for d in (near, real_near)
    ]
    return Distances(high=high, synthetic=shares[0], holdout=shares[1])


def _copies(hidden: Hidden) -> Score:
    ends = {"value": hidden.equal.share("value"), "ceiling": hidden.equal.share("ceiling"), "floor": 1.0}
    return _score("copies", "Exact copies", "min", ends)


def _coverage(spots: dict[str, Points]) -> Score:
    holdout = spots["holdout"]
    pairs = (("value", "synthetic"), ("ceiling", "real"), ("floor", "floor"))
    within = reach(holdout)
    ends = {end: coverage(holdout, spots[name], within) for end, name in pairs}
    return _score("coverage", "Coverage", "max", ends)


def _score(
    name: str, title: str, goal: Any, ends: Mapping[str, float | None], *, unit: str = "", reason: str = "",
    error: float | None = None,
) -> Score:  # fmt: skip
    bad = [end for end, number in ends.items() if number is not None and not np.isfinite(number)]
    if bad:
        raise QualityError(
            "NANMETRIC", found=f"{name} ({', '.join(bad)}) is not a number", expected="a finite score"
        )
    return Score(
        name=name, title=title, goal=goal, value=ends["value"], ceiling=ends["ceiling"], floor=ends["floor"],
        unit=unit, meaning=MEANING[name], error=error, reason=reason,
    )  # fmt: skip


def _warnings(judge: Judge, views: dict[str, View], holdout: View, spots: dict[str, Points]) -> list[str]:
    found = []
    names = [f.name for f in judge.schema.of_kind("category", "boolean")]
    for name, real, made in zip(names, holdout.codes.T, views["value"].codes.T, strict=True):
        before, after = _entropy(real), _entropy(made)
        if before > 0.3 and after < 0.1 * before:
            found.append(f"column {name} has collapsed to (nearly) one value")
        lost = len(set(real.tolist()) - set(made.tolist()))
        if lost and after >= 0.1 * before:
            found.append(f"column {name}: {lost} of {len(set(real.tolist()))} real values never generated")
    if len(spots["synthetic"]) < 200:
        found.append(f"only {len(spots['synthetic'])} generated rows: scores are rough")
    return found


def _entropy(codes: np.ndarray) -> float:
    share = np.unique(codes, return_counts=True)[1] / max(1, len(codes))
    return float(-(share * np.log(share)).sum())
