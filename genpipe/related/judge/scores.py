"""Put generated related tables to the test: against held-out families, beside real training families.

Five groups of measures, each in [0, 1]; fidelity is the mean of those there are.

tables: each table by itself, as assess.py judges one.
cardinality: 1 - Kolmogorov-Smirnov of the number of children of a parent ("cardinality shape similarity",
SDMetrics), and of the number of rows that refer to one.
between: two-way marginals and associations (tabular.py) of columns of a row and of its parents ("intertable
trends", SDMetrics), of the number of children and the columns of their parent, and of a row, with its
parents, and the row it refers to.
within: the same of columns of a row and of the row before it of the same parent.
families: parents with their number of children, and means, spreads and shares over them, judged as a table;
a classifier that is to tell them apart is in it ("discriminative detection with aggregation", Hudovernik,
Jurkovič & Štrumbelj, "Benchmarking the fidelity and utility of synthetic relational data", 2024,
arXiv 2410.03411), and nearness to training rows is that of whole families.

The ceiling is what as many real training families reach, the floor what is left when every column is shuffled
by itself and every child is given a random parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.dataset import MIN_HOLDOUT
from genpipe.errors import DataError, PrivacyError
from genpipe.evaluation.base import kolmogorov_smirnov, one_thread
from genpipe.evaluation.privacy.attacks import Evidence
from genpipe.evaluation.report import Report, Score, Verdict
from genpipe.evaluation.verdict import GRADES
from genpipe.related.judge import trends as measured
from genpipe.related.judge.tables import (
    RelatedTable,
    Tables,
    aggregated,
    children_of,
    common_values,
    counts,
    families,
    flat,
    in_order,
    is_lookup,
)
from genpipe.related.judge.trends import Ends, Sides, trends
from genpipe.seeds import numpy_rng

ENDS = ("value", "ceiling", "floor")
ATTACKS = ("membership", "read_off", "single_values", "single_pairs")

TITLES = {
    "tables": ("Each table", "columns of each table by itself, as if there were no other"),
    "cardinality": (
        "Cardinality",
        "how many children parents have, and how many rows refer to one; 1 is the same",
    ),
    "between": ("Between tables", "what columns and numbers of children owe to parents and rows referred to"),
    "within": ("Within families", "what a row's columns owe to the row before it of the same parent"),
    "families": ("Families", "parents with counts, means and shares of their children, judged as a table"),
}


@dataclass
class Parts:
    """What is measured, by group and by the table it is of. reports: of the tables and the families."""

    groups: dict[str, dict[str, Ends]] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)

    def add(self, group: str, what: str, ends: Ends) -> None:
        self.groups.setdefault(group, {})[what] = ends

    def mean(self, group: str, end: str) -> float:
        return float(np.mean([ends[end] for ends in self.groups[group].values()]))


def evaluate_related(
    train: Tables,
    holdout: Tables,
    synthetic: Tables,
    *,
    seed: int = 0,
    lineage: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Evidence] | None = None,
    fewest: int = MIN_HOLDOUT,
) -> Report:
    """Judge generated tables against held-out families; deterministic for equal tables and seed.

    evidence: of the generator of each table, see attacks.py.
    Raises PrivacyError where a table has fewer than `fewest` held-out rows (a fold of several may have fewer
    than 50), unless it is one that rows of others name and nothing belongs to: that is not judged by itself.
    """
    small = [name for name, kin in holdout.items() if kin.rows < fewest and is_lookup(holdout, name)]
    for name, kin in holdout.items():
        if name not in small:
            _enough(name, train[name], kin, synthetic[name], fewest)
    most = max(kin.rows for kin in synthetic.values() if kin.parent is None)
    kept = families(train, most, numpy_rng(seed, "evaluation", "families"))
    parts, sides = Parts(), Sides(train, holdout, synthetic, kept, common_values(holdout), seed, fewest)
    with one_thread():
        for name, kin in holdout.items():
            if kin.fields and name not in small:
                _table(parts, sides, name, (evidence or {}).get(name))
            if kin.parent is not None:
                _cardinality(parts, sides, name, kin.parent)
                _dependence(parts, sides, name)
            if children_of(holdout, name):
                _families(parts, sides, name)
            _referred(parts, sides, name, named=name not in small)
            for column, ends in measured.levels(sides, name):
                parts.add("cardinality", f"{name} above each by {column}", ends)
    return _report(parts, sides, dict(lineage or {}), measured.unjudged(sides, small))


def _enough(
    name: str, train: RelatedTable, holdout: RelatedTable, synthetic: RelatedTable, fewest: int
) -> None:
    if holdout.rows < fewest:
        raise PrivacyError(
            "FEWHOLDOUT",
            where=name,
            found=f"not enough hold-out rows for the privacy test: {holdout.rows}",
            expected=f"at least {fewest} of every table",
            fix="collect more; a spec that delivers all the same says `unchecked: REASON`",
        )
    for what, kin in (("training", train), ("generated", synthetic)):
        if kin.rows < 2:
            raise DataError("FEWROWS", where=name, found=f"{kin.rows} {what} rows", expected="at least 2")


def _ends(score: Score) -> Ends:
    return {end: getattr(score, end) for end in ENDS}


def _table(parts: Parts, sides: Sides, name: str, evidence: Evidence | None) -> None:
    train, holdout, made = (tables[name].columns for tables in (sides.train, sides.holdout, sides.synthetic))
    schema = sides.holdout[name].schema
    parts.reports[name] = sides.judged(name, (train, holdout, made), schema, evidence)
    parts.add("tables", name, _ends(parts.reports[name].score("fidelity")))


def _cardinality(parts: Parts, sides: Sides, child: str, parent: str) -> None:
    """How many children there are."""
    real, ceiling = counts(sides.holdout, child), counts(sides.train, child)[sides.kept[parent]]
    rng = numpy_rng(sides.seed, "evaluation", "deal", child)
    dealt = np.bincount(rng.integers(0, len(ceiling), ceiling.sum()), minlength=len(ceiling))
    found = {"value": counts(sides.synthetic, child), "ceiling": ceiling, "floor": dealt}
    alike = {end: 1.0 - kolmogorov_smirnov(real, many) for end, many in found.items()}
    parts.add("cardinality", f"number of {child}", alike)
    none = {end: 1.0 - abs(float((real == 0).mean() - (many == 0).mean())) for end, many in found.items()}
    parts.add("childless", f"share of {parent} without {child}", none)
    if ends := measured.parentless(sides, child):
        parts.add("childless", f"share of {child} without {parent}", ends)


def _dependence(parts: Parts, sides: Sides, child: str) -> None:
    """What the columns of a child owe to its parents, and to the row before."""
    if not sides.holdout[child].fields:
        return
    real, made, known = (flat(tables, child) for tables in (sides.holdout, sides.synthetic, sides.train))
    ceiling = known.columns.filter(pa.array(sides.kept[child]))
    for group, others, what in (
        ("between", real.above, f"{child} by their parents"),
        ("within", real.before, f"{child} by the row before"),
    ):
        if others:
            parts.add(group, what, trends(real, made.columns, ceiling, others, sides.seed))


def _referred(parts: Parts, sides: Sides, name: str, *, named: bool) -> None:
    """What a table owes to rows of other tables it names, and, if `named`, how often others name its rows."""
    for column in sides.holdout[name].refers:
        if ends := measured.references(sides, name, column):
            parts.add("between", f"{name} by the {column} they name", ends)
    for child, column in sides.holdout[name].named if named else ():
        ends = measured.popularity(sides, name, child, column)
        parts.add("cardinality", f"{name} named by {child}.{column}", ends)


def _families(parts: Parts, sides: Sides, name: str) -> None:
    """Parents with all their children as rows of one table."""
    real, made, known = (
        aggregated(tables, name, sides.values) for tables in (sides.holdout, sides.synthetic, sides.train)
    )
    what = f"{name} with {', '.join(children_of(sides.holdout, name))}"
    parts.reports[what] = sides.judged(name, (known.columns, real.columns, made.columns), real.schema)
    parts.add("families", what, _ends(parts.reports[what].score("fidelity")))
    if real.above:
        ceiling = known.columns.filter(pa.array(sides.kept[name]))
        ends = trends(real, made.columns, ceiling, real.above, sides.seed)
        parts.add("between", f"{', '.join(real.own)} by {name}", ends)


def _report(parts: Parts, sides: Sides, lineage: dict[str, Any], unjudged: tuple[str, ...]) -> Report:
    groups = [group for group in TITLES if group in parts.groups]
    ends = {end: float(np.mean([parts.mean(group, end) for group in groups])) for end in ENDS}
    meaning = "mean of the groups below; 1 cannot be told from real families"
    scores = [_score("fidelity", "Fidelity", meaning, ends)]
    for group in groups:
        title, words = TITLES[group]
        scores.append(_score(group, title, words, {end: parts.mean(group, end) for end in ENDS}))
    scores += _attacks(parts.reports)
    integrity = measured.integrity(sides.synthetic)
    least = min(integrity.values(), default=1.0)
    words = "share of foreign keys that are the key of exactly one row; below 1 is refused"
    scores.append(
        _score("integrity", "Referential integrity", words, {"value": least, "ceiling": 1.0, "floor": 0.0})
    )
    scores += _order(sides)
    verdict, headline = _verdict(scores[0], parts.reports, integrity)
    return Report(
        kind="tables",
        train_rows=sum(k.rows for k in sides.train.values()),
        holdout_rows=sum(k.rows for k in sides.holdout.values()),
        rows=sum(k.rows for k in sides.synthetic.values()),
        seed=sides.seed,
        scores=tuple(scores),
        parts={what: e for group in parts.groups.values() for what, e in group.items()},
        warnings=(
            *unjudged,
            *(f"{n}: {w}" for n in sides.holdout if n in parts.reports for w in parts.reports[n].warnings),
        ),
        verdict=verdict,
        headline=headline,
        lineage=lineage,
        tables=parts.reports,
    )


def _score(name: str, title: str, meaning: str, ends: Ends) -> Score:
    return Score(
        name=name,
        title=title,
        goal="max",
        meaning=meaning,
        value=ends["value"],
        ceiling=ends["ceiling"],
        floor=ends["floor"],
    )


def _attacks(reports: Mapping[str, Report]) -> list[Score]:
    """Each of the table, or of the families, where it found most; copies of where rows are nearest."""
    found = []
    for name, by in (("privacy", "privacy"), ("copies", "privacy"), *zip(ATTACKS, ATTACKS, strict=True)):
        of = {what: s for what, r in reports.items() for s in r.scores if s.name == by}
        if of:
            worst = max(of, key=lambda what: _beyond(of[what]))
            score = reports[worst].score(name)
            found.append(score.model_copy(update={"meaning": f"{score.meaning}; of {worst}, the worst"}))
    return found


def _beyond(score: Score) -> float:
    """How far a score is beyond chance and error; minus infinity where there is none."""
    if score.value is None:
        return -np.inf
    chance = max(0.5, score.ceiling or 0.5) if score.name == "privacy" else score.ceiling or 0.0
    return score.value - 3 * (score.error or 0.0) - chance


def _order(sides: Sides) -> list[Score]:
    ordered = [name for name, kin in sides.synthetic.items() if kin.order]
    if not ordered:
        return []
    words = "share of rows that are not earlier than the row before them of the same parent"
    rng = numpy_rng(sides.seed, "evaluation", "order")
    value = min(in_order(sides.synthetic[name]) for name in ordered)
    floor = min(in_order(sides.train[name], rng) for name in ordered)
    return [_score("order", "Order", words, {"value": value, "ceiling": 1.0, "floor": floor})]


def _verdict(
    fidelity: Score, reports: Mapping[str, Report], integrity: Mapping[str, float]
) -> tuple[Verdict, str]:
    for what, share in integrity.items():
        if share < 1.0:
            return "collapsed", f"The keys are broken: {1 - share:.1%} of the rows of {what}."
    for bad in ("collapsed", "copies", "leaks"):
        for name, report in reports.items():
            if report.verdict == bad:
                return report.verdict, f"{name}: {report.headline}"
    reached = fidelity.position or 0.0
    grade = next(grade for grade, least in GRADES.items() if reached >= least)
    return grade, f"{grade.capitalize()}: {reached:.0%} of the way from shuffled tables to real families."
