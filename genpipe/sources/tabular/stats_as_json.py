"""What was observed of a table as JSON, to go on from: kept beside the parts that it tells of.

It holds what those parts hold, or hashes of that: samples of rows, extremes, the first odd texts. So it goes
wherever they go, and nowhere else.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.sources.columns import Column
from genpipe.sources.decimals import Digits
from genpipe.sources.repeats import Repeats
from genpipe.sources.sample import Sample
from genpipe.sources.tabular.stats import COUNTED, TableStats

PLAIN = ("name", "rows", "nulls", "low", "high", "chars", "unit")
NAMES = ("dropped", "nested", "left", "structs")


def dump(stats: TableStats) -> dict[str, Any]:
    """JSON of statistics without bad files."""
    _, names, first = stats.layout or (0, (), "")
    return {
        "rows": stats.rows,
        "skipped": stats.skipped,
        "layout": [first, list(names)] if stats.layout else None,
        "columns": [_column(c) for c in stats.columns.values()],
        "repeats": {
            name: [_array(r.values), _array(r.counts), _array(r.of), _arrays(r.cells)]
            for name, r in stats.repeats.items()
        },
        "sample": [_array(stats.sample.keys), _arrays(stats.sample.columns), _texts(stats.sample)],
        **{name: sorted(getattr(stats, name)) for name in NAMES},
    }


def load(told: Mapping[str, Any], files: Mapping[str, int]) -> TableStats:
    """What `dump` told. files: by their URIs, their places in the listing as it is now. Raises ValueError,
    TypeError or KeyError where it is something else.
    """
    first, names = told["layout"] or ("", ())
    sets: dict[str, Any] = {name: {*map(str, told[name])} for name in NAMES}
    columns = [_load_column(c) for c in told["columns"]]
    return TableStats(
        rows=int(told["rows"]),
        skipped=int(told["skipped"]),
        layout=(files[first], tuple(map(str, names)), first) if told["layout"] else None,
        columns={c.name: c for c in columns},
        repeats={
            name: Repeats(_load_array(values), _load_array(counts), _load_array(of), _load_arrays(cells))
            for name, (values, counts, of, cells) in told["repeats"].items()
        },
        sample=_load_sample(*told["sample"]),
        **sets,
    )


def _column(column: Column) -> dict[str, Any]:
    digits = column.digits
    return {
        **{name: getattr(column, name) for name in PLAIN},
        **{name: dict(getattr(column, name)) for name in COUNTED},
        "odd": [list(one) for one in column.odd],
        "digits": [digits.most, digits.clear, sorted(digits.dusty.items())],
        "sketch": _array(column.sketch),
    }


def _load_column(told: Mapping[str, Any]) -> Column:
    most, clear, dusty = told["digits"]
    same: dict[str, Any] = {name: told[name] for name in PLAIN}
    same |= {name: Counter(told[name]) for name in COUNTED}
    return Column(
        **same,
        odd=[(str(uri), int(row), str(text)) for uri, row, text in told["odd"]],
        digits=Digits(int(most), int(clear), Counter({int(k): int(n) for k, n in dusty})),
        sketch=_load_array(told["sketch"]),
    )


def _texts(sample: Sample) -> dict[str, list[str | None]]:
    return {name: texts.to_pylist() for name, texts in sample.texts.items()}


def _load_sample(
    keys: list[str], columns: Mapping[str, Any], texts: Mapping[str, list[str | None]] | None = None
) -> Sample:
    """texts: none in what was written before samples had any."""
    said = {str(name): pa.array(column, pa.string()) for name, column in (texts or {}).items()}
    return Sample(_load_array(keys), _load_arrays(columns), said)


def _array(values: np.ndarray) -> list[str]:
    return [values.dtype.str, base64.b64encode(values.tobytes()).decode()]


def _load_array(told: list[str]) -> np.ndarray:
    kind, data = told
    if kind not in ("<u8", "<i8", "<f8"):
        raise ValueError(f"an array of {kind!r}")
    return np.frombuffer(base64.b64decode(data), kind)


def _arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    return {name: _array(values) for name, values in arrays.items()}


def _load_arrays(told: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: _load_array(values) for name, values in told.items()}
