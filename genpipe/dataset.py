"""A Dataset: an immutable folder of Parquet parts by split, named by a manifest and checked on reading.

    <uri>/manifest.json              schema, parts with rows, bytes and sha256, origin, fingerprint
    <uri>/data/<attempt>/train-00000.parquet ...
    <uri>/../<request>/data/<attempt>/..       parts of another version of it, which did not change since

`manifest.json` is created last, once, conditionally: a folder without one is not a dataset. The fingerprint
is a hash of schema and parts, so equal content has an equal fingerprint wherever it lies. Data that is handed
over lies otherwise, see delivery.py.
Generated data is a Dataset with the one split `generated`.
"""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genpipe import store
from genpipe.errors import ConflictError, DataError
from genpipe.fields import Series
from genpipe.manifest import SPLITS, Manifest, describe, read_manifest
from genpipe.parts import (
    AGAIN,
    DELIVERED,
    OF_ANOTHER,
    UNSUSPICIOUS,
    Part,
    check_footer,
    damaged,
    dictionaries,
    in_full,
)
from genpipe.schema import Schema
from genpipe.seeds import drawn, numpy_rng
from genpipe.written import as_written

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

VALIDATION_ROWS = 1000
MIN_HOLDOUT = 50  # held-out entities to judge by
FEWEST_FOLDED, MOST_FOLDED = 100, 500  # entities of both sides that cross-fitting is for


def write_part(
    uri: str,
    table: pa.Table | Iterable[pa.Table],
    *,
    split: str,
    name: str,
    attempt: str,
    lineage: dict[str, str] | None = None,
) -> Part:
    """Write one Parquet part with page checksums; returns its record for the manifest.

    table: the rows, or several tables of one schema that become row groups one after the other.
    lineage: strings for the Parquet footer (``genpipe.<key>``).
    """
    tables = iter([table] if isinstance(table, pa.Table) else table)
    first = next(tables)
    footer = {f"genpipe.{key}".encode(): value.encode() for key, value in (lineage or {}).items()}
    schema = first.schema.with_metadata({**(first.schema.metadata or {}), **footer})
    sink, rows = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for group in itertools.chain([first], tables):
            writer.write_table(group.replace_schema_metadata(schema.metadata))
            rows += group.num_rows
    data = memoryview(sink.getvalue())
    path = f"data/{attempt}/{name}.parquet"
    store.write_bytes(store.join(uri, path), data if store.scheme_of(uri) == "file" else bytes(data))
    sha256 = hashlib.sha256(data).hexdigest()
    return Part(path=path, split=split, rows=rows, bytes=len(data), sha256=sha256)


def new_attempt() -> str:
    """A folder name no other writer uses."""
    return uuid.uuid4().hex[:12]


def commit(
    uri: str, *, name: str, schema: Schema, parts: list[Part], origin: dict[str, Any], in_order: bool = False
) -> Dataset:
    """Name the parts in a manifest: the one step that makes them a dataset. in_order: see `describe`.

    If somebody committed the same request first, their dataset is returned and ours stays unnamed.
    """
    manifest, data = describe(name=name, schema=schema, parts=parts, origin=origin, in_order=in_order)
    target = store.join(uri, "manifest.json")
    try:
        store.create(target, data)
    except ConflictError:
        if Dataset(uri).fingerprint != manifest.fingerprint:
            raise
    return Dataset(uri)


