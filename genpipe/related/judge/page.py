"""The page of related tables: how many children there are, what they owe to their parents, and each table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from genpipe import store
from genpipe.evaluation.base import kolmogorov_smirnov
from genpipe.evaluation.page import charts
from genpipe.evaluation.page.crowd import CROWD, bins, ends
from genpipe.evaluation.page.page import fill
from genpipe.evaluation.page.table import MAX_HEAT, heat, tabular
from genpipe.evaluation.report import Report
from genpipe.evaluation.tabular import TabularJudge
from genpipe.related.judge.tables import (
    CHILDREN,
    Flat,
    Tables,
    aggregated,
    beside,
    children_of,
    counts,
    family,
    flat,
)

BINS = 24


def write_tables_report(report: Report, uri: str, *, holdout: Tables, synthetic: Tables, title: str) -> str:
    """Write the page to `uri` (local or s3://) and return it. Of real rows it shows distributions alone."""
    show = {
        "kind": "tables",
        "children": [_children(holdout, synthetic, n) for n, k in holdout.items() if k.parent is not None],
        "between": list(_between(holdout, synthetic, report.seed)),
        "tables": [
            (
                name,
                tabular(
                    TabularJudge(kin.columns, kin.schema),
                    kin.columns,
                    made.columns,
                    report.seed,
                    False,
                    family(holdout, name),
                ),
            )
            for name, kin in holdout.items()
            for made in [synthetic[name]]
            if kin.fields and name in report.tables
        ],
    }
    store.write_bytes(uri, fill(report, show, title=title).encode())
    return uri


def _children(holdout: Tables, synthetic: Tables, child: str) -> tuple[str, float, str, Any]:
    """(title, similarity, what stands below, chart) of the number of children."""
    real, made = (counts(tables, child).astype(np.float64) for tables in (holdout, synthetic))
    parent = str(holdout[child].parent)
    who = family(holdout, parent)
    low, high = (int(v) for v in ends(real, who, (0, 0.995)) or (0, float(made.max(initial=1))))
    low = max(0, low)
    step = max(1, -(-(high - low + 1) // BINS))
    edges = np.arange(low, high + step + 1, step) - 0.5
    outlined = np.histogram(np.clip(made, edges[0], edges[-1]), edges)[0] / len(made)
    chart = charts.histogram(
        bins(real, who, edges).tolist(), outlined.tolist(), str(low), str(high), label=f"number of {child}"
    )
    few = 0 < len(np.unique(who[real == 0])) < CROWD
    share = "few" if few else f"{(real == 0).mean():.1%}"
    none = f"without any: {share} real, {(made == 0).mean():.1%} generated"
    return f"{child} per row of {parent}", 1 - kolmogorov_smirnov(real, made), none, chart


def _between(holdout: Tables, synthetic: Tables, seed: int) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    for name, kin in holdout.items():
        if kin.parent is not None and kin.fields:
            real, made = flat(holdout, name), flat(synthetic, name)
            if real.above:
                yield f"{name} and their parents", _heat(real, made, [*real.above, *real.own], seed)
            yield f"{name} and the row before", _heat(real, made, [*real.before, *real.own], seed)
        for column in kin.refers:
            real, made = beside(holdout, name, column), beside(synthetic, name, column)
            if real.own and real.above:
                words = f"{name} and the {column} they name"
                yield words, _heat(real, made, [*real.above, *real.own], seed)
        children = children_of(holdout, name)
        if children and kin.fields:
            real, made = (aggregated(tables, name, {}) for tables in (holdout, synthetic))
            words = f"{name} and how many {', '.join(children)} they have"
            yield words, _heat(real, made, [*real.above, *real.own], seed)


def _heat(real: Flat, made: Flat, names: list[str], seed: int) -> list[tuple[str, Any]]:
    fields = tuple(f for f in real.schema.fields if f.name in names)
    judge = TabularJudge(real.columns, real.schema.model_copy(update={"fields": fields, "target": None}))
    labels = [f"# {n.removeprefix(CHILDREN)}" if n.startswith(CHILDREN) else n for n in names]
    return heat(judge, judge.view(judge.thin(made.columns)), names[:MAX_HEAT], labels[:MAX_HEAT])
