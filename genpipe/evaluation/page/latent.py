"""The latent space of a generator that has one: a map of its codes, and walks along their main directions.

Points of the map are codes that the generator draws. Of held-out rows it shows how many lie where, in squares
of at least five entities (crowd.py), and no row of them. Walks are decoded codes: nobody's rows.

    N drawn codes · M held-out rows · S steps of a walk
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup, escape

from genpipe.evaluation.audio import log_mel
from genpipe.evaluation.page import charts, pictures, strips
from genpipe.evaluation.page.crowd import crowded
from genpipe.fields import Audio
from genpipe.media.wav import read_clips
from genpipe.schema import Schema

SIDE, SQUARES, CLASSES, COLUMNS = 420, 28, 10, 8  # the map's pixels and squares; colours; columns of a walk
HUES = (262, 24, 150, 205, 340, 48, 100, 180, 300, 0)


@dataclass(frozen=True)
class LatentView:
    """drawn: (N, 2) codes on their two main directions. classes: (N,) of each, or none. shares: of their
    variance along these. held: (M, 2) codes of held-out rows on the same, if there is an encoder; who: (M,)
    the entity of each. walks: decoded rows, S a direction; at: (S,) where, in standard deviations. told: the
    class of the walks.
    """

    drawn: np.ndarray
    classes: np.ndarray | None
    shares: tuple[float, float]
    held: np.ndarray | None
    who: np.ndarray | None
    walks: Sequence[pa.Table]
    at: np.ndarray
    told: str = ""


def latent_section(view: LatentView, schema: Schema) -> dict[str, Any]:
    """What the page's template shows of it."""
    names = _names(view.classes)
    walks = [(f"direction {k + 1}", _walk(table, schema)) for k, table in enumerate(view.walks)]
    return {
        "map": chart_of(view, names),
        "key": [(name, _colour(k)) for k, name in enumerate(names)],
        "held": view.held is not None,
        "shares": " and ".join(f"{share:.0%}" for share in view.shares),
        "walks": [(name, kind, shown) for name, (kind, shown) in walks],
        "at": [f"{step:+.1f}" for step in view.at],
        "told": view.told,
    }


def _names(classes: np.ndarray | None) -> list[str]:
    """Classes that have a colour: the commonest, in order."""
    if classes is None:
        return []
    names, counts = np.unique(classes, return_counts=True)
    return sorted(names[np.argsort(-counts, kind="stable")][:CLASSES].tolist())


def _colour(k: int) -> str:
    return f"hsl({HUES[k % len(HUES)]} 75% 55%)"


def chart_of(view: LatentView, names: Sequence[str]) -> Markup:
    """Squares of held-out rows behind, drawn codes in front. The frame is that of the drawn codes alone."""
    low, high = (np.quantile(view.drawn, q, axis=0) for q in (0.002, 0.998))
    middle, wide = (low + high) / 2, np.maximum((high - low).max() * 1.15, 1e-9)

    def place(points: np.ndarray) -> np.ndarray:
        """In [0, 1) within the frame."""
        return (points - middle) / wide * [1, -1] + 0.5

    body = _squares(view, place)
    colours = {name: _colour(k) for k, name in enumerate(names)}
    at = place(view.drawn)
    for i in np.flatnonzero(((at >= 0) & (at < 1)).all(1)):
        fill = colours.get(str(view.classes[i]), "") if view.classes is not None else ""
        style = f'fill="{fill}"' if fill else 'class="dot"'
        x, y = at[i] * SIDE
        body += f'<circle {style} fill-opacity="0.75" cx="{x:.1f}" cy="{y:.1f}" r="2.1"/>'
    head = (
        f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="map of codes" style="max-width:{SIDE}px">'
    )
    return Markup(head + body + "</svg>")


def _squares(view: LatentView, place: Any) -> str:
    if view.held is None or view.who is None or not len(view.held):
        return ""
    at = np.floor(place(view.held) * SQUARES).astype(int)
    inside = ((at >= 0) & (at < SQUARES)).all(1)
    cell = (at[:, 1] * SQUARES + at[:, 0])[inside]
    counts = np.bincount(cell, minlength=SQUARES**2)
    counts = np.where(crowded(cell, view.who[inside], SQUARES**2), counts, 0)
    size, body = SIDE / SQUARES, ""
    for k in np.flatnonzero(counts):
        y, x = divmod(int(k), SQUARES)
        share = 0.12 + 0.68 * counts[k] / counts.max()
        body += (
            f'<rect class="real" x="{x * size:.1f}" y="{y * size:.1f}" width="{size:.1f}" '
            f'height="{size:.1f}" style="opacity:{share:.2f}"/>'
        )
    return body


def _walk(table: pa.Table, schema: Schema) -> tuple[str, Any]:
    """(how the template shows it, what it shows)."""
    if schema.kind == "image":
        return "picture", [pictures.data_uri(strips.images([table], schema), "image/png")]
    if schema.kind == "series":
        return "picture", [pictures.data_uri(strips.courses([table], schema), "image/png")]
    if schema.kind == "audio":
        field = next(f for f in schema.fields if isinstance(f, Audio))
        mel = log_mel(read_clips(table.column(field.name), field), field.rate)
        return "picture", [pictures.data_uri(pictures.spectrogram(shade), "image/png") for shade in mel]
    return "columns", _changing(table, schema)


def _changing(table: pa.Table, schema: Schema) -> list[tuple[str, list[Markup]]]:
    """(column, its values along the walk) of the columns that change most often on it."""
    found = []
    for field in schema.fields:
        if field.kind in ("identifier", "text"):
            continue
        values = table.column(field.name).to_pylist()
        if (turns := len({str(v) for v in values})) > 1:
            shown = [charts.short(v) if isinstance(v, float) else str(v)[:24] for v in values]
            found.append((turns, field.name, [escape(word) for word in shown]))
    found.sort(key=lambda each: -each[0])
    return [(name, values) for _, name, values in found[:COLUMNS]]
