"""Rows side by side, line below line: ways between two codes, edits, walks along directions.

One picture of images or series, one sound of clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.errors import UsageError
from genpipe.evaluation.image import decode
from genpipe.evaluation.page import pictures
from genpipe.evaluation.series import windows
from genpipe.fields import Audio, Image
from genpipe.media.wav import read_clips, write_wav
from genpipe.schema import Schema

ENDS = {"image": ".png", "series": ".png", "audio": ".wav"}
PAUSE, GAP = 0.15, 0.6  # seconds of silence between two clips, and between two lines
WIDE = 56  # pixels of a small picture


def write_strip(lines: Sequence[pa.Table], schema: Schema, place: str) -> str:
    """Write lines of rows of one schema to `place` (local or s3://): .png, or of audio .wav; returns it."""
    end = ENDS.get(schema.kind)
    if end is None:
        found = f"a strip of {schema.kind} data"
        raise UsageError("STRIP", where="strip", found=found, expected="one of images, series or audio")
    if not place.lower().endswith(end):
        raise UsageError("STRIP", where="strip", found=place, expected=f"a file that ends with {end}")
    draw = {"image": images, "series": courses, "audio": sounds}[schema.kind]
    store.write_bytes(place, draw(lines, schema))
    return place


def images(lines: Sequence[pa.Table], schema: Schema) -> bytes:
    """A PNG with a line of pictures for each table, small ones enlarged with hard pixels."""
    field = next(f for f in schema.fields if isinstance(f, Image))
    high, wide, gap = field.height, field.width, max(1, field.height // 14)
    longest = max(t.num_rows for t in lines)
    sheet = np.ones((len(lines) * (high + gap) - gap, longest * (wide + gap) - gap, field.channels))
    for r, table in enumerate(lines):
        for c, image in enumerate(decode(table.column(field.name), field.channels, high, wide)):
            top, left = r * (high + gap), c * (wide + gap)
            sheet[top : top + high, left : left + wide] = image
    return pictures.png(sheet, scale=max(1, round(WIDE / max(high, wide))))


def courses(lines: Sequence[pa.Table], schema: Schema) -> bytes:
    """A PNG with a chart for each table and channel, in which the first row is light and the last dark."""
    from matplotlib import colormaps

    fields = [f for f in schema.fields if f.kind == "series"][:4]
    figure = pictures.canvas(2.6 * len(fields) + 0.4, 1.7 * len(lines) + 0.4, "from light to dark")
    axes = iter(pictures.panels(figure, len(lines) * len(fields), len(fields)))
    for table in lines:
        for field in fields:
            axis = next(axes)
            axis.set_title(field.name[:24], fontsize=8, color=pictures.INK, loc="left")
            values = windows(table.column(field.name), field.length, field.name)
            for i, each in enumerate(values):
                shade = colormaps["plasma_r"](0.1 + 0.9 * i / max(1, len(values) - 1))
                axis.plot(each, color=shade, linewidth=1.0)
    return pictures.as_png(figure)


def sounds(lines: Sequence[pa.Table], schema: Schema) -> bytes:
    """A WAV of all clips one after the other, with pauses."""
    field = next(f for f in schema.fields if isinstance(f, Audio))
    pause, gap = (np.zeros(int(seconds * field.rate), np.float32) for seconds in (PAUSE, GAP))
    pieces = []
    for table in lines:
        for clip in read_clips(table.column(field.name), field):
            pieces += [clip, pause]
        pieces.append(gap)
    whole = np.rint(np.concatenate(pieces) * 32768.0)
    return write_wav(np.clip(whole, -32768, 32767).astype(np.int16), field.rate)
