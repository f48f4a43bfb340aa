"""A job of generate_tables: a range of rows without parents, and all that descends from them.

Rows without parents are drawn first, then the first, second, .. child of every row that has one: a child's
model is told its parents and the child before, and completes the row. A row that refers to another is drawn
twice: first as a whole, to know what it refers to, then, when a row like that has been chosen
(related/match.py), given what that one is. Parents of an earlier round are drawn again, the same, and not
kept. Rows of a table that refers to itself are drawn level by level (grow.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from genpipe.bundle import Bundle
from genpipe.bundle.complete import complete
from genpipe.bundle.observed import partial_conditioning
from genpipe.errors import DataError
from genpipe.related.flatten import firsts, handed_down, joined, picked, told_by
from genpipe.related.grow import Draw, grown
from genpipe.related.levels import share_of, sizes_of
from genpipe.related.match import Chooser, choosers_of, chosen
from genpipe.related.nodes import Node, Order
from genpipe.related.train import open_tables
from genpipe.related.write import Made, Rows
from genpipe.seeds import derive, numpy_rng
from genpipe.stages.generate.shards import open_bundle
from genpipe.training.device import check_gpu


@lru_cache(maxsize=1)
def _block(uri: str, device: str, seed: int, block: int) -> pa.Table:
    """A block is drawn whole; jobs that share it follow each other."""
    bundle = open_bundle(uri, device)
    return pa.table(bundle.sample_block(seed=seed, block=block, rows=bundle.block_rows))


def roots_for(uri: str, root: str, counted: str, wanted: int, seed: int, device: str) -> int:
    """How many of the rows without parents have so many children, together, as column `counted` tells."""
    check_gpu(device)
    bundle = open_bundle(open_tables(uri).models[root], device)
    rows = found = block = 0
    while found < wanted:
        many = _block(bundle.uri, device, derive(seed, root), block)[counted].to_numpy().cumsum()
        if many[-1] < 1:
            found_, fix = f"{len(many)} entities without a row", "train the table again"
            raise DataError("TABLES", where=bundle.uri, found=found_, expected="rows", fix=fix)
        short = int((many < wanted - found).sum())
        rows, found, block = rows + min(short + 1, len(many)), found + int(many[-1]), block + 1
    return rows


def make_family(
    uri: str,
    root: str,
    start: int,
    stop: int,
    seed: int,
    device: str,
    round_: int = 0,
    referred: Mapping[str, str] | None = None,
    wanted: int = 0,
) -> Made:
    """Rows [start, stop) without parents, and those of their descendants that belong to a round or have
    children that do. referred: table of an earlier round -> the URI of its described rows.
    """
    check_gpu(device)
    trained, made = open_tables(uri), dict[str, Rows]()
    for node in trained.needed(root, round_):
        bundle = open_bundle(trained.models[node.name], device)
        own_seed = derive(seed, node.name, start)
        choose = choosers_of(node, referred or {}, own_seed, np.arange(start, stop))
        named = None
        if node.parent is None:
            if node.tree:
                sizes = share_of(sizes_of(node.tree.levels, wanted), start, stop)
                own, named = grown(node, sizes, _drawer(node, bundle, choose), own_seed)
            else:
                block, skip = divmod(start, bundle.block_rows)
                drawn = _block(bundle.uri, device, derive(seed, root), block).slice(skip, stop - start)
                rows = _refined(node, bundle, drawn, pa.table({}), choose, own_seed, np.arange(stop - start))
                own = _kept(node, rows, choose)
            parent, told = np.arange(own.num_rows), pa.table({})
        else:
            above = made[node.parent]
            alone = alone_in(node, trained.node(root), start, stop)
            told, counts = _parents(node, above, alone)
            own, parent = children(node, bundle, told, counts, seed=own_seed, choosers=choose)
            told = picked(told, pa.array(parent))
        made[node.name] = Rows(own, parent, handed_down(node, told, own), named)
    for name in made.keys() - trained.referred:
        made[name].told = pa.table({})
    return made


def _kept(node: Node, rows: pa.Table, choosers: Mapping[str, Chooser]) -> pa.Table:
    """What is kept of rows that were drawn: themselves, and the keys of what they refer to."""
    keys = (name for chooser in choosers.values() for name in chooser.names)
    return pa.table({name: rows[name] for name in (*(f.name for f in node.drawn), *keys)})


def _drawer(node: Node, bundle: Bundle, choosers: Mapping[str, Chooser]) -> Draw:
    """Draws rows of a table that refers to itself."""

    def draw(given: pa.Table, seed: int, rows: np.ndarray) -> pa.Table:
        batch = _usual(bundle, given.combine_chunks().to_batches()[0])
        drawn = pa.Table.from_batches([complete(bundle, batch, seed=seed, fill=False)])
        return _kept(node, _refined(node, bundle, drawn, given, choosers, seed, rows), choosers)

    return draw


def alone_in(node: Node, root: Node, start: int, stop: int) -> int:
    """How many rows without a parent a job has: for each row at the top as many as in the data."""
    times, of = node.parentless or 0, root.tree.levels[0] if root.tree else root.rows
    return stop * times // of - start * times // of


def _parents(node: Node, above: Rows, alone: int) -> tuple[pa.Table, np.ndarray]:
    """(what is told to the rows of each parent, how many these are), beyond the parents of each row that has
    none.
    """
    counts = above.own[f"children of {node.name}"].to_numpy()
    if node.single:
        counts = np.minimum(counts, 1)
    size = len(counts)
    told = told_by(node, above.told, np.arange(size + alone), size)
    return told, np.concatenate([counts, np.ones(alone, counts.dtype)])


def _refined(
    node: Node,
    bundle: Bundle,
    drawn: pa.Table,
    given: pa.Table,
    choosers: Mapping[str, Chooser],
    seed: int,
    parents: np.ndarray,
) -> pa.Table:
    """Rows with the keys of what they refer to, and drawn again given what that is. drawn: the rows, as they
    describe what they refer to; given: what they are told.
    """
    if not choosers:
        return drawn
    keys, there = chosen(node, drawn, choosers, parents)
    batch = joined(given, there).combine_chunks().to_batches()[0]
    again = complete(bundle, _usual(bundle, batch), seed=derive(seed, "given"), fill=False)
    return joined(pa.Table.from_batches([again]), keys)


def children(
    node: Node,
    bundle: Bundle,
    told: pa.Table,
    counts: np.ndarray,
    *,
    seed: int,
    choosers: Mapping[str, Chooser] = MappingProxyType({}),
) -> tuple[pa.Table, np.ndarray]:
    """(rows in the order of their parents and then of each other, the parent of each) of `node`.

    told: what the parents hand down; counts: (parents,) how many children each is to have.
    """
    empty = {f.name: pa.array([], f.arrow()) for f in (*node.drawn, *node.tells)}
    for chooser in choosers.values():
        empty |= dict(zip(chooser.names, chooser.shelf.keys.slice(0, 0).itercolumns(), strict=True))
    made, parents, far = [pa.table(empty)], [np.zeros(0, np.int64)], [np.zeros(0)]
    rows, position = np.flatnonzero(counts > 0), 0
    before = pa.table({n: pa.nulls(len(rows), f.arrow()) for n, f in node.previous.items()})
    ticks, since = np.full(len(rows), node.order.low if node.order else 0), np.zeros(len(rows))
    while len(rows):
        position += 1
        place = pa.table({"position": np.full(len(rows), position)})
        given = joined(picked(told, pa.array(rows)), place, before).combine_chunks().to_batches()[0]
        batch = complete(bundle, _usual(bundle, given), seed=derive(seed, position), fill=False)
        drawn, given = pa.Table.from_batches([batch]), pa.Table.from_batches([given])
        drawn = _refined(node, bundle, drawn, given, choosers, derive(seed, position), rows)
        own = _kept(node, drawn, choosers)
        if node.order:
            gap = own[node.order.gap].to_numpy()
            if position > 1:  # now and then a network draws how long a parent's first row was in coming
                gap = np.minimum(gap, node.order.widest)
                since = since + gap
            ticks = np.minimum(node.order.rounded(ticks + gap), node.order.high)
            own = own.append_column(node.order.field.name, node.order.values(ticks))
        made.append(own.select(list(empty)))
        parents.append(rows)
        far.append(since)
        more = np.flatnonzero(counts[rows] > position)
        tells = own.select([f.name for f in node.tells]).rename_columns(list(node.previous))
        rows, ticks, since, before = rows[more], ticks[more], since[more], picked(tells, pa.array(more))
    parent = np.concatenate(parents)
    order = parent.argsort(kind="stable")
    out, parent = picked(pa.concat_tables(made), pa.array(order)), parent[order]
    if node.order and len(parent):
        at, name = out.column_names.index(node.order.field.name), node.order.field.name
        ticks = _squeezed(node.order, out[name], np.concatenate(far)[order], parent, derive(seed, "squeeze"))
        out = out.set_column(at, name, node.order.values(ticks))
    return out, parent


def _squeezed(
    order: Order, column: pa.ChunkedArray, since: np.ndarray, parent: np.ndarray, seed: int
) -> np.ndarray:
    """Ticks of the rows, within the data. Where the rows of a parent run past its end, all of them move
    towards the first, and the last is where the last of so many falls that could fall anywhere after it.

    column: cut at the end; since: (N,) how far each row is from its parent's first, not cut.
    """
    ticks, first = order.ticks(column), firsts(parent)
    begin, family = np.flatnonzero(first), np.cumsum(first) - 1
    last = np.append(begin[1:], len(parent)) - 1
    later = np.maximum(last - begin, 1)
    room = (order.high - ticks[begin]).astype(float)
    past = since[last] > room
    reach = room * numpy_rng(seed, "ends").random(len(begin)) ** (1 / later)
    share = np.where(past, reach / np.where(past, since[last], 1.0), 0.0)[family]
    moved = np.minimum(ticks[begin][family] + (since * share).astype(ticks.dtype), order.high)
    return np.where(past[family], moved, ticks)


def _usual(bundle: Bundle, given: pa.RecordBatch) -> pa.RecordBatch:
    """What is given, with the most frequent value where one is missing that no row of the data lacks: parents
    without it had no children there.
    """
    for column, _, _ in partial_conditioning(bundle.family, bundle.codec)[1].positions:
        at = given.schema.get_field_index(column.field.name)
        if at >= 0 and not column.missing and given.column(at).null_count:
            code = np.array([column.usual])
            value = column.decode(code, numpy_rng(0, "usual"))[0]
            given = given.set_column(at, given.schema.field(at), given.column(at).fill_null(value))
    return given
