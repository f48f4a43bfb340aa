"""What the page of a table shows: columns, what they tell of each other, generated rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.constraints import NUMBERS
from genpipe.evaluation.base import Judge, View, numbers
from genpipe.evaluation.page import charts, pictures
from genpipe.evaluation.page.crowd import bins, ends, whose
from genpipe.evaluation.tabular import TabularJudge, association_matrix

MAX_COLUMNS, MAX_HEAT, EXAMPLE_ROWS = 40, 24, 8


def tabular(
    judge: Judge,
    holdout: pa.Table,
    synthetic: pa.Table,
    seed: int,
    real_examples: bool,
    who: np.ndarray | None = None,
) -> dict[str, Any]:
    """who: the entity of each real row, where the schema does not tell."""
    assert isinstance(judge, TabularJudge)
    who = whose(holdout, judge.schema) if who is None else who
    made = judge.view(synthetic)
    shapes = judge.shapes(made)
    fields = [f for f in judge.schema.fields if f.name in shapes]
    worst = sorted(shapes, key=lambda n: shapes[n])[:MAX_COLUMNS]
    columns = [
        (f.name, f.kind, shapes[f.name], _marginal(f.name, f.kind, holdout, synthetic, who))
        for f in fields
        if f.name in worst
    ]
    names = [*judge.numeric, *judge.choices]
    examples = [_plain(column).to_pylist() for column in synthetic.slice(0, EXAMPLE_ROWS).columns]
    rows = [[_cell(v) for v in row] for row in zip(*examples, strict=True)]
    return {
        "kind": "tabular",
        "columns": columns,
        "heat": heat(judge, made, names[:MAX_HEAT]) if len(names) > 1 else [],
        "names": synthetic.column_names,
        "rows": rows,
    }


def heat(
    judge: TabularJudge, made: View, names: list[str], labels: list[str] | None = None
) -> list[tuple[str, Any]]:
    """What each of these columns tells of the others: in real rows, in generated ones, the difference."""
    every = [*judge.numeric, *judge.choices]
    at, names = [every.index(name) for name in names], labels or names
    real, other = (association_matrix(d[:, at]) for d in (judge.digits, judge.digitise(made)))
    return [
        ("real", charts.heatmap(real, names, label="associations of real columns", cls="heat-real")),
        (
            "generated",
            charts.heatmap(other, names, label="associations of generated columns", cls="heat-made"),
        ),
        ("difference", charts.heatmap(np.abs(real - other), names, label="difference", cls="heat-diff")),
    ]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as text: Python's own have no year 0, which a zone may shift year 1 to, and no nanoseconds."""
    return column.cast(pa.string()) if pa.types.is_temporal(column.type) else column


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return str(value)[:60]


def _marginal(name: str, kind: str, holdout: pa.Table, synthetic: pa.Table, who: np.ndarray) -> Any:
    if kind in NUMBERS:
        real, made = (numbers(t.column(name), name) for t in (holdout, synthetic))
        who, real, made = who[~np.isnan(real)], real[~np.isnan(real)], made[~np.isnan(made)]
        if not len(real) or not len(made):
            shares = (float(not len(v)) for v in (real, made))
            return charts.paired_bars([pictures.MISSING], *([s] for s in shares), label=name)
        low, high = ends(real, who) or (float(v) for v in np.quantile(made, (0.01, 0.99)))
        frame = (low, high if high > low else low + 1.0)
        edges = np.linspace(*frame, min(24, max(6, len(real) // 20)) + 1)
        outlined = np.histogram(np.clip(made, *frame), edges)[0] / len(made)
        marks = [_moment(v, holdout.column(name).type) for v in frame]
        return charts.histogram(
            bins(real, who, edges).tolist(), outlined.tolist(), *marks, label=f"distribution of {name}"
        )
    shown, other = (
        pictures.frequencies(holdout.column(name), who),
        pictures.frequencies(synthetic.column(name)),
    )
    names = list(shown or other)[:8]
    return charts.paired_bars(
        names,
        [shown.get(n, 0.0) for n in names],
        [other.get(n, 0.0) for n in names],
        label=f"frequencies of {name}",
    )


def _moment(value: float, kind: pa.DataType) -> str:
    """A tick for a number or a point in time."""
    if pa.types.is_temporal(kind):  # an end may lie beyond what the type, and Python's own dates, know
        unit: Any = "D" if pa.types.is_date(kind) else kind.unit
        whole = min(2**63 - 1, max(1 - 2**63, int(value)))
        return str(np.datetime64(whole, unit).astype("datetime64[D]"))
    return charts.short(value)
