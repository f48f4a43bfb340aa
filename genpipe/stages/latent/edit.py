"""edit: rows of codes that were moved towards a value.

N rows · Z numbers of a code · V values of a column
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.bundle import Bundle
from genpipe.bundle.latent import as_tensor, decode, encode, records, tensors
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.comparison import in_words
from genpipe.dataset import Dataset
from genpipe.errors import UsageError, unknown
from genpipe.evaluation.base import one_thread
from genpipe.evaluation.learners import linear
from genpipe.evaluation.page.strips import write_strip
from genpipe.fields import AnyField
from genpipe.progress import Event, Progress, silent
from genpipe.requests import Edit
from genpipe.stages.generate.shards import open_bundle
from genpipe.stages.latent.opened import Block, Opened, open_rows
from genpipe.stages.latent.rows import as_batch, columns_of, decoded_schema, each_block, labels, values_of
from genpipe.training.device import check_gpu

MOST_FIT, FEWEST = 10_000, 10  # rows a direction is learnt from; with the value and without it at least
MOST_VALUES = 1000  # of a column
JUDGED, SHOWN = 2000, 10  # rows whose value is looked for before and after; rows of a strip


@dataclass(frozen=True)
class Move:
    """What is done to a code. column, text: the value aimed at. values: those the column has; shift: (V + 1,
    Z) what is added to the code of a row with each, the last row for any other. chosen: (field, class) of the
    generator's target, where that is what is changed.
    """

    column: str
    text: str
    values: tuple[str, ...]
    shift: np.ndarray
    chosen: tuple[int, int] | None

    def of(self, column: pa.Array) -> np.ndarray:
        """(B, Z) what is added to each code."""
        place = {value: k for k, value in enumerate(self.values)}
        return self.shift[[place.get(value, len(self.values)) for value in labels(column)]]


def edit(asked: Edit, *, progress: Progress = silent) -> Dataset:
    """Each row with its code moved towards FIELD=VALUE, decoded. Rows that have the value stay as they are.

    A code is moved by `strength` times what lies between the mean code of rows with its own value and that of
    rows with the one aimed at (Larsen et al. 2016, arXiv:1512.09300, section 4). The weights of a linear
    classifier are no such way: they also undo what codes share (Haufe et al. 2014). Where FIELD is the
    generator's target, the class that the decoder is told changes, too; with strength 0 that alone.

    Scores, of at most 2,000 rows that have another value: the share that has the one aimed at, decoded as
    they are and edited. Of a column of a table it is counted, of all else (and of the target) it is what a
    linear classifier of the rows' own values says, which was fitted to real rows.
    """
    name, value = _toward(asked)
    opened = open_rows(asked, columns=[name])
    schema = decoded_schema(opened)
    text = _text(value, opened.data.schema.field(name))
    told, first = np.zeros(3), list[pa.RecordBatch]()

    def made() -> Iterator[pa.RecordBatch]:
        progress(Event("edit", note=f"learning what leads to {name}={text}"))
        move, judge = _learnt(opened, asked, name, text)
        for block, (before, after) in each_block(opened, _edited, move, columns=[name]):
            first.extend([] if first else [before, after])
            others = np.flatnonzero(labels(block.batch.column(name)) != text)[: JUDGED - int(told[0])]
            if len(others):
                has = [judge(side.take(pa.array(others))) for side in (before, after)]
                told[:] += [len(others), *has]
            yield as_batch(opened.keys(block) | columns_of(after), schema)

    def found() -> dict[str, Any]:
        number = max(1.0, told[0])
        return {"share_before": told[1] / number, "share_after": told[2] / number, "judged": int(told[0])}

    done = opened.write(made(), schema, progress, found)
    if asked.strip:
        if not first:  # it was made before
            move, _ = _learnt(opened, asked, name, text)
            first.extend(_edited(*opened.here, move, next(opened.blocks([name]))))
        made_of = opened.bundle.schema
        write_strip([pa.Table.from_batches([b.slice(0, SHOWN)]) for b in first], made_of, asked.strip)
    return done


def _toward(asked: Edit) -> tuple[str, Any]:
    if len(asked.toward or {}) != 1:
        found = f"{len(asked.toward or {})} fields"
        raise UsageError("TOWARD", where="toward", found=found, expected="one, FIELD=VALUE")
    ((name, value),) = (asked.toward or {}).items()
    return name, value


def _text(value: Any, field: AnyField) -> str:
    """The value as text of the column's type."""
    try:
        word = str(value).lower() if isinstance(value, bool) else str(value)
        return str(pa.scalar(word).cast(field.arrow()).cast(pa.string()).as_py())
    except (pa.ArrowException, ValueError):
        found, expected = repr(value), in_words(field.arrow())
        raise UsageError("TOWARD", where=field.name, found=found, expected=expected) from None


def _learnt(opened: Opened, asked: Edit, name: str, text: str) -> tuple[Move, Any]:
    """What to do to codes, and `judge(batch)`, how many of these rows have the value."""
    table = opened.some(opened.splits[0], MOST_FIT, asked.seed, whole=True)
    there = labels(table.column(name).combine_chunks())
    with_it, values = there == text, sorted(set(there.tolist()))
    if text not in values:
        raise unknown("value", text, values[:50], where=name)
    if min(with_it.sum(), (~with_it).sum()) < FEWEST or len(values) > MOST_VALUES:
        found = f"{int(with_it.sum())} of {len(there)} rows with {text!r}, and {len(values)} values"
        expected = f"{FEWEST} or more with it, as many without, and at most {MOST_VALUES} values"
        raise UsageError("TOWARD", where=name, found=found, expected=expected)
    codes = opened.codes(table, blind=False).astype(np.float64)
    goal, rest = codes[with_it].mean(0), codes[~with_it].mean(0)
    means = [codes[there == value].mean(0) for value in values]
    shift = goal - np.stack([*means, rest])
    conditions = opened.bundle.codec.conditions
    chosen = (conditions.names.index(name), conditions.code(name, text)) if name in conditions.names else None
    move = Move(name, text, tuple(values), (asked.strength * shift).astype(np.float32), chosen)
    return move, _judge(opened, table, with_it, move)


def _judge(opened: Opened, table: pa.Table, with_it: np.ndarray, move: Move) -> Any:
    own = isinstance(opened.bundle.codec, ColumnCodec) or opened.bundle.schema.kind == "tabular"
    if own and move.chosen is None and move.column in opened.bundle.schema.names:
        return lambda batch: int((labels(batch.column(move.column)) == move.text).sum())
    with one_thread():
        model = linear().fit(values_of(opened.bundle, table), with_it)

    def judged(batch: pa.RecordBatch) -> int:
        with one_thread():
            return int(model.predict(values_of(opened.bundle, pa.Table.from_batches([batch]))).sum())

    return judged


def _edited(uri: str, device: str, move: Move, block: Block) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Decoded rows as they are, and edited."""
    check_gpu(device)
    bundle = open_bundle(uri, device)
    rows = tensors(bundle, block.batch)
    z, condition = encode(bundle, rows), rows.condition
    before = _rows(bundle, z, condition, block.start)
    z = z + as_tensor(move.of(block.batch.column(move.column)), bundle)
    if move.chosen is not None:
        condition = condition.clone()
        condition[:, move.chosen[0]] = move.chosen[1]
    return before, _rows(bundle, z, condition, block.start)


def _rows(bundle: Bundle, z: Any, condition: Any, start: int) -> pa.RecordBatch:
    return records(bundle, decode(bundle, z, condition), condition, start=start)
