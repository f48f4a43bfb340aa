"""`report.html`: one self-contained page. Everything is inline, everything that came from data is escaped.

Generated rows are shown as they are, unless they copy. Of real data the page shows distributions, of which
each bar and bin has at least five entities in it (crowd.py). With `real_examples` there are a few *holdout*
images, series and clips beside the generated ones, and the page says so at its top; never a training row, and
never a real table row or text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.evaluation import JUDGES
from genpipe.evaluation.audio import log_mel
from genpipe.evaluation.base import Judge
from genpipe.evaluation.page import charts, pictures
from genpipe.evaluation.page.crowd import bands, ends, whose
from genpipe.evaluation.page.latent import LatentView, latent_section
from genpipe.evaluation.page.table import tabular
from genpipe.evaluation.report import Report
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng

REAL_KINDS = ("image", "series", "audio")  # of which real examples may be shown
LINES, CLIPS = 24, 8

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
    real_examples: bool = False,
    latent: LatentView | None = None,
) -> str:
    """Write the page to `uri` (local or s3://) and return it.

    history: rows with a ``step`` and metrics, drawn as training curves. latent: of a generator with codes.
    """
    page = render(
        report,
        holdout=holdout,
        synthetic=synthetic,
        schema=schema,
        history=history,
        title=title,
        real_examples=real_examples,
        latent=latent,
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
    latent: LatentView | None = None,
) -> str:
    """The page as a string; equal inputs give equal bytes."""
    judge = JUDGES[schema.kind](holdout, schema, seed=report.seed)
    sections = {"tabular": tabular, "image": _image, "series": _series, "text": _text, "audio": _audio}
    show = sections[schema.kind](judge, holdout, synthetic, report.seed, real_examples)
    if schema.kind == "series" and withheld(report) and not real_examples:
        show["channels"] = [(name, drawn[:1]) for name, drawn in show["channels"]]
    codes = None if latent is None else latent_section(latent, schema)
    return fill(report, show, title=title, history=history, real_examples=real_examples, codes=codes)


def fill(
    report: Report,
    show: Mapping[str, Any],
    *,
    title: str,
    history: History = (),
    real_examples: bool = False,
    codes: Mapping[str, Any] | None = None,
) -> str:
    """The template with what a kind has to show."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("genpipe", "evaluation/page"),
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
        codes=codes,
        distances=_distances(report),
        real_examples=real_examples and show["kind"] in REAL_KINDS,
        withheld="" if real_examples else withheld(report),
    )


def withheld(report: Report) -> str:
    """Why the single rows that a generator makes are not shown, or an empty string: they may be real ones."""
    every = [report, *report.tables.values()]
    if any(one.verdict in ("copies", "leaks") for one in every):
        return "Generated rows are left out: the generator copies its training data or tells of it."
    return ""


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
    who = whose(judge.thin(holdout), judge.schema)
    rng = numpy_rng(seed, "evaluation", "show")
    channels = []
    for c, name in enumerate(judge.main("series")[:8]):
        a, b = real[..., c], made[..., c]
        low, high = ends(a.ravel(), np.repeat(who, a.shape[1]), (0.005, 0.995)) or (
            float(v) for v in np.quantile(b, (0.005, 0.995))
        )
        band = bands(a, who)
        told = "both: median and 10–90 % band" if band is not None else "generated: median and 10–90 % band"
        made_band = np.quantile(b, (0.1, 0.5, 0.9), axis=0)
        drawn = [(told, charts.fan(band, made_band, low, high, label=f"{name}: bands"))]
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
