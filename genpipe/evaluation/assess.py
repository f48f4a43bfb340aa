"""Put a generated table to the test: every score three times, for it, for real rows and for worthless ones.

The reference of fidelity and usefulness is the holdout, which no generator has seen. The ceiling is what as
many real training rows score, the floor what the same rows score once scrambled. Privacy turns it round: the
ceiling is one half of the holdout against the other, the floor a generator that hands out training rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError, PrivacyError, QualityError
from genpipe.evaluation import JUDGES
from genpipe.evaluation.base import Judge, Points, Usefulness, View, one_thread, subset
from genpipe.evaluation.membership import Likelihoods, Membership, membership
from genpipe.evaluation.privacy import (
    Hidden,
    Nearest,
    Share,
    coverage,
    distinct,
    nearest,
    share_nearer_train,
)
from genpipe.evaluation.report import Distances, Report, Score, Verdict
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng

MIN_HOLDOUT = 50
JUDGED = 10_000  # held-out rows, at most, for all but privacy
BINS = 40
MEMBERSHIP = 0.6  # the interval of the likelihood attack must reach down to here
MARGIN = 0.1  # a share this far above chance, beyond three standard errors, is copying
LEAST_DISTINCT, LEAST_SPREAD, LEAST_COVERAGE = 0.2, 0.1, 0.1  # of the real rows' own

GRADES: dict[Verdict, float] = {"excellent": 0.9, "good": 0.7, "fair": 0.4, "poor": -1.0}

MEANING = {
    "fidelity": "how alike generated and real rows are; 1 cannot be told apart",
    "usefulness": "a small model trained on generated rows, tested on real ones it never saw",
    "privacy": "share of rows nearer to a training than to an unseen real row; 0.5 is chance, 1 is copying",
    "copies": "share of rows equal to a training row",
    "membership": "chance that a training entity is likelier to the model than an unseen one; 0.5 is none",
    "coverage": "share of unseen real rows with a generated row close by",
}


def evaluate_tables(
    train: pa.Table,
    holdout: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    *,
    seed: int = 0,
    lineage: Mapping[str, Any] | None = None,
    every: Iterable[pa.Table] | None = None,
    likelihoods: Likelihoods | None = None,
    fewest: int = MIN_HOLDOUT,
) -> Report:
    """Judge `synthetic` against the holdout; deterministic for equal tables and seed.

    every: where `train` is a sample, all training rows piece by piece, for privacy. holdout: of more than
    `JUDGED` rows only privacy looks at all. likelihoods: of a generator that has them, for membership.
    Raises PrivacyError with fewer than `fewest` holdout rows (one fold of several may have fewer than 50) and
    QualityError where generated values are NaN.
    """
    _enough(train, holdout, synthetic, fewest)
    with one_thread():
        return _assess(train, holdout, synthetic, schema, seed, dict(lineage or {}), every, likelihoods)


def _assess(
    train: pa.Table,
    holdout: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    seed: int,
    lineage: dict[str, Any],
    every: Iterable[pa.Table] | None,
    likelihoods: Likelihoods | None,
) -> Report:
    unseen, holdout = holdout, subset(holdout, JUDGED, seed)
    judge = JUDGES[schema.kind](holdout, schema, seed=seed)
    real = subset(train, synthetic.num_rows, seed)
    views = {"value": judge.view(synthetic), "ceiling": judge.view(real)}
    views["floor"] = judge.scramble(views["ceiling"], numpy_rng(seed, "evaluation", "scramble"))
    holdout_view = judge.view(holdout)

    fidelity, parts = _fidelity(judge, views)
    usefulness = _usefulness(judge, views, holdout_view)
    spots = {"synthetic": judge.points(views["value"]), "real": judge.points(views["ceiling"])}
    spots |= {"holdout": judge.points(holdout_view), "floor": judge.points(views["floor"])}
    covered = _coverage(spots)
    all_unseen = spots["holdout"] if unseen is holdout else judge.points(judge.view(unseen))
    hidden = Hidden(spots["synthetic"], spots["real"], all_unseen, few=every is not None, seed=seed)
    for piece in [train] if every is None else every:
        hidden.see(judge.points(judge.view(piece)))
    privacy, share, distances = _privacy(hidden)
    told = membership(likelihoods) if likelihoods else None
    scores = (fidelity, usefulness, covered, privacy, _copies(hidden), _membership(told))
    warnings = _warnings(judge, views, holdout_view, spots)
    collapse = _collapse(spots, covered, parts)
    verdict, headline = _verdict(scores, share, collapse, told)
    return Report(
        kind=schema.kind,
        train_rows=hidden.seen,
        holdout_rows=unseen.num_rows,
        rows=synthetic.num_rows,
        seed=seed,
        scores=scores,
        parts=parts,
        warnings=tuple(warnings),
        verdict=verdict,
        headline=headline,
        distances=distances,
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


def _usefulness(judge: Judge, views: dict[str, View], holdout: View) -> Score:
    found: dict[str, Usefulness] = {}
    for end in ("value", "ceiling", "floor"):
        found[end] = judge.usefulness(views[end], holdout)
    told = found["ceiling"]
    ends = {end: u.value for end, u in found.items()}
    if told.value is not None and ends["floor"] is not None:
        ends["floor"] = max(told.chance, ends["floor"])
    return _score("usefulness", "Usefulness", "max", ends, unit=told.measure, reason=told.reason)


def _privacy(hidden: Hidden) -> tuple[Score, Share, Distances]:
    unseen, rows = hidden.unseen, hidden.seen
    to_train, real_to_train = (hidden.closest[end].found for end in ("value", "ceiling"))
    share = share_nearer_train(to_train, nearest(hidden.synthetic, unseen), rows, len(unseen))
    halves = []  # unseen rows against the other half of them
    for half in (0, 1):
        mine, other = hidden.places % 2 == half, unseen[1 - half :: 2]
        to_other = nearest(unseen[hidden.places[mine]], other)
        halves.append(share_nearer_train(real_to_train[mine], to_other, rows, len(other)).value)
    real = float(np.mean(halves))
    there = Nearest(np.zeros(len(hidden.real)), np.arange(len(hidden.real)))
    copied = share_nearer_train(there, nearest(hidden.real, unseen), rows, len(unseen)).value
    nearness = {"value": share.value, "ceiling": real, "floor": copied}
    score = _score("privacy", "Privacy signal", "min", nearness, error=share.error)
    near, real_near = to_train.distance, real_to_train.distance
    high = float(np.quantile(np.concatenate([near, real_near]), 0.995)) or 1.0
    edges = np.linspace(0, high, BINS + 1)
    shares = [
        tuple(float(v) for v in np.histogram(np.minimum(d, high), edges)[0] / len(d))
        for d in (near, real_near)
    ]
    return score, share, Distances(high=high, synthetic=shares[0], holdout=shares[1])


def _copies(hidden: Hidden) -> Score:
    ends = {"value": hidden.equal.share("value"), "ceiling": hidden.equal.share("ceiling"), "floor": 1.0}
    return _score("copies", "Exact copies", "min", ends)


def _membership(told: Membership | None) -> Score:
    reason = "" if told else "too few entities, or a family without likelihood"
    ends = {"value": told.auc if told else None, "ceiling": 0.5, "floor": 1.0}
    error = told.error if told else None
    return _score("membership", "Membership", "min", ends, error=error, reason=reason)


def _coverage(spots: dict[str, Points]) -> Score:
    holdout = spots["holdout"]
    pairs = (("value", "synthetic"), ("ceiling", "real"), ("floor", "floor"))
    return _score("coverage", "Coverage", "max", {end: coverage(holdout, spots[name]) for end, name in pairs})


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


def _collapse(spots: dict[str, Points], coverage_score: Score, parts: dict[str, dict[str, float]]) -> str:
    """Why the generator counts as collapsed, or an empty string."""
    synthetic, real = spots["synthetic"], spots["real"]
    unique, unique_real = distinct(synthetic), distinct(real)
    if unique < LEAST_DISTINCT * unique_real:
        return f"only {unique:.1%} of its rows differ from each other (real rows: {unique_real:.0%})"
    if synthetic.spread < LEAST_SPREAD * real.spread:
        return f"its rows spread {synthetic.spread / real.spread:.1%} as far as real ones"
    covered, covered_real = coverage_score.value or 0.0, coverage_score.ceiling or 0.0
    precise = parts.get("precision", {}).get("value", 0.0)
    if covered < LEAST_COVERAGE * covered_real and precise > 0.5:
        return f"it repeats a corner of the data: {covered:.1%} of real rows have a generated row close by"
    return ""


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


def _verdict(
    scores: tuple[Score, ...], share: Share, collapse: str, told: Membership | None
) -> tuple[Verdict, str]:
    named = {s.name: s for s in scores}
    if collapse:
        return "collapsed", f"The generator has collapsed: {collapse}."
    privacy, same = named["privacy"], named["copies"]
    excess = (same.value or 0) - (same.ceiling or 0)
    if share.value - 3 * share.error > max(0.5, privacy.ceiling or 0.5) + MARGIN or excess > 0.1:
        return (
            "copies",
            f"Generated rows hug the training rows: {share.value:.0%} lie nearer to them than to unseen ones,"
            f" {same.value or 0:.1%} are equal to one.",
        )
    if told and told.low > MEMBERSHIP:
        return (
            "leaks",
            f"It knows who was in the training data: a training entity is likelier than an unseen one"
            f" {told.auc:.0%} of the time (at least {told.low:.0%}; allowed {MEMBERSHIP:.0%}).",
        )
    reached = named["fidelity"].position or 0.0
    useful = named["usefulness"].position
    level = reached if useful is None else min(reached, 0.5 * (reached + useful))
    grade = next(grade for grade, least in GRADES.items() if level >= least)
    text = f"{grade.capitalize()}: {reached:.0%} of the way from shuffled to real data"
    if useful is not None:
        text += f"; models trained on it keep {useful:.0%} of the skill real rows give"
    return grade, text + "."
