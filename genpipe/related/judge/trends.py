"""What the report of related tables compares, and what it finds of columns of different rows.

trends: how alike pairs of columns are, one of a row and one of another that belongs to it.
popularity: 1 - Kolmogorov-Smirnov of how many rows refer to a row. Generated tables need not be in the
proportions of the real ones, so of the side with more references to a row only as many are counted, drawn one
by one, as the other would have in these proportions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from genpipe.dataset import MIN_HOLDOUT
from genpipe.evaluation.assess import evaluate_tables
from genpipe.evaluation.base import View, kept_rows, kolmogorov_smirnov, subset
from genpipe.evaluation.privacy.attacks import Evidence
from genpipe.evaluation.report import Report
from genpipe.evaluation.tabular import MAX_PAIRS, TabularJudge, associations
from genpipe.related.judge.tables import Flat, RelatedTable, Tables, Values, beside, family
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng

MAX_ROWS = 5_000  # of a table that are compared with all training rows; fidelity looks at no more either
Ends = dict[str, float]  # value, ceiling, floor


@dataclass(frozen=True)
class Sides:
    """What is compared. kept: the training rows of the ceiling. values: of choices, whose shares count."""

    train: Tables
    holdout: Tables
    synthetic: Tables
    kept: dict[str, np.ndarray]
    values: Values
    seed: int
    fewest: int = MIN_HOLDOUT

    def judged(
        self,
        name: str,
        tables: tuple[pa.Table, pa.Table, pa.Table],
        schema: Schema,
        evidence: Evidence | None = None,
    ) -> Report:
        """tables: training, held-out and generated rows, those of table `name` or as many. evidence: of this
        table's generator. Its family is whom each row is about.
        """
        train, holdout, synthetic = tables
        real, made = (subset(table, MAX_ROWS, self.seed) for table in (holdout, synthetic))
        who, other = (family(tables, name) for tables in (self.train, self.holdout))
        if real is not holdout:
            other = other[kept_rows(len(other), MAX_ROWS, self.seed)]
        evidence = replace(evidence or Evidence(), entities=(who, other))
        fewest = self.fewest
        return evaluate_tables(train, real, made, schema, seed=self.seed, evidence=evidence, fewest=fewest)


def trends(real: Flat, made: pa.Table, ceiling: pa.Table, others: list[str], seed: int) -> Ends:
    """How alike the pairs of an own column and one of the others are: marginals and associations."""
    used = [f for f in real.schema.fields if f.name in (*real.own, *others)]
    schema = real.schema.model_copy(update={"fields": tuple(used), "target": None})
    judge = TabularJudge(real.columns, schema, seed=seed)
    names = [*judge.numeric, *judge.choices]
    pairs = [(names.index(a), names.index(b)) for a in real.own for b in others]
    if len(pairs) > MAX_PAIRS:
        pick = numpy_rng(seed, "evaluation", "pairs").choice(len(pairs), MAX_PAIRS, replace=False)
        pairs = [pairs[i] for i in np.sort(pick)]
    known = associations(judge.digits, pairs)
    views: dict[str, View] = {
        "value": judge.view(judge.thin(made)),
        "ceiling": judge.view(judge.thin(ceiling)),
    }
    views["floor"] = judge.scramble(views["ceiling"], numpy_rng(seed, "evaluation", "scramble"))
    return {end: float(np.mean(judge.between(view, pairs, known))) for end, view in views.items()}


def references(sides: Sides, name: str, column: str) -> Ends | None:
    """What a row and its parents owe to the row it names; None where one side has no columns."""
    real, made, known = (beside(t, name, column) for t in (sides.holdout, sides.synthetic, sides.train))
    if not real.own or not real.above:
        return None
    ceiling = known.columns.filter(pa.array(sides.kept[name]))
    return trends(real, made.columns, ceiling, real.above, sides.seed)


def popularity(sides: Sides, name: str, child: str, column: str) -> Ends:
    """How many rows of `child` name a row of this table in that column."""
    what = (child, column)
    rng = numpy_rng(sides.seed, "evaluation", "named", name, child, column)
    real, ceiling = sides.holdout[name].named[what], sides.train[name].named[what][sides.kept[name]]
    dealt = np.bincount(rng.integers(0, len(ceiling), ceiling.sum()), minlength=len(ceiling))
    more = _times(sides, child) / _times(sides, name)

    def some(counts: np.ndarray, share: float) -> np.ndarray:
        return rng.binomial(counts, share) if share < 1.0 else counts

    wanted = some(real, more)
    found = {"value": some(sides.synthetic[name].named[what], 1 / more)}
    found |= {"ceiling": some(ceiling, more), "floor": some(dealt, more)}
    return {end: 1.0 - kolmogorov_smirnov(wanted, many) for end, many in found.items()}


def parentless(sides: Sides, child: str) -> Ends | None:
    """How many rows have no parent, where some need none."""
    if sides.holdout[child].alone is None and sides.synthetic[child].alone is None:
        return None
    real, made = (_lone(tables[child]).mean() for tables in (sides.holdout, sides.synthetic))
    known = _lone(sides.train[child])[sides.kept[child]]
    found = {"value": float(made), "ceiling": float(known.mean()) if len(known) else 0.0, "floor": 0.0}
    return {end: 1.0 - abs(float(real) - share) for end, share in found.items()}


def _lone(kin: RelatedTable) -> np.ndarray:
    return np.zeros(kin.rows, bool) if kin.alone is None else kin.alone


def levels(sides: Sides, name: str) -> Iterator[tuple[str, Ends]]:
    """(column, how many rows are above each) of a table that refers to itself; at the floor none are."""
    for column, real in sides.holdout[name].levels.items():
        made, known = (tables[name].levels[column] for tables in (sides.synthetic, sides.train))
        found = {"value": made, "ceiling": known[sides.kept[name]], "floor": np.zeros(1)}
        yield column, {end: 1.0 - kolmogorov_smirnov(real, some) for end, some in found.items()}


def integrity(tables: Tables) -> dict[str, float]:
    """What rows would lack -> the share that do not lack it: a parent, or the row a reference names."""
    found = {
        f"{n} have no parent": (k.parents >= 0) | (False if k.alone is None else k.alone)
        for n, k in tables.items()
        if k.parent is not None
    }
    for name, kin in tables.items():
        found |= {f"{name} name no {c} that is there": ~r.lost for c, r in kin.refers.items()}
        found |= {f"{name} are in a circle by {c}, or above one": r >= 0 for c, r in kin.levels.items()}
    return {what: float(there.mean()) for what, there in found.items()}


def unjudged(sides: Sides, small: list[str]) -> tuple[str, ...]:
    """What is to be said of tables of too few held-out rows."""
    few = {name: f"{sides.holdout[name].rows} held-out rows (it takes {sides.fewest})" for name in small}
    return tuple(
        f"{n}: not judged by itself, for {text}; what others owe to it is" for n, text in few.items()
    )


def _times(sides: Sides, name: str) -> float:
    """Generated rows for each of the data."""
    return sides.synthetic[name].rows / (sides.train[name].rows + sides.holdout[name].rows)
