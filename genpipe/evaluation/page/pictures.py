"""Raster pictures: strips of images and spectrograms for the page, and `samples.png`, the grid people look
at first.

matplotlib is used through its objects on the Agg canvas only, and loaded when a picture is made: no global
state, no display, no cost at import.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image as Picture

from genpipe import store
from genpipe.evaluation.base import Judge, numbers
from genpipe.evaluation.page.crowd import bands, bins, crowded, ends, whose
from genpipe.evaluation.series import windows
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE, REAL, INK = "#6d4aff", "#9aa5b8", "#1c2433"
CLASSES, PER_CLASS = 10, 10
MISSING = "(missing)"


def data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def png(pixels: np.ndarray, *, scale: int = 1) -> bytes:
    """(H, W), (H, W, 1) or (H, W, 3) in [0, 1] as PNG bytes, each pixel `scale` wide."""
    array = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    array = array.repeat(scale, 0).repeat(scale, 1)
    sink = io.BytesIO()
    Picture.fromarray(array).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def strip(images: np.ndarray, *, gap: int = 1) -> bytes:
    """(N, H, W, C) side by side as one PNG with clear gaps, small images enlarged with hard pixels."""
    count, height, width, _ = images.shape
    scale = max(1, round(56 / max(height, width)))
    gap *= max(1, round(4 / scale))
    sheet = np.zeros((height, count * (width + gap) - gap, 4), dtype=np.float32)
    for i, image in enumerate(images):
        sheet[:, i * (width + gap) : i * (width + gap) + width, :3] = (
            image  # one grey channel fills all three
        )
        sheet[:, i * (width + gap) : i * (width + gap) + width, 3] = 1.0
    return png(sheet, scale=scale)


def spectrogram(mel: np.ndarray) -> bytes:
    """(steps, bands) log power as a coloured PNG, low tones at the bottom."""
    from matplotlib import colormaps

    low, high = np.log(1e-4), max(float(mel.max()), np.log(1e-4) + 1)
    shade = np.clip((mel.T[::-1] - low) / (high - low), 0, 1)
    return png(np.asarray(colormaps["magma"](shade))[..., :3], scale=3)


def by_class(
    labels: np.ndarray | None, rows: int, seed: int, *, per_class: int = PER_CLASS
) -> list[tuple[str, np.ndarray]]:
    """(label, row numbers) for up to CLASSES classes, drawn by seed; one group without labels."""
    rng = numpy_rng(seed, "evaluation", "show")
    if labels is None:
        return [("", np.sort(rng.permutation(rows)[: CLASSES * per_class]))]
    names = sorted(set(labels.astype(str).tolist()))[:CLASSES]
    groups = [(name, np.flatnonzero(labels.astype(str) == name)) for name in names]
    return [(name, rng.permutation(found)[:per_class]) for name, found in groups]


def frequencies(column: pa.ChunkedArray, who: np.ndarray | None = None) -> dict[str, float]:
    """The share of each value, the commonest first and equal ones by name. who: the entity of each row, of
    real ones: what few of them have is left out.
    """
    coded = column.cast(pa.string()).fill_null(MISSING).combine_chunks().dictionary_encode()
    names, places = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    counts = np.bincount(places, minlength=len(names))
    kept = np.ones(len(names), bool) if who is None else crowded(places, who, len(names))
    order = sorted(np.flatnonzero(kept), key=lambda i: (-counts[i], names[i]))
    return {names[i]: float(counts[i]) / len(column) for i in order}


def sample_grid(
    table: pa.Table,
    schema: Schema,
    path: str,
    *,
    real: pa.Table | None = None,
    seed: int = 0,
    withheld: str = "",
) -> str:
    """Draw generated rows as `path` (a PNG, local or s3://); returns the path.

    real: for tables and series, drawn behind as distributions. Its rows are never shown.
    withheld: why single generated rows are not shown either; this text stands in their place.
    """
    draw = {
        "image": _images,
        "tabular": _marginals,
        "series": _courses,
        "text": _documents,
        "audio": _spectrograms,
    }
    draws = draw[schema.kind] if not withheld or schema.kind == "tabular" else _nothing(withheld)
    store.write_bytes(path, draws(table, schema, real, seed))
    return path


def _nothing(why: str) -> Callable[..., bytes]:
    return lambda *_: as_png(canvas(9, 0.6, why))


def as_png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    sink = io.BytesIO()
    # no creation date or version in the file: the same rows give the same bytes
    FigureCanvasAgg(figure).print_png(sink, metadata={"Software": None})
    return sink.getvalue()


def canvas(wide: float, high: float, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=130, facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    return figure


def panels(figure: Figure, count: int, columns: int) -> list[Any]:
    rows = -(-count // columns)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.axis("off")
    for axis in axes[:count]:
        axis.tick_params(labelsize=6, colors=INK, length=2)
        for side in axis.spines.values():
            side.set_color("#d5dae3")
    return list(axes[:count])


def _judge(table: pa.Table, schema: Schema) -> Judge:
    from genpipe.evaluation import JUDGES

    return JUDGES[schema.kind](table, schema)


def _images(table: pa.Table, schema: Schema, real: pa.Table | None, seed: int) -> bytes:
    view = _judge(table, schema).view(table)
    groups = by_class(view.labels, len(view), seed)
    if not groups[0][0]:
        groups = [("", part) for part in np.array_split(groups[0][1], max(1, len(groups[0][1]) // PER_CLASS))]
    _, height, width, channels = view.x.shape
    gap = max(1, height // 8)
    sheet = np.ones(
        (len(groups) * (height + gap) - gap, PER_CLASS * (width + gap) - gap, channels), dtype=np.float32
    )
    for r, (_, found) in enumerate(groups):
        for c, row in enumerate(found[:PER_CLASS]):
            top, left = r * (height + gap), c * (width + gap)
            sheet[top : top + height, left : left + width] = view.x[row]
    figure = canvas(6, 6 * sheet.shape[0] / sheet.shape[1] + 0.35, "generated images")
    axis = panels(figure, 1, 1)[0]
    axis.imshow(sheet.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_frame_on(False)
    axis.set_xticks([])
    middles = [r * (height + gap) + (height - 1) / 2 for r in range(len(groups))]
    axis.set_yticks(middles, [name[:14] for name, _ in groups])
    axis.tick_params(labelsize=9, length=0)
    return as_png(figure)


def _marginals(table: pa.Table, schema: Schema, real: pa.Table | None, seed: int) -> bytes:
    fields = [f for f in schema.fields if f.kind not in ("identifier", "text")][:16]
    figure = canvas(
        9,
        1.7 * -(-len(fields) // 4) + 0.4,
        "generated columns" + (" over real ones (grey)" if real is not None else ""),
    )
    who = whose(real, schema) if real is not None else None
    for axis, field in zip(panels(figure, len(fields), 4), fields, strict=True):
        axis.set_title(field.name[:24], fontsize=8, color=INK, loc="left")
        axis.set_yticks([])
        sides = [(t.column(field.name), w) for t, w in ((real, who), (table, None)) if t is not None]
        if field.kind in ("category", "boolean"):
            _bars(axis, [frequencies(column, w) for column, w in sides])
        else:
            _bins(axis, [(numbers(column, field.name), w) for column, w in sides])
            if field.kind in ("timestamp", "date"):
                axis.set_xticks([])
    return as_png(figure)


def _bars(axis: Any, found: list[dict[str, float]]) -> None:
    """Shares of the commonest values, those of the last of `found` (generated) in colour."""
    names = list(found[0] or found[-1])[:8]
    thick = 0.8 / len(found)
    for k, shares in enumerate(found):
        axis.barh(
            np.arange(len(names)) + k * thick,
            [shares.get(n, 0.0) for n in names],
            thick,
            color=MADE if k == len(found) - 1 else REAL,
        )
    axis.set_yticks(np.arange(len(names)) + 0.2, [n[:14] for n in names])
    axis.set_xticks([])
    axis.invert_yaxis()


def _bins(axis: Any, sides: list[tuple[np.ndarray, np.ndarray | None]]) -> None:
    """Histograms: real values filled, as far as enough entities are in a bin, generated ones outlined."""
    from matplotlib.ticker import MaxNLocator

    here = [~np.isnan(values) for values, _ in sides]
    kept = [(v[m], w if w is None else w[m]) for (v, w), m in zip(sides, here, strict=True)]
    made, (first, who) = kept[-1][0], kept[0]
    frame = ends(first, who, (0.005, 0.995)) if who is not None else None
    low, high = frame or (np.quantile(made, (0.005, 0.995)) if len(made) else (0.0, 1.0))
    number = 30 if who is None else min(30, max(6, len(first) // 20))
    edges = np.linspace(low, high if high > low else low + 1, number + 1)
    if who is not None:
        axis.bar(edges[:-1], bins(first, who, edges), np.diff(edges), align="edge", color=REAL, alpha=0.7)
    weights = np.full(len(made), 1 / max(1, len(made)))
    axis.hist(
        np.clip(made, edges[0], edges[-1]),
        bins=edges,
        weights=weights,
        histtype="step",
        color=MADE,
        linewidth=1.4,
    )
    axis.xaxis.set_major_locator(MaxNLocator(4))


def _courses(table: pa.Table, schema: Schema, real: pa.Table | None, seed: int) -> bytes:
    fields = [f for f in schema.of_kind("series")[:8] if f.kind == "series"]
    figure = canvas(
        9,
        2.0 * -(-len(fields) // 2) + 0.4,
        "generated series" + (" over the real 10-90 % band (grey)" if real is not None else ""),
    )
    pick = pa.array(np.sort(numpy_rng(seed, "evaluation", "show").permutation(table.num_rows)[:20]))
    who = whose(real, schema) if real is not None else np.zeros(0, np.int64)
    for axis, field in zip(panels(figure, len(fields), min(2, len(fields))), fields, strict=True):
        axis.set_title(field.name[:32], fontsize=8, color=INK, loc="left")
        if real is not None:
            known = windows(real.column(field.name), field.length, field.name)
            if (band := bands(known, who)) is not None:
                steps = np.arange(field.length)
                axis.fill_between(steps, band[0], band[2], color=REAL, alpha=0.4, linewidth=0)
        lines = windows(table.column(field.name).take(pick), field.length, field.name)
        axis.plot(lines.T, color=MADE, alpha=0.45, linewidth=0.7)
    return as_png(figure)


def _documents(table: pa.Table, schema: Schema, real: pa.Table | None, seed: int) -> bytes:
    pick = numpy_rng(seed, "evaluation", "show").permutation(table.num_rows)[:6]
    name = schema.of_kind("text")[0].name
    documents = [(table.column(name)[int(i)].as_py() or "")[:600] for i in pick]
    lines = [
        textwrap.wrap(d, 100, replace_whitespace=False, drop_whitespace=False) or [""] for d in documents
    ]
    broken = [[piece for line in wrapped for piece in line.split("\n")] for wrapped in lines]
    figure = canvas(9, 0.16 * sum(len(b) + 2 for b in broken) + 0.6, "generated text")
    for axis, words in zip(panels(figure, len(broken), 1), broken, strict=True):
        axis.axis("off")
        # dollar signs would start a formula
        axis.text(
            0, 1, "\n".join(words).replace("$", r"\$"), family="monospace", fontsize=7, va="top", color=INK
        )
    return as_png(figure)


def _spectrograms(table: pa.Table, schema: Schema, real: pa.Table | None, seed: int) -> bytes:
    from genpipe.evaluation.audio import log_mel

    view = _judge(table, schema).view(table)
    rate = next(f.rate for f in schema.fields if f.kind == "audio")
    groups = by_class(view.labels, len(view), seed, per_class=4 if view.labels is not None else 2)
    shown = [(name, i) for name, found in groups for i in found][:40]
    figure = canvas(9, 1.2 * -(-len(shown) // 4) + 0.4, "generated audio: log-mel spectrograms")
    mel = log_mel(view.x[[i for _, i in shown]], rate)
    for axis, (name, _), shade in zip(panels(figure, len(shown), 4), shown, mel, strict=True):
        axis.imshow(shade.T, origin="lower", aspect="auto", cmap="magma", vmin=np.log(1e-4))
        axis.set_xticks([]), axis.set_yticks([])
        axis.set_title(name[:20], fontsize=7, color=INK, loc="left")
    return as_png(figure)