class Dataset:
    """A committed dataset; opening reads only the manifest. `str(dataset)` is its URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    @classmethod
    def exists(cls, uri: str) -> bool:
        return any(store.exists(store.join(uri, name)) for name in ("manifest.json", DELIVERED))

    @cached_property
    def manifest(self) -> Manifest:
        return read_manifest(self.uri)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def schema(self) -> Schema:
        return self.manifest.schema_

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def notices(self) -> list[str]:
        """What a person should know of how the input was taken, of what was left out above all."""
        origin = self.manifest.origin
        skipped, files = len(origin.get("rejects", [])), origin.get("files")
        said = [f"{skipped} of {files} files could not be read and were left out"] if skipped else []
        return [*said, *origin.get("changed", []), *origin.get("notices", [])]

    def rows(self, split: str | None = None) -> int:
        return sum(p.rows for p in self.manifest.parts if split in (None, p.split))

    def parts(self, split: str) -> tuple[Part, ...]:
        return tuple(p for p in self.manifest.parts if p.split == split)

    @contextmanager
    def reading(self, part: Part) -> Iterator[pq.ParquetFile]:
        """A part, open: its size, columns and rows checked now, each page's checksum as it is read; damage is
        a DataError. Columns of text may come as dictionaries: see `typed`.
        """
        where = self.where(part)
        size = store.size(where)
        if size != part.bytes:
            found = "the file is missing" if size is None else f"{size} bytes"
            raise self.damaged(part, found, f"{part.bytes} bytes")
        path, local = store.path_of(where), store.scheme_of(where) == "file"
        with store.answering(where):
            source = path if local else store.filesystem(where).open(path, "rb")
            try:
                with self._parquet(part, source) as file:
                    check_footer(part, file, self.schema, where=where)
                    yield file
            except (pa.ArrowException, OSError) as error:  # what pyarrow says of bytes that are wrong
                raise self.damaged(part, str(error).splitlines()[0]) from error

    def _parquet(self, part: Part, source: Any) -> pq.ParquetFile:
        words = dictionaries(self.schema)
        try:
            return pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=words)
        except KeyError as error:
            raise self.damaged(part, f"no column {error}") from error

    def damaged(self, part: Part, found: str, expected: str = "") -> DataError:
        return damaged(self.where(part), found, expected)

    def part_batches(
        self, part: Part, *, rows: int = 65_536, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream a part in order, `rows` at a time at most; memory is one row group."""
        seen, wide = 0, sum(8 * f.length for f in self.schema.fields if isinstance(f, Series))
        rows = min(rows, max(1, UNSUSPICIOUS // max(1, wide)))
        with self.reading(part) as file:
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                seen += batch.num_rows
                yield self.typed(part, batch)
        if seen != part.rows:
            # no checksum covers the footer, and with a wrong one pyarrow may read no rows without a word
            raise self.damaged(part, f"{seen} rows", f"{part.rows}")

    @cached_property
    def _seconds(self) -> dict[str, pa.DataType]:
        """Columns of times in whole seconds, a unit that Parquet does not have: it keeps milliseconds."""
        kinds = {f.name: f.arrow() for f in self.schema.of_kind("timestamp")}
        return {name: kind for name, kind in kinds.items() if kind.unit == "s"}

    def typed(self, part: Part, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch as it lies in a part with times in the units of the schema, and texts in full unless these
        are far larger than the part: a file of 400 kB can hold a text of 100 kB in each of a million rows.
        """
        batch = in_full(part, batch, where=self.where(part))
        for i, field in enumerate(batch.schema):
            if (kind := self._seconds.get(field.name)) and field.type != kind:
                batch = batch.set_column(i, field.with_type(kind), batch.column(i).cast(kind))
        return batch

    def batches(
        self, split: str, *, rows: int = 65_536, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream a split in order, see `part_batches`."""
        for part in self.parts(split):
            yield from self.part_batches(part, rows=rows, columns=columns)

    def written(self, split: str) -> Iterator[pa.RecordBatch]:
        """Stream a split for files of text: money, dates and the like as texts, in the form they came in."""
        forms, names = self.schema.forms, list(self.schema.names)
        for batch in self.batches(split):
            yield as_written(batch.select(names), forms)

    def table(self, split: str, *, columns: list[str] | None = None) -> pa.Table:
        """A whole split in memory, without the metadata of its parts."""
        schema = self.schema.arrow().remove_metadata()
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        batches = self.batches(split, columns=columns)
        return pa.Table.from_batches((b.select(wanted.names).cast(wanted) for b in batches), schema=wanted)

    def rows_at(self, split: str, places: np.ndarray) -> pa.Table:
        """Rows by their ascending places in a split; memory is these and a batch."""
        schema, offset, kept = self.schema.arrow().remove_metadata(), 0, []
        for batch in self.batches(split):
            first, last = np.searchsorted(places, [offset, offset + batch.num_rows])
            if first < last:
                mine = batch.take(pa.array(places[first:last] - offset))
                kept.append(mine.select(schema.names).cast(schema))
            offset += batch.num_rows
        return pa.Table.from_batches(kept, schema=schema)

    def some(self, split: str, rows: int, seed: int) -> pa.Table:
        """At most so many rows of a split, drawn at random, in their order."""
        return self.rows_at(split, drawn(numpy_rng(seed, "some rows"), self.rows(split), rows))

    @cached_property
    def validation(self) -> np.ndarray:
        """Places in the holdout, ascending, of the rows by which training stops and a search chooses: the
        same `VALIDATION_ROWS` at random, or all where there are fewer.
        """
        order = numpy_rng(0, "validation", self.fingerprint).permutation(self.rows("holdout"))
        return np.sort(order[:VALIDATION_ROWS])

    def judging(self, rows: int, seed: int) -> pa.Table:
        """At most so many of the holdout rows nothing was chosen by: those not in `validation`, where these
        are half of it or less. A smaller holdout serves both, as half of it would be too few for either.
        """
        places = np.arange(self.rows("holdout"))
        if len(places) >= 2 * len(self.validation):
            places = np.delete(places, self.validation)
        return self.rows_at("holdout", places[drawn(numpy_rng(seed, "some rows"), len(places), rows)])

    def pandas(self, split: str | None = None) -> pd.DataFrame:
        """A split (by default the only one, or `train`) as a pandas frame."""
        return self.arrow(split).to_pandas()

    def polars(self, split: str | None = None) -> pl.DataFrame:
        """As `pandas`, of polars."""
        import polars

        return polars.DataFrame(self.arrow(split))

    def arrow(self, split: str | None = None) -> pa.Table:
        """As `pandas`, of Arrow."""
        have = {p.split for p in self.manifest.parts}
        return self.table(split or ("generated" if "generated" in have else "train"))

    def verify(self) -> None:
        """Read every byte and compare with the manifest's sha256."""
        for part in self.manifest.parts:
            where = self.where(part)
            if hashlib.sha256(store.read_limited(where, part.bytes)).hexdigest() != part.sha256:
                found = "content changed since it was written"
                raise DataError("SHA256", where=where, found=found, fix=AGAIN)

    def where(self, part: Part) -> str:
        """The URI of a part. Raises DataError where its path leads out of the dataset and its versions."""
        if shared := OF_ANOTHER.fullmatch(part.path):
            return store.join(self.uri.rpartition("/")[0] or ".", shared[1])
        if part.path.startswith("/") or ".." in part.path.split("/") or not part.path.isprintable():
            raise DataError("PATH", where=self.uri, found=f"part {part.path!r} outside the dataset")
        return store.join(self.uri, part.path)

    def __str__(self) -> str:
        return self.uri

    def __repr__(self) -> str:
        rows = ", ".join(f"{self.rows(s)} {s}" for s in SPLITS if self.rows(s))
        return f"Dataset({self.name!r}, {self.schema.kind}, {rows}, {self.fingerprint}, {self.uri})"
