"""What every job on codes begins with: the generator, the rows, who may ask, and where the result goes.

All jobs are one pass: rows in fixed blocks -> codes -> columns beside the number of each row. A block is made
in this process, or by workers where only a cluster has a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.latent import encode, encoding_family, tensors
from genpipe.dataset import Dataset
from genpipe.errors import DataError, UsageError, unknown
from genpipe.fields import AnyField, Category, Integer
from genpipe.progress import Progress
from genpipe.registry import resolve
from genpipe.requests import Interpolate, OnRows
from genpipe.schema import Schema
from genpipe.seeds import drawn, numpy_rng
from genpipe.settings import read_settings
from genpipe.stages.cluster import in_order, where_to_draw
from genpipe.stages.generate.shards import open_bundle
from genpipe.stages.placement import need_to_sample
from genpipe.stages.rows.blocks import Written, blocks, check_allowed, write_blocks
from genpipe.training.device import check_gpu, parameters
from genpipe.version import __version__

# what manifests and footers say of results made from rows: who keeps the rows keeps these as well
HOLDS = "made of the rows of a dataset, one by one: keep them as you keep the data"
SPLIT, ROW = "split", "row"


class Block(NamedTuple):
    """Rows of a split from the row `start` on."""

    split: str
    start: int
    batch: pa.RecordBatch


@dataclass(frozen=True)
class Opened:
    """name: of the result. lineage: what it is claimed for. most: rows of a split, if not all. run: does
    jobs, in their order.
    """

    bundle: Bundle
    name: str
    output: str
    lineage: dict[str, str]
    run: Callable[..., Iterator[Any]]
    dataset: Dataset | None = None
    splits: tuple[str, ...] = ()
    most: int | None = None
    keep: tuple[str, ...] = ()

    @property
    def here(self) -> tuple[str, str]:
        return self.bundle.uri, self.bundle.device

    @property
    def data(self) -> Dataset:
        assert self.dataset is not None
        return self.dataset

    def count(self, split: str) -> int:
        return min(self.data.rows(split), self.most or self.data.rows(split))

    def blocks(self, columns: Sequence[str] = ()) -> Iterator[Block]:
        """All rows asked for. columns: of the data, beside those that the generator and `keep` name."""
        there = self.data.schema.names
        wanted = {*self.bundle.schema.names, *self.keep, *columns}
        names = [name for name in there if name in wanted]
        for split in self.splits:
            start, size = 0, self.bundle.block_rows
            for batch in blocks(self.data, split, size, columns=names, most=self.count(split)):
                yield Block(split, start, batch)
                start += batch.num_rows

    def some(self, split: str, most: int, seed: int, *, whole: bool = False) -> pa.Table:
        """At most so many rows of a split, drawn at random, in memory. whole: beyond the rows asked for."""
        number = self.data.rows(split) if whole else self.count(split)
        places = drawn(numpy_rng(seed, "latent", split), number, most)
        return self.data.rows_at(split, places)

    def codes(self, table: pa.Table, *, blind: bool) -> np.ndarray:
        """(N, Z) codes of rows in memory."""
        pieces = table.combine_chunks().to_batches(max_chunksize=self.bundle.block_rows)
        found = self.run(codes_of, ((*self.here, blind, batch) for batch in pieces))
        return np.concatenate([np.zeros((0, encoding_family(self.bundle).latent), np.float32), *found])

    def keys(self, block: Block) -> dict[str, pa.Array]:
        """The columns every result begins with."""
        rows = block.batch.num_rows
        found = {
            SPLIT: pa.array([block.split] * rows),
            ROW: pa.array(np.arange(block.start, block.start + rows)),
        }
        return found | {name: block.batch.column(name) for name in self.keep}

    def fields(self, *more: AnyField) -> tuple[AnyField, ...]:
        """Those of the result: the keys', what is kept, and more."""
        kept = tuple(self.data.schema.field(name) for name in self.keep)
        return distinct((Category(name=SPLIT), Integer(name=ROW), *kept, *more))

    def write(
        self,
        made: Iterator[pa.RecordBatch],
        schema: Schema,
        progress: Progress,
        found: Callable[[], dict[str, Any]] = dict,
        *,
        rows: int | None = None,
    ) -> Dataset:
        """Commit what the job makes, unless it was made before. found: scores, for the manifest."""
        total = sum(map(self.count, self.splits)) if rows is None else rows
        what = Written(name=self.name, schema=schema, lineage=self.lineage, rows=total)
        return write_blocks(self.output, made, what, progress, found=lambda: {"scores": found()})


