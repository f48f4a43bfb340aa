"""Small SVG charts as strings: no scripts, no fonts, colours from the page's CSS, so they follow light and
dark.

Only numbers and escaped text enter the markup. Class `real` is drawn behind, class `made` (generated) in
front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 260, 110


def _svg(body: str, width: float, height: float, label: str) -> Markup:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
    return Markup(head + body + "</svg>")


def _text(x: float, y: float, words: Any, anchor: str = "start", cls: str = "tick") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{cls}">{escape(str(words))}</text>'


def _points(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def short(value: float) -> str:
    """A tick label of at most about six characters."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else str(value)
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scale = 1e3 if letter == "k" else limit
            return f"{value / scale:.3g}{letter}"
    if size >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if size >= 1e-3 else f"{value:.0e}"


def histogram(
    real: Sequence[float],
    made: Sequence[float],
    low: str,
    high: str,
    *,
    label: str,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Markup:
    """Two shares per bin: real as filled steps, generated as an outline over them."""
    top = max([*real, *made, 1e-12])
    floor = height - 16
    step = width / len(real)
    edges = np.repeat(np.arange(len(real) + 1) * step, 2)[1:-1]

    def rise(shares: Sequence[float]) -> np.ndarray:
        return np.repeat(floor - np.asarray(shares) / top * (floor - 4), 2)

    body = f'<polygon class="real" points="0,{floor} {_points(edges, rise(real))} {width},{floor}"/>'
    body += f'<polygon class="made-area" points="0,{floor} {_points(edges, rise(made))} {width},{floor}"/>'
    body += f'<polyline class="made" points="{_points(edges, rise(made))}"/>'
    body += f'<line class="axis" x1="0" x2="{width}" y1="{floor}" y2="{floor}"/>'
    return _svg(
        body + _text(0, height - 3, low) + _text(width, height - 3, high, "end"), width, height, label
    )


def paired_bars(names: Sequence[str], real: Sequence[float], made: Sequence[float], *, label: str) -> Markup:
    """One pair of horizontal bars per category, real above generated."""
    row, left, top = 22, 84, max([*real, *made, 1e-12])
    scale = (WIDTH - left - 38) / top
    body = ""
    for i, (name, a, b) in enumerate(zip(names, real, made, strict=True)):
        y = i * row + 3
        shown = name if len(name) <= 14 else name[:13] + "…"
        body += f"<g><title>{escape(name)}</title>{_text(left - 6, y + 11, shown, 'end')}</g>"
        body += f'<rect class="real" x="{left}" y="{y}" width="{a * scale:.1f}" height="7" rx="2"/>'
        body += f'<rect class="made-bar" x="{left}" y="{y + 8}" width="{b * scale:.1f}" height="7" rx="2"/>'
        body += _text(left + max(a, b) * scale + 5, y + 11, f"{b:.0%}")
    return _svg(body, WIDTH, max(1, len(names)) * row + 4, label)


def heatmap(matrix: np.ndarray, names: Sequence[str], *, label: str, cls: str = "heat") -> Markup:
    """A square of association strengths in [0, 1]; names on the left, the value in a tooltip."""
    n = len(names)
    left, cell = 78, (WIDTH - 78) / max(1, n)
    body = ""
    for i in range(n):
        shown = names[i] if len(names[i]) <= 13 else names[i][:12] + "…"
        if n <= 24:
            body += _text(left - 5, (i + 0.5) * cell + 3, shown, "end")
        for j in range(n):
            value = float(np.clip(matrix[i, j], 0, 1))
            tip = f"<title>{escape(names[i])} × {escape(names[j])}: {value:.2f}</title>"
            place = (
                f'x="{left + j * cell:.1f}" y="{i * cell:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}"'
            )
            body += f'<rect class="{cls}" {place} fill-opacity="{0.05 + 0.95 * value:.3f}">{tip}</rect>'
    return _svg(body, WIDTH, n * cell + 2, label)


def courses(lines: np.ndarray, low: float, high: float, *, cls: str, label: str, height: int = 120) -> Markup:
    """(N, T) thin lines on a common scale."""
    x = np.linspace(0, WIDTH, lines.shape[1])
    body = "".join(
        f'<polyline class="thin {cls}" points="{_points(x, _scaled(line, low, high, height))}"/>'
        for line in lines
    )
    return _svg(body + _text(2, 10, short(high)) + _text(2, height - 3, short(low)), WIDTH, height, label)


def fan(
    real: np.ndarray | None, made: np.ndarray, low: float, high: float, *, label: str, height: int = 120
) -> Markup:
    """Median and 10-90 % band over steps, generated over real; inputs (3, T): 10 %, 50 %, 90 %."""
    x = np.linspace(0, WIDTH, made.shape[1])
    body = ""
    for values, cls in ((real, "real"), (made, "made")):
        if values is None:
            continue
        bottom, middle, top = (_scaled(q, low, high, height) for q in values)
        ring = _points(np.r_[x, x[::-1]], np.r_[top, bottom[::-1]])
        body += f'<polygon class="band {cls}-band" points="{ring}"/>'
        body += f'<polyline class="median {cls}-line" points="{_points(x, middle)}"/>'
    return _svg(body + _text(2, 10, short(high)) + _text(2, height - 3, short(low)), WIDTH, height, label)


def _scaled(values: np.ndarray, low: float, high: float, height: int) -> np.ndarray:
    return np.clip(height - 14 - (values - low) / max(high - low, 1e-12) * (height - 20), -5, height + 5)


def curve(steps: Sequence[float], values: Sequence[float], *, label: str) -> Markup:
    """One metric over training steps, with its first, last and extreme values readable."""
    y = np.asarray(values, dtype=float)
    low, high = float(y.min()), float(y.max())
    span = (high - low) or 1.0
    x = np.asarray(steps, dtype=float)
    x = (x - x[0]) / max(1e-12, x[-1] - x[0]) * (WIDTH - 8) + 4
    heights = HEIGHT - 22 - (y - low) / span * (HEIGHT - 36)
    body = f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT - 16}" y2="{HEIGHT - 16}"/>'
    body += f'<polyline class="made" points="{_points(x, heights)}"/>'
    body += f'<circle class="dot" cx="{x[-1]:.1f}" cy="{heights[-1]:.1f}" r="3.2"/>'
    body += _text(2, 9, short(high)) + _text(WIDTH - 2, HEIGHT - 3, f"step {short(steps[-1])}", "end")
    return _svg(body + _text(2, HEIGHT - 3, f"step {short(steps[0])}"), WIDTH, HEIGHT, label)
