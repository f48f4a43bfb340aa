"""A table that refers to itself without circles (employees and whom they report to), level by level.

Rows that name none are level 0, those that name them level 1, .. A row is learnt given its level and the row
it names, and made so (grow.py): a level after the one above it, so nothing names itself in the end. How many
rows a level has is that of the data, in proportion; which of them are named, and how often, follows from the
column `named by ..` of the rows above. Two more things are read off the data and held: that a column is
never above that of the row named (a salary), and what shares a column has among those that are named, if it
is mostly handed on (a department): a few rows at the top would else decide those of the whole table.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import LEAST
from genpipe.codecs.holders import coarse
from genpipe.constraints import NUMBERS
from genpipe.related.crowded import crowded
from genpipe.related.flatten import Related, described, handed_fields, joined, picked
from genpipe.related.foreign_keys import Links
from genpipe.related.match_columns import numbers
from genpipe.related.named import named_rows, several_of
from genpipe.related.nodes import Reference, Shares, naming
from genpipe.related.spec import TablesSpec

SURELY = 50  # rows of which all must keep to a bound
HANDED_ON = 0.3  # how much more often than by chance a column is that of the row named
COUNTS = ("children of ", "named by ")  # columns that are no user's
DEEPEST = 100  # levels: each is drawn by itself; a longer chain is chosen late


def levels_of(named: np.ndarray) -> np.ndarray:
    """(N,) how many rows are above each, -1 in a circle or above one. named: (N,) the row each names, -1 for
    none or itself. By pointer jumping (Wyllie, "The complexity of parallel computations", 1979).
    """
    rows = np.arange(len(named))
    top = (named < 0) | (named == rows)
    above, far = np.where(top, rows, named), (~top).astype(np.int64)
    for _ in range(len(named).bit_length()):
        if top[above].all():
            break
        far, above = far + far[above], above[above]
    return np.where(top[above], far, -1)


def in_levels(spec: TablesSpec, name: str, related: Related, links: Links) -> Related:
    """A table without parents in the order of its levels, with what rows are told of those they name; as it
    is where no reference to itself is without circles.
    """
    table, rows = spec.tables[name], np.arange(related.node.rows)
    for label, other in table.references.items():
        if other != name:
            continue
        named = named_rows(related, links, label, related)
        level = levels_of(named)
        if level.min() < 0 or not 0 < level.max() <= DEEPEST:
            continue
        itself = bool((named[level == 0] == rows[level == 0]).mean() >= 0.5)
        named = np.where(level == 0, -1, named)
        reference = Reference(
            column=label,
            columns=several_of(table, label),
            table=name,
            nullable=True,
            fields=(),
            levels=_told(np.bincount(level)),
            itself=itself,
        )
        order = np.lexsort((named, level))
        return _sorted(_with(related, reference, named, level), order)
    return related


def _told(counts: np.ndarray) -> tuple[int, ...]:
    """Rows of each level. The last has `LEAST` at least, if any has: those below count there."""
    enough = np.flatnonzero(counts >= LEAST)
    last = max(1, int(enough[-1])) if len(enough) else len(counts) - 1
    return (*(int(n) for n in counts[:last]), int(counts[last:].sum()))


def _with(related: Related, reference: Reference, named: np.ndarray, level: np.ndarray) -> Related:
    """The rows with their level and what they are told of the row they name, before all else."""
    node, label = related.node, reference.column
    own = f"{node.name}.{naming(node.name, label)}"  # how many name it is not what these follow from
    fields = (f for f in handed_fields({node.name: node}, node) if f.name != own)
    update, told = {"reason": "", "nullable": True}, crowded(related, named)
    reference = reference.model_copy(
        update={
            "fields": tuple(f.model_copy(update=update | {"name": f"{label}.{f.name}"}) for f in fields),
            "bounds": _bounds(related, named),
            "inherited": _inherited(related, told, named, level, len(reference.levels)),
        }
    )
    index = pa.array(np.arange(node.rows), mask=named < 0)
    columns = joined(
        pa.table({reference.level: level}), described(reference, told.drop_columns([own]), index)
    )
    node = node.model_copy(update={"references": (reference, *node.references)})
    described_ = joined(columns, related.described)
    return Related(
        node, related.own, related.parent, related.held, related.told, related.place, related.family,
        described_,
    )  # fmt: skip


def _bounds(related: Related, named: np.ndarray) -> tuple[tuple[str, int], ...]:
    """Column -> whether it is never above (-1), or never below (1), that of the row named."""
    rows, out = np.flatnonzero(named >= 0), list[tuple[str, int]]()
    for field in related.node.learnt:
        if field.kind not in NUMBERS or field.name.startswith(COUNTS):
            continue
        values = numbers(related.own[field.name])
        apart = values[rows] - values[named[rows]]
        apart = apart[~np.isnan(apart)]
        for sign in (-1, 1):
            if len(apart) >= SURELY and (apart * sign >= 0).all() and (apart != 0).any():
                out.append((field.name, sign))
    return tuple(out)


def _inherited(
    related: Related, told: pa.Table, named: np.ndarray, level: np.ndarray, levels: int
) -> tuple[str, tuple[Shares, ...]] | None:
    """The choice that rows have most often from the row they name, beyond chance, and its shares among those
    that the rows of each level name; of a level with few to name, those of all. told: of the rows named.
    """
    rows, most, best = np.flatnonzero(named >= 0), HANDED_ON, ""
    for field in related.node.learnt:
        if field.kind != "category":
            continue
        codes = pc.dictionary_encode(related.own[field.name].combine_chunks()).indices.fill_null(-1)
        own = codes.to_numpy(zero_copy_only=False)
        shares = np.bincount(own[rows] + 1) / len(rows)
        same = float((own[rows] == own[named[rows]]).mean()) - float((shares**2).sum())
        most, best = max((most, best), (same, field.name))
    if not best:
        return None
    values = told[f"{related.node.name}.{best}"].combine_chunks()
    pooled = _shares(values, named, level > 0)
    each = ((level >= depth) if depth == levels - 1 else (level == depth) for depth in range(1, levels))
    return best, tuple(_shares(values, named, here) or pooled for here in each)


def _shares(values: pa.Array, named: np.ndarray, here: np.ndarray) -> Shares:
    """What rows `here` are told of those they name, and its shares; only what `LEAST` of these have, as many
    may report to one, whose own value it is.
    """
    told = pa.table({"value": values, "of": named}).filter(pa.array(here)).drop_null()
    counted = told.group_by("value").aggregate([("of", "count_distinct"), ("of", "count")]).to_pylist()
    enough = {str(c["value"]): c["of_count"] for c in counted if c["of_count_distinct"] >= LEAST}
    counts = coarse([enough[value] for value in sorted(enough)], LEAST)
    shares = (counts / max(1.0, counts.sum())).round(3).tolist()
    return tuple(zip(sorted(enough), shares, strict=True))


def _sorted(related: Related, order: np.ndarray) -> Related:
    """The rows in another order."""
    rows, back = pa.array(order), np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    place = np.where(related.place >= 0, back[related.place], -1)
    return Related(
        node=related.node,
        own=picked(related.own, rows),
        parent=related.parent,
        held=related.held[order],
        told=related.told,
        place=place,
        family=np.arange(len(order)),
        described=picked(related.described, rows),
    )


def sizes_of(levels: tuple[int, ...], rows: int) -> tuple[int, ...]:
    """How many of so many rows each level has, in proportion; none without one in each level above."""
    total, left, out = sum(levels), rows, list[int]()
    for count in levels:
        out.append(min(left, max(1, count * rows // total)))
        left -= out[-1]
    out[int(np.argmax(levels))] += left
    if not all(out):  # of very few rows the largest level may come after one of none
        out = [n for n in out if n]
    return tuple(out)


def share_of(sizes: tuple[int, ...], start: int, stop: int) -> tuple[int, ...]:
    """Of each level the rows that descend from rows [start, stop) of level 0."""
    cut = (stop * n // sizes[0] - start * n // sizes[0] for n in sizes)
    return tuple(n for n in cut if n)