def distinct(fields: tuple[AnyField, ...]) -> tuple[AnyField, ...]:
    """The fields, if no two have one name."""
    names = [f.name for f in fields]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        found = f"a column {twice[0]!r} beside the one of this job"
        raise UsageError("COLUMN", where=twice[0], found=found, fix="do not keep it, or rename it")
    return fields


def codes_of(uri: str, device: str, blind: bool, batch: pa.RecordBatch) -> np.ndarray:
    """(B, Z) codes of a block, by the process that has the device."""
    check_gpu(device)
    bundle = open_bundle(uri, device)
    z: np.ndarray = encode(bundle, tensors(bundle, batch), blind=blind).cpu().numpy()
    return z


def codes_of_block(uri: str, device: str, blind: bool, block: Block) -> np.ndarray:
    return codes_of(uri, device, blind, block.batch)


def open_model(asked: OnRows | Interpolate, *, of_rows: bool = True) -> Opened:
    """The generator a request names. of_rows: whether codes of rows are asked for, which a publisher must
    have allowed.
    """
    settings, job = read_settings(), type(asked).__name__.lower()
    resolved = resolve(asked.model)
    if of_rows:
        check_allowed(resolved, "latent")
    device, remote = where_to_draw(settings, None)
    bundle = open_bundle(resolved.uri, device)
    dataset = Dataset(asked.dataset) if asked.dataset else None
    if of_rows:
        encoding_family(bundle)
    name = store.check_name(asked.name or f"{resolved.name}-{job}")
    lineage = {
        "stage": job,
        "model": resolved.reference,
        "model_fingerprint": bundle.fingerprint,
        "rows_fingerprint": dataset.fingerprint if dataset else "",
        "asked": json.dumps(asked.identity(), sort_keys=True, default=str),
        "device": bundle.device,
        "code": __version__,
        **({"holds": HOLDS} if of_rows else {}),
        **({"learnt": bundle.learnt} if bundle.learnt else {}),
    }
    place = store.join(settings.store, "generated", name, store.digest(lineage))
    run: Callable[..., Iterator[Any]] = starmap
    if remote:
        run = partial(in_order, need=need_to_sample(parameters(bundle.family), device))
    return Opened(bundle, name, (asked.output or place).rstrip("/"), lineage, run, dataset)


def open_rows(asked: OnRows, *, blind: bool = False, columns: Sequence[str] = ()) -> Opened:
    """`open_model` with the rows of its dataset, which has the columns the generator learnt, and these.
    blind: the target may be missing, as nobody is told it.
    """
    opened = open_model(asked)
    data, bundle = opened.data, opened.bundle
    check_columns(bundle, data, blind=blind)
    keep = asked.keep or ()
    for name in (*keep, *columns):
        if name not in data.schema.names:
            raise unknown("column", name, data.schema.names, where=data.uri)
    return Opened(
        bundle, opened.name, opened.output, opened.lineage, opened.run, data,
        splits=splits_of(data, asked.split), most=asked.rows, keep=keep,
    )  # fmt: skip


def splits_of(data: Dataset, asked: str | None) -> tuple[str, ...]:
    there = tuple(s for s in ("train", "holdout", "generated") if data.rows(s))
    if asked is not None and asked not in there:
        raise UsageError("SPLIT", where=data.uri, found=f"no rows in split {asked!r}", expected=f"{there}")
    return (asked,) if asked else there


def check_columns(bundle: Bundle, data: Dataset, *, blind: bool) -> None:
    """Raise a DataError where a column that the generator learnt is missing or of another kind."""
    if data.schema.kind != bundle.schema.kind:
        raise DataError("KIND", where=data.uri, found=f"{data.schema.kind} data", expected=bundle.schema.kind)
    names = data.schema.names
    for field in bundle.schema.fields:
        made_up = field.kind == "identifier" or (field.kind == "text" and bundle.schema.kind != "text")
        if made_up or (blind and field.name in bundle.schema.conditions):
            continue
        theirs = data.schema.field(field.name) if field.name in names else None
        if theirs is None or theirs.arrow() != field.arrow() or _shape(theirs) != _shape(field):
            found = "no such column" if theirs is None else f"{_shape(theirs)} of type {theirs.arrow()}"
            raise DataError(
                "SCHEMA",
                where=f"{data.uri}: {field.name}",
                found=found,
                expected=f"{_shape(field)} of type {field.arrow()}, as the generator learnt it",
                fix="ingest the rows as those it was trained on",
            )


def _shape(field: AnyField) -> str:
    sizes = ("height", "width", "channels", "length", "rate", "frames")
    told = [f"{name} {getattr(field, name)}" for name in sizes if hasattr(field, name)]
    return " ".join(["a column", *told])
