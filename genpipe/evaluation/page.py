"""`report.html`: one self-contained page. Everything is inline, everything that came from data is escaped.

Generated rows are shown as they are. Of real data the page shows distributions, and for images, series and
audio a few *holdout* records beside the generated ones, unless `real_examples` is off; never a training row,
and never a real table row or text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.constraints import NUMBERS
from genpipe.evaluation import JUDGES, charts, pictures
from genpipe.evaluation.audio import log_mel
from genpipe.evaluation.base import Judge, View, numbers
from genpipe.evaluation.report import Report
from genpipe.evaluation.tabular import TabularJudge, association_matrix
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng

MAX_COLUMNS, MAX_HEAT, EXAMPLE_ROWS, LINES, CLIPS = 40, 24, 8, 24, 8

History = Sequence[Mapping[str, float]]


def write_report(
    report: Report,
    uri: str,
    *,
    holdout: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    history: History = (),
    title: str = "",
    real_examples: bool = True,
) -> str:
    """Write the page to `uri` (local or s3://) and return it.

    history: rows with a ``step`` and metrics, drawn as training curves.
    """
    page = render(
        report,
        holdout=holdout,
        synthetic=synthetic,
        schema=schema,
        history=history,
        title=title,
        real_examples=real_examples,
    )
    store.write_bytes(uri, page.encode())
    return uri


def render(
    report: Report,
    *,
    holdout: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    history: History,
    title: str,
    real_examples: bool,
) -> str:
    """The page as a string; equal inputs give equal bytes."""
    judge = JUDGES[schema.kind](holdout, schema, seed=report.seed)
    sections = {"tabular": tabular, "image": _image, "series": _series, "text": _text, "audio": _audio}
    show = sections[schema.kind](judge, holdout, synthetic, report.seed, real_examples)
    return fill(report, show, title=title, history=history, real_examples=real_examples)


def fill(
    report: Report, show: Mapping[str, Any], *, title: str, history: History = (), real_examples: bool = False
) -> str:
    """The template with what a kind has to show."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("genpipe", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        title=title or str(report.lineage.get("dataset", "")) or f"{report.kind} generator",
        show=show,
        curves=_curves(history),
        distances=_distances(report),
        real_examples=real_examples,
    )


def _distances(report: Report) -> Any:
    found = report.distances
    return found and charts.histogram(
        found.holdout,
        found.synthetic,
        "0: a copy",
        charts.short(found.high),
        label="distance to the closest training row",
        width=900,
        height=170,
    )


def _curves(history: History) -> list[tuple[str, Any]]:
    rows = [r for r in history if "step" in r]
    names = sorted({k for r in rows for k in r if k != "step"}, key=lambda n: ("fidelity" not in n, n))
    found = []
    for name in names[:8]:
        points = [
            (float(r["step"]), float(r[name]))
            for r in rows
            if isinstance(r.get(name), int | float) and np.isfinite(r[name])
        ]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            found.append((name, charts.curve(steps, values, label=name)))
    return found


