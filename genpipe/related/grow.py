"""The rows of a table that refers to itself, level by level: each given the row it names; see levels.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.related.flatten import joined
from genpipe.related.match_columns import numbers
from genpipe.related.nodes import Node, Reference, lacks, naming
from genpipe.seeds import derive, numpy_rng

TRIES = 20
Draw = Callable[[pa.Table, int, np.ndarray], pa.Table]  # (what is given, a seed, numbers of rows) -> rows


def grown(node: Node, sizes: tuple[int, ...], draw: Draw, seed: int) -> tuple[pa.Table, np.ndarray]:
    """(rows, (N,) the row each names, itself without one) of so many rows in each level."""
    tree = node.tree
    assert tree is not None
    made, named, start = list[pa.Table](), list[np.ndarray](), 0
    for level, size in enumerate(sizes):
        own_seed, rows = derive(seed, "level", level), start + np.arange(size)
        at = np.full(size, -1)
        if level:
            weights = _weights(tree, made[-1], naming(node.name, tree.column), level)
            at = spread(weights, size, numpy_rng(own_seed, "spread").random())
        named.append(np.where(at < 0, rows, start - len(named[-1]) + at) if level else rows)
        given = _told(node, tree, made[-1] if level else None, at, level)
        drawn = draw(given, own_seed, rows)
        for again in range(TRIES if level else 0):
            bad = np.flatnonzero(_beyond(node, tree, drawn, given))
            if not len(bad):
                break
            other = draw(given.take(pa.array(bad)), derive(own_seed, "again", again), rows[bad])
            place = np.arange(size)
            place[bad] = size + np.arange(len(bad))
            drawn = pa.concat_tables([drawn, other]).take(pa.array(place))
        made.append(_clipped(node, tree, drawn, given) if level else drawn)
        start += size
    return pa.concat_tables(made), np.concatenate(named)


def _weights(tree: Reference, above: pa.Table, counts: str, level: int) -> np.ndarray:
    """How often each row of the level above is to be named, in proportion."""
    weights = above[counts].to_numpy().clip(0).astype(float)
    if tree.inherited is None:
        return weights
    column, shares = tree.inherited
    values = above[column].fill_null("").to_numpy()
    for value, share in shares[min(level, len(shares)) - 1]:
        mine = values == value
        if mine.any():
            some = weights[mine] if weights[mine].sum() > 0 else np.ones(int(mine.sum()))
            weights[mine] = some / some.sum() * share * len(weights)
    return weights


def _beyond(node: Node, tree: Reference, rows: pa.Table, given: pa.Table) -> np.ndarray:
    """(N,) whether a value is beyond that of the row named, which none is in the data."""
    out = np.zeros(rows.num_rows, bool)
    for name, sign in tree.bounds:
        apart = numbers(rows[name]) - numbers(given[f"{tree.column}.{node.name}.{name}"])
        out |= np.nan_to_num(apart) * sign < 0
    return out


def _clipped(node: Node, tree: Reference, rows: pa.Table, given: pa.Table) -> pa.Table:
    """With the value of the row named where no draw kept to it."""
    for name, sign in tree.bounds:
        bound = given[f"{tree.column}.{node.name}.{name}"]
        over = np.nan_to_num(numbers(rows[name]) - numbers(bound)) * sign < 0
        kept = pc.if_else(pa.array(over), bound.cast(rows[name].type), rows[name])
        rows = rows.set_column(rows.column_names.index(name), name, kept)
    return rows


def spread(weights: np.ndarray, size: int, at: float) -> np.ndarray:
    """(size,) rows in ascending order, each as often as its weight says, to the next whole number."""
    weights = np.maximum(weights, 0).astype(float)
    reach = np.cumsum(weights if weights.sum() > 0 else np.ones(len(weights)))
    ends = np.floor(reach / reach[-1] * size + at).astype(np.int64)
    ends[-1] = size
    return np.repeat(np.arange(len(ends)), np.diff(np.minimum(ends, size), prepend=0))


def _told(node: Node, tree: Reference, above: pa.Table | None, at: np.ndarray, level: int) -> pa.Table:
    """What rows of a level are told of those they name. above: the rows of the level before."""
    none = pa.table({tree.level: np.full(len(at), level), lacks(tree.column): at < 0})
    own = {f.name: f.name.removeprefix(f"{tree.column}.{node.name}.") for f in tree.fields}
    if above is None:
        return joined(none, pa.table({f.name: pa.nulls(len(at), f.arrow()) for f in tree.fields}))
    return joined(none, pa.table({flat: above[name].take(pa.array(at)) for flat, name in own.items()}))
