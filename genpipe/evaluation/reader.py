"""What a careful reader of a table sees: how values are written, and what every row keeps.

Scores of shapes and pairs cut numbers into bins, and so do not see a price that ends in 37 where all others
end in 95, a clock time of 13:75, a total that is not the sum of its parts, a parcel that left before its
order. Here each of these is a clue: a number that says how it is written, or whether it keeps a rule.

rules: what nearly all training rows keep, and the share of rows that keep all of it.
reader: area under the curve of boosted trees that see clues beside values (`learners.tell_apart`).

    N rows · C clues
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from genpipe.evaluation.base import MAX_ROWS, subset
from genpipe.evaluation.clues import (
    FEWEST,
    KEPT,
    Clue,
    columns,
    compared,
    curves,
    determined,
    divided,
    fitting,
    followed,
    missing,
    moments,
    moments_as_numbers,
    ratios,
    summed,
    sums,
    written,
)
from genpipe.evaluation.learners import tell_apart
from genpipe.evaluation.report import Score
from genpipe.evaluation.tabular import TabularJudge
from genpipe.schema import Schema
from genpipe.seeds import derive, numpy_rng

RULE_ROWS = 50_000  # training rows that rules are sought in
SELDOM, MOST = 0.01, 150  # share of rows in which a clue is another, and how many clues, for trees to look at
ROUNDS, ROUND = (20, 60), 50  # of boosting, at least and at most; rows of either side that a round takes
NAMED = 3  # broken rules that are told


@dataclass(frozen=True)
class Rule:
    """wanted: what the clue is in all rows."""

    text: str
    clue: str
    wanted: float


class Reader:
    """Knows the training rows, and reads others."""

    def __init__(self, train: pa.Table, schema: Schema, *, seed: int = 0) -> None:
        self.schema, self.seed = schema, seed
        train = subset(train, RULE_ROWS, seed)
        numeric, choices = columns(train, schema)
        self.sums, self.ratios = list(sums(numeric)), list(ratios(numeric))
        self.curves = list(curves(numeric))
        self.fits = {(a, b): known for a, b, known in determined(numeric, choices)}
        found = self.clues(train)
        self.rules = [rule for clue in found.values() if (rule := _rule(clue)) is not None]

    def clues(self, table: pa.Table) -> dict[str, Clue]:
        numeric, choices = columns(table, self.schema)
        found = [clue for name, x in numeric.items() for clue in written(name, x)]
        for field in self.schema.of_kind("date", "timestamp"):
            found += moments(field.name, table.column(field.name))
        found += compared(self.schema, moments_as_numbers(table, self.schema) | numeric)
        found += summed(numeric, self.sums)
        found += divided(numeric, self.ratios)
        found += followed(numeric, self.curves)
        found += fitting(numeric | choices, self.fits)
        found += missing(table, self.schema)
        return {clue.name: clue for clue in found}

    def broken(self, clues: Mapping[str, Clue]) -> tuple[np.ndarray, dict[str, float]]:
        """((N,) whether a row breaks a rule, the share of rows that break each)."""
        broken, each = np.zeros(len(next(iter(clues.values())).values), bool), dict[str, float]()
        for rule in self.rules:
            values = clues[rule.clue].values
            breaks = ~np.isnan(values) & (values != rule.wanted)
            broken |= breaks
            each[rule.text] = float(breaks.mean())
        return broken, each


def read(
    judge: TabularJudge, train: pa.Table, real: pa.Table, holdout: pa.Table, synthetic: pa.Table
) -> tuple[list[Score], list[str]]:
    """(the scores `reader` and `rules`, what breaks in words). real: as many training rows as generated."""
    seed, sides = judge.seed, {"value": synthetic, "ceiling": holdout, "real": real}
    thin = {end: subset(table, MAX_ROWS, seed) for end, table in sides.items()}
    thin["floor"] = _shuffled(thin["real"], seed)
    reader = Reader(train, judge.schema, seed=seed)
    clues = {end: reader.clues(table) for end, table in thin.items()}
    kept, said = {}, list[str]()
    if reader.rules:
        shares = {end: reader.broken(clues[end]) for end in ("value", "ceiling", "floor")}
        kept = {end: 1.0 - float(broken.mean()) for end, (broken, _) in shares.items()}
        said = _told(shares["value"][1], shares["ceiling"][1])
    shown = _shown(clues)
    matrices = {
        end: np.concatenate(
            [judge.matrix(judge.view(table)), *(clues[end][name].values[:, None] for name in shown)], 1
        )
        for end, table in thin.items()
        if end != "floor"
    }
    folds = derive(seed, "evaluation", "reader")
    rounds = int(np.clip(min(t.num_rows for t in thin.values()) // ROUND, *ROUNDS))
    apart = {
        "value": max(0.5, tell_apart(matrices["ceiling"], matrices["value"], folds, rounds=rounds)),
        "ceiling": max(0.5, tell_apart(matrices["ceiling"], matrices["real"], folds, rounds=rounds)),
    }
    return _scores(apart, kept, thin["value"].num_rows, thin["ceiling"].num_rows), said


def _shuffled(table: pa.Table, seed: int) -> pa.Table:
    """Every column shuffled on its own."""
    rng = numpy_rng(seed, "evaluation", "shuffled")
    columns = [column.take(pa.array(rng.permutation(table.num_rows))) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def _shown(clues: Mapping[str, Mapping[str, Clue]]) -> list[str]:
    """The clues that trees look at: those that are not nearly the same in all rows, generated or real."""
    out = []
    for name, clue in clues["value"].items():
        both = np.concatenate([clue.values, clues["ceiling"][name].values])
        both = np.where(np.isnan(both), -1.0, both)
        if not clue.threshold and np.mean(both == np.median(both)) < 1 - SELDOM:
            out.append(name)
    return out[:MOST]


def _scores(apart: dict[str, float], kept: dict[str, float], made: int, real: int) -> list[Score]:
    value = kept.get("value", 1.0)
    reader = Score(
        name="reader", title="Careful reader", goal="min", unit="AUC", floor=1.0,
        value=apart["value"], ceiling=apart["ceiling"],
        error=float(np.sqrt((made + real + 1) / (12 * made * real))),
        meaning="how surely trees that see endings, decimals, clocks and sums tell rows apart; 0.5 is chance",
    )  # fmt: skip
    rules = Score(
        name="rules", title="Rules kept", goal="max",
        value=kept.get("value"), ceiling=kept.get("ceiling"), floor=kept.get("floor"),
        error=float(np.sqrt(max(value * (1 - value), 1 / made) / made)) if kept else None,
        meaning="share of rows that keep all that (nearly) every training row keeps",
        reason="" if kept else "no rule was found that training rows keep",
    )  # fmt: skip
    return [reader, rules]


def _told(made: Mapping[str, float], real: Mapping[str, float]) -> list[str]:
    """The rules that generated rows break most beyond what unseen real ones do."""
    worst = sorted(made, key=lambda text: real[text] - made[text])[:NAMED]
    return [
        f"{made[text]:.1%} of rows break a rule of the data: {text}"
        + (f" (real rows: {real[text]:.1%})" if real[text] else "")
        for text in worst
        if made[text] - real[text] > 1 - KEPT
    ]


def _rule(clue: Clue) -> Rule | None:
    said = clue.values[~np.isnan(clue.values)]
    if len(said) < FEWEST:
        return None
    share = float(said.mean())
    if clue.always and share >= KEPT:
        return Rule(clue.always, clue.name, 1.0)
    return Rule(clue.never, clue.name, 0.0) if clue.never and share <= 1 - KEPT else None