def tabular(
    judge: Judge, holdout: pa.Table, synthetic: pa.Table, seed: int, real_examples: bool
) -> dict[str, Any]:
    assert isinstance(judge, TabularJudge)
    made = judge.view(synthetic)
    shapes = judge.shapes(made)
    fields = [f for f in judge.schema.fields if f.name in shapes]
    worst = sorted(shapes, key=lambda n: shapes[n])[:MAX_COLUMNS]
    columns = [
        (f.name, f.kind, shapes[f.name], _marginal(f.name, f.kind, holdout, synthetic))
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


def _marginal(name: str, kind: str, holdout: pa.Table, synthetic: pa.Table) -> Any:
    if kind in NUMBERS:
        real, made = (v[~np.isnan(v)] for v in (numbers(t.column(name), name) for t in (holdout, synthetic)))
        if not len(real) or not len(made):
            return charts.paired_bars(
                [pictures.MISSING], [float(not len(real))], [float(not len(made))], label=name
            )
        low, high = (float(v) for v in np.quantile(real, (0.01, 0.99)))
        high = high if high > low else low + 1.0
        edges = np.linspace(low, high, min(24, max(6, len(real) // 12)) + 1)
        shares = [np.histogram(np.clip(v, low, high), edges)[0] / len(v) for v in (real, made)]
        ends = [_moment(v, holdout.column(name).type) for v in (low, high)]
        return charts.histogram(
            shares[0].tolist(), shares[1].tolist(), *ends, label=f"distribution of {name}"
        )
    real, made = (pictures.frequencies(t.column(name)) for t in (holdout, synthetic))
    names = list(real)[:8]
    return charts.paired_bars(
        names, [real[n] for n in names], [made.get(n, 0.0) for n in names], label=f"frequencies of {name}"
    )


def _moment(value: float, kind: pa.DataType) -> str:
    """A tick for a number or a point in time."""
    if pa.types.is_date(kind):
        return str(pa.scalar(int(value), pa.int32()).cast(pa.date32()).as_py())
    if pa.types.is_timestamp(kind):
        return str(np.datetime64(int(value), kind.unit).astype("datetime64[D]"))
    return charts.short(value)


def _image(
    judge: Judge, holdout: pa.Table, synthetic: pa.Table, seed: int, real_examples: bool
) -> dict[str, Any]:
    real, made = judge.real, judge.view(synthetic.slice(0, 2000))
    pairs: dict[str, list[str]] = {}
    for side, view in (("real", real), ("made", made)):
        if side == "real" and not real_examples:
            continue
        for name, found in pictures.by_class(view.labels, len(view), seed, per_class=8):
            parts = [found] if name else np.array_split(found[:40], 5)
            for k, part in enumerate(p for p in parts if len(p)):
                row = pairs.setdefault(name or f" {k}", ["", ""])
                row[side == "made"] = pictures.data_uri(pictures.strip(view.x[part]), "image/png")
    return {
        "kind": "image",
        "rows": [(name.strip() if not name.startswith(" ") else "", *uris) for name, uris in pairs.items()],
    }


def _series(
    judge: Judge, holdout: pa.Table, synthetic: pa.Table, seed: int, real_examples: bool
) -> dict[str, Any]:
    real, made = judge.real.x, judge.view(synthetic.slice(0, 2000)).x
    rng = numpy_rng(seed, "evaluation", "show")
    channels = []
    for c, name in enumerate(judge.main("series")[:8]):
        a, b = real[..., c], made[..., c]
        low, high = (float(v) for v in np.quantile(a, (0.005, 0.995)))
        drawn = [("both: median and 10–90 % band", charts.fan(a, b, low, high, label=f"{name}: bands"))]
        for words, values, cls in (("real (holdout)", a, "real-line"), ("generated", b, "made-line")):
            if words == "generated" or real_examples:
                lines = values[rng.permutation(len(values))[:LINES]]
                drawn.append((words, charts.courses(lines, low, high, cls=cls, label=f"{name}: {words}")))
        channels.append((name, drawn))
    return {"kind": "series", "channels": channels}


def _text(
    judge: Judge, holdout: pa.Table, synthetic: pa.Table, seed: int, real_examples: bool
) -> dict[str, Any]:
    pick = numpy_rng(seed, "evaluation", "show").permutation(synthetic.num_rows)[:6]
    column = synthetic.column(judge.main("text")[0])
    return {"kind": "text", "documents": [(column[int(i)].as_py() or "")[:1200] for i in pick]}


def _audio(
    judge: Judge, holdout: pa.Table, synthetic: pa.Table, seed: int, real_examples: bool
) -> dict[str, Any]:
    name = judge.main("audio")[0]
    rate = next(f.rate for f in judge.schema.fields if f.kind == "audio")
    groups = []
    for words, table in (("generated", synthetic.slice(0, 2000)), ("real (holdout)", holdout)):
        if words != "generated" and not real_examples:
            continue
        view = judge.view(table)
        classes = pictures.by_class(view.labels, len(view), seed)
        picks = [(label, i) for label, found in classes for i in found[: max(1, CLIPS // len(classes))]]
        mel = log_mel(view.x[[i for _, i in picks]], rate)
        clips = [
            (
                label,
                pictures.data_uri(pictures.spectrogram(shade), "image/png"),
                pictures.data_uri(table.column(name)[int(i)].as_py()["bytes"], "audio/wav"),
            )
            for (label, i), shade in zip(picks, mel, strict=True)
        ]
        groups.append((words, clips))
    return {"kind": "audio", "groups": groups}
