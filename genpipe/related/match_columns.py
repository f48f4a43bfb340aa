"""Which columns of a row that is referred to follow from the rest of the row that refers to it.

A generated description of a row is matched with a row that is there (choose.py). No row is like it in every
column, and each column that must match takes from popularity, so the fewest are chosen, one after the other:
the column of whose entropy, beside those chosen before, some other column of the flat row explains the
greatest share, less what it explains when it is shuffled among rows equal in those (as chance does, the more
the more values there are). Columns that nothing explains need not match: there popularity alone decides.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.constraints import CHOICES
from genpipe.fields import AnyField
from genpipe.related.flatten import Related, flat_rows
from genpipe.related.nodes import Node, Reference
from genpipe.seeds import numpy_rng

ROWS, COLUMNS = 20_000, 8  # looked at; kept
BINS, CHOICE_VALUES = 8, 64
LEAST = 0.005  # share of a column's entropy that something must explain


def with_likeness(related: Related) -> Node:
    """The node with the columns by which its references are matched."""
    node = related.node
    if not (node.matched or node.late):
        return node
    flat = flat_rows(related)
    learnt = np.flatnonzero(~related.held) if (~related.held).any() else np.arange(flat.num_rows)
    some = numpy_rng(0, "likeness", node.name).permutation(learnt)[:ROWS]
    flat = flat.take(pa.array(np.sort(some)))
    own = [f.name for f in node.own]
    given = [n for n in flat.column_names if n not in own]
    # a late one is chosen by what the row is, too: it is not drawn again when that is known
    references = (
        r if r.levels else _matched(r, flat, [*given, *own] if r.late else given) for r in node.references
    )
    return node.model_copy(update={"references": tuple(references)})


def _matched(reference: Reference, flat: pa.Table, given: list[str]) -> Reference:
    """The reference with its telling columns, from rows that name something."""
    mine = {f.name for f in reference.flat}
    if reference.nullable:
        flat = flat.filter(pc.invert(flat[reference.absent]))
    others = [binned(flat[name]) for name in given if name not in mine]
    rng = numpy_rng(0, "likeness", reference.column)
    left = {f.name: binned(flat[f.name], f) for f in reference.fields}
    cells, found = np.zeros(flat.num_rows, np.int64), list[tuple[str, float]]()
    while left and len(found) < COLUMNS:
        scores = {name: _explained(codes, cells, others, rng) for name, codes in left.items()}
        best = max(scores, key=lambda name: scores[name])
        if scores[best] < LEAST:
            break
        found.append((best, scores[best]))
        cells = _mixed(cells, left.pop(best))
    more = (pair for pair in reference.likeness if pair[0] not in dict(found))
    return reference.model_copy(update={"likeness": (*found, *more)})


def binned(column: pa.ChunkedArray, field: AnyField | None = None) -> np.ndarray:
    """(N,) a column as few whole numbers, 0 for the missing: the most frequent choices, or bins of rank."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_boolean(kind) or (field and field.kind in CHOICES):
        counted = pc.value_counts(column.drop_null())
        order = np.argsort(-counted.field(1).to_numpy(), kind="stable")[:CHOICE_VALUES]
        codes = pc.index_in(column, counted.field(0).take(pa.array(order)))
        there = column.is_valid().to_numpy()
        return np.where(there, codes.fill_null(CHOICE_VALUES).to_numpy() + 1, 0)
    values = numbers(column)
    there = values[~np.isnan(values)]
    edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS)) if len(there) else there
    return np.where(np.isnan(values), 0, np.searchsorted(edges, values, side="right") + 1)


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(N,) numbers, dates and times as floats, not a number where missing."""
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int64())
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))


def _mixed(cells: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(N,) cells of rows equal in both, as few whole numbers."""
    found: np.ndarray = np.unique(cells * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1]
    return found


def _explained(
    codes: np.ndarray, cells: np.ndarray, others: list[np.ndarray], rng: np.random.Generator
) -> float:
    """The greatest share of the entropy of `codes` within cells that one other explains beyond chance."""
    both, shuffled = _mixed(cells, codes), codes.copy()
    entropy = _entropy(both) - _entropy(cells)
    if entropy <= 1e-9:
        return 0.0
    order = np.lexsort((rng.random(len(codes)), cells))
    shuffled[cells.argsort(kind="stable")] = codes[order]
    alike, most = _mixed(cells, shuffled), 0.0
    for other in others:
        chance = _information(alike, other)
        found, room = _information(both, other) - chance, chance - _information(cells, other)
        if found > room:  # no more than this again may well be chance
            most = max(most, found / max(entropy - room, found))
    return round(most, 4)


def _entropy(codes: np.ndarray) -> float:
    shares = np.bincount(codes) / max(1, len(codes))
    return -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())


def _information(one: np.ndarray, other: np.ndarray) -> float:
    """Nats that two columns of codes tell of each other."""
    return _entropy(one) + _entropy(other) - _entropy(_mixed(one, other))
