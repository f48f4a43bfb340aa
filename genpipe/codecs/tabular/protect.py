"""What protecting the rare hid: for each column the values that no output shows, with their training rows.

The list names real values: it stays beside the dataset they come from. A bundle holds only `summary`.
"""

from __future__ import annotations

import numpy as np

from genpipe.codecs.base import Codec, CodecConfig, RowStats, Stats
from genpipe.codecs.columns import Fixed
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.codecs.tabular.numeric import Scale
from genpipe.codecs.tabular.stats import TabularStats

Hidden = dict[str, dict[str, int]]  # column -> value as text -> training rows
Summary = dict[str, dict[str, int]]  # column -> {"values": how many were hidden, "rows": that held them}


def hidden_values(codec: Codec, stats: Stats, config: CodecConfig) -> Hidden:
    """Rare categories and classes, and numbers beyond the ends that are left; of large data from a sample."""
    k = config.rare_below
    if config.rare == "keep":
        return {}
    rows = stats if isinstance(stats, RowStats) else getattr(stats, "rows", None)
    found: dict[str, dict[str, int]] = {}
    classes = rows.conditions if isinstance(rows, RowStats) else {}
    for key, n in classes.items():
        if rows is not None and rows.together(codec.schema, [key]) < k:
            for name, value in zip(codec.schema.conditions, key, strict=True):
                found.setdefault(name, {})[str(value)] = n
    if isinstance(codec, ColumnCodec) and isinstance(stats, TabularStats):
        for field in codec.relations.observed:
            if (counts := stats.choices.get(field.name)) is not None:
                values = [v for v in counts if v is not None]
                held = stats.counted(field).entities(values)
                found[field.name] = {str(v): counts[v] for v, n in zip(values, held, strict=True) if n < k}
        for column in codec.columns:
            if isinstance(column, Scale | Fixed) and column.field.name in stats.numbers:
                found[column.field.name] = _trimmed(column, stats)
    return {name: dict(sorted(values.items())) for name, values in found.items() if values}


def _trimmed(column: Scale | Fixed, stats: TabularStats) -> dict[str, int]:
    """Numbers beyond the extremes that are left, or beside the one value that is."""
    name = column.field.name
    tally = stats.numbers[name].tally
    values, counts = tally.values, tally.counts
    if values is None or counts is None:
        valid = stats.sample.payload[f"{name}?"]
        values, counts = stats.sample.payload[name][valid], stats.sample.weights[valid]
    if isinstance(column, Fixed):
        beyond = values != column.value
    else:
        places = column.axis.places(values)
        beyond = (places < column.axis.low) | (places > column.axis.high)
    return {str(v): int(n) for v, n in zip(values[beyond].tolist(), counts[beyond].tolist(), strict=True)}


def summary(hidden: Hidden, k: int = 0) -> Summary:
    """k: counts to the next multiple of it, without columns of fewer rows: so it may be published."""
    told = {name: {"values": len(v), "rows": int(np.sum(list(v.values())))} for name, v in hidden.items()}
    if k < 2:
        return told
    return {
        name: {what: -(-n // k) * k for what, n in counts.items()}
        for name, counts in told.items()
        if counts["rows"] >= k
    }


def hidden_words(hidden: Summary) -> str:
    """The summary in words; empty where nothing was hidden."""
    return "; ".join(f"{name}: {n['values']} values in {n['rows']} rows" for name, n in hidden.items())
