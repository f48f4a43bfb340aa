"""What `codec.rare: protect` hid: for each column the values that no output shows, with their training rows.

The list names real values: it stays beside the dataset they come from. A bundle holds only `summary`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genpipe.codecs.base import Codec, CodecConfig, RowStats, Stats
from genpipe.codecs.columns import Fixed
from genpipe.codecs.numeric import Scale
from genpipe.codecs.tabular import TabularCodec
from genpipe.codecs.tabular_stats import TabularStats

Hidden = dict[str, dict[str, int]]  # column -> value as text -> training rows
Summary = dict[str, dict[str, int]]  # column -> {"values": how many were hidden, "rows": that held them}


def hidden_values(codec: Codec, stats: Stats, config: CodecConfig) -> Hidden:
    """Rare categories and classes, and numbers beyond the trimmed extremes (from a sample, in large data)."""
    if config.rare != "protect":
        return {}
    rows = stats if isinstance(stats, RowStats) else getattr(stats, "rows", None)
    classes: dict[Any, int] = {}
    for key, n in rows.conditions.items() if rows else ():
        classes |= {value: classes.get(value, 0) + n for value in key}
    counts = dict.fromkeys(codec.schema.conditions, classes)
    if isinstance(stats, TabularStats):
        counts |= stats.choices
    found = {
        name: {str(v): n for v, n in of.items() if v is not None and n < config.rare_below}
        for name, of in counts.items()
    }
    if isinstance(codec, TabularCodec) and isinstance(stats, TabularStats):
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


def summary(hidden: Hidden) -> Summary:
    return {name: {"values": len(v), "rows": int(np.sum(list(v.values())))} for name, v in hidden.items()}


def hidden_words(hidden: Summary) -> str:
    """The summary in words; empty where nothing was hidden."""
    return "; ".join(f"{name}: {n['values']} values in {n['rows']} rows" for name, n in hidden.items())
