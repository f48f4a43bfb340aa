"""Tables: CSV, JSON Lines, Parquet, Arrow, Excel; a file, folder, glob or s3:// prefix, in bounded memory."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
from pydantic import Field

from genpipe import store
from genpipe.errors import DataError, UsageError, closest, few
from genpipe.fields import AnyField
from genpipe.schema import Schema
from genpipe.sources import entities, repeats
from genpipe.sources.base import Piece, Reject, Rows, Source, attempt, ordered, unset
from genpipe.sources.codes import find_codes
from genpipe.sources.columns import Place
from genpipe.sources.entities import Entity
from genpipe.sources.files import File, suffix_of
from genpipe.sources.relations import Relation, find
from genpipe.sources.sample import Sample
from genpipe.sources.tabular import csv, jsonl, stats_as_json
from genpipe.sources.tabular.binary import BatchReader, check_installed
from genpipe.sources.tabular.convert import convert
from genpipe.sources.tabular.flat import check_taken, flat, folder_columns, is_taken, structs_of, with_folders
from genpipe.sources.tabular.infer import infer_field, legible, to_sample
from genpipe.sources.tabular.look import exact, look, unit_of
from genpipe.sources.tabular.normalise import normalise
from genpipe.sources.tabular.rows import LEFT, RowOptions, some
from genpipe.sources.tabular.spill import Kept, Spill
from genpipe.sources.tabular.stats import JSON, TableStats
from genpipe.sources.timing import looks_like_series

CSV, PARQUET = (".csv", ".tsv", ".txt"), (".parquet", ".pq")
ARROW, SHEET = (".arrow", ".feather", ".ipc"), (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
BINARY = {
    **dict.fromkeys(PARQUET, "parquet"),
    **dict.fromkeys(ARROW, "arrow"),
    **dict.fromkeys(SHEET, "sheet"),
}
SUFFIXES = (*CSV[:2], *JSON, *BINARY)
TOGETHER = 2**20  # bytes of files that are read and written together; a new one costs as much to read again


class TableOptions(csv.CsvOptions, RowOptions):
    """columns: to take, of all. drop: columns to leave out. A nested one is named whole, or part by part.
    relations: whether sums and orders of columns are looked for, to be kept in every row. sheet: of a
    workbook with several, its name or number from 1.
    """

    columns: csv.Names = ()
    drop: csv.Names = ()
    relations: bool = True
    sheet: str | int | None = Field(default=None, exclude_if=unset)


class TableSource(Source):
    """keeps: whether what is made of a file stays: its batches until the second pass, and its parts and
    statistics for the next version of the dataset.
    """

    kind = "tabular"
    options: TableOptions

    def __init__(self, files: tuple[File, ...], options: TableOptions, *, keeps: bool = True) -> None:
        super().__init__(files, options)
        self.incremental = keeps
        # batches of files, typed when they were observed: text is parsed once
        self.kept: dict[str, Kept] = {}
        self.spill = Spill(options.memory // 8) if keeps else None

    @cached_property
    def readers(self) -> dict[str, BatchReader]:
        """By the formats that are parsed in processes of their own."""
        asked = {
            name: getattr(self.options, name, None) for name in ("sheet", "skip", "names", "nulls", "header")
        }
        return {
            module: BatchReader(module, self.options.memory, **(asked if module == "sheet" else {}))
            for module in BINARY.values()
        }

    def __getstate__(self) -> dict[str, Any]:
        here = {k: v for k, v in self.__dict__.items() if k != "readers"}  # processes of this machine
        return here | {"kept": {}, "spill": None}

    @property
    def unit_bytes(self) -> int:
        """A daily file is one of its own, but for small ones."""
        return min(super().unit_bytes, TOGETHER) if self.incremental else super().unit_bytes

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """Of each file a number of its own, whatever files come after it: 0 of the first, wherever it is."""
        names = Counter(file.relative for file in self.files)
        own = [f.relative if names[f.relative] == 1 else f.uri for f in self.files[1:]]
        return (0, *(int(store.digest(name)[:15], 16) for name in own))

    def lean(self) -> TableSource:
        return copy.copy(self)  # as to another process

    @cached_property
    def unit_keys(self) -> list[str]:
        numbered = zip(self.files, self.tokens, strict=True)
        told = ([f.uri, f.relative, f.size, f.stamp, token] for f, token in numbered)
        return [store.digest([next(told) for _ in unit]) for unit in self.units]

    def form(self, schema: Schema, stats: TableStats | None) -> Any:
        """Where there is no dust that rounding takes away, a number is the same to any digits."""
        about = [schema.entity, schema.key]
        if stats is None:
            return [*about, *(f.model_dump(exclude={"reason"}) for f in schema.fields)]
        dusty = {name for name, column in stats.columns.items() if column.digits.dusty}
        return [*about, *(_read_as(f, f.name in dusty) for f in schema.fields)]

    def dump(self, stats: TableStats) -> dict[str, Any]:
        return stats_as_json.dump(stats)

    def load(self, told: Any) -> TableStats:
        return stats_as_json.load(told, {file.uri: i for i, file in enumerate(self.files)})

    def observe(self, unit: int) -> TableStats:
        total = TableStats()
        first = sum(len(u) for u in self.units[:unit])
        for i, file in enumerate(self.units[unit]):
            seen = attempt(partial(self._observe_file, index=first + i), file, total.rejects)
            if seen is not None:
                total = total.merge(seen)
        return total

    def _observe_file(self, file: File, index: int) -> TableStats:
        total, spill, kept = TableStats(), self.spill, Kept()
        for stats, batch, place in ordered(
            partial(_look, index=index, token=self.tokens[index], options=self.options), self.pieces(file)
        ):
            total = total.merge(stats)
            if spill and batch.num_rows:
                piece = spill.keep(batch, place, disk=file.suffix not in (*PARQUET, *ARROW))
                if piece is None:  # a file is kept whole or not at all
                    spill, kept = None, Kept()
                else:
                    kept.add(piece, batch.schema)
        if total.rows == total.skipped == 0:
            raise DataError("NOROWS", where=file.uri, found="a header and 0 rows", expected="data")
        self.kept[file.uri] = kept
        return total

    def schema(self, stats: TableStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        if not stats.rows and stats.skipped:
            raise self._none_taken(stats.skipped)
        columns = stats.complete()
        check_taken({*columns, *stats.nested, *stats.left}, self.options.columns, self.options.drop)
        for role, names in (("target", (target,) if target else ()), ("key", key)):
            for name in names:
                if name not in columns:
                    raise UsageError(
                        "COLUMN",
                        found=f"{role} {name!r} is not a column",
                        expected="one of " + ", ".join(list(columns)[:50]),
                        fix=closest(name, columns),
                    )
        found = (infer_field(c, target=c.name == target) for c in columns.values())
        fields = [f for f in found if f is not None]
        made = stats.patterns(f.name for f in fields if f.arrow() == pa.string() and f.kind == "identifier")
        fields = [f.model_copy(update={"pattern": made.get(f.name)}) if f.name in made else f for f in fields]
        if not fields:
            raise DataError(
                "EMPTY",
                found="nothing but lists" if stats.nested else "every column is empty",
                expected="at least one column with values",
            )
        if target and columns[target].valid == 0:
            raise DataError("TARGET", where=target, found="no value at all", expected="a label in every row")
        parts = [f.name for f in fields]
        structs = [s for s in sorted(stats.structs) if any(n.startswith(f"{s}.") for n in parts)]
        return Schema(kind="tabular", fields=tuple(fields), target=target, key=key, structs=tuple(structs))

    def entity(self, stats: TableStats) -> Entity | None:
        found = entities.find(stats.repeats, stats.columns)
        return found and replace(found, patterns=stats.patterns(found.made))

    def relations(self, stats: TableStats, schema: Schema) -> list[Relation]:
        if not self.options.relations:
            return []
        found = find(stats.sample.read(schema.fields), schema.fields)
        taken = {schema.target, *schema.key, *(n for r in found for n in r.constraint.names)}
        return found + find_codes(stats.repeats, schema.fields, taken)

    def notices(self, stats: TableStats) -> list[str]:
        fields = legible(stats.columns.values())
        return stats.losses() + looks_like_series(stats.columns, fields, stats.sample.read(fields.values()))

    def unused(self, schema: Schema, *, inferred: bool) -> list[str]:
        left = [] if inferred else [n for n in self.names() if n not in schema.names]
        return [f"columns that the schema does not name are left out: {few(left)}"] if left else []

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        def make(piece: Piece) -> Rows:
            batch, place = piece()
            columns = [_column(batch, name, place) for name in schema.names]
            taken = pa.RecordBatch.from_arrays(columns, names=list(schema.names))
            return Rows(convert(taken, schema, place), lost={LEFT: place.left} if place.left else {})

        for file in self.units[unit]:
            if file.uri in skip:
                continue
            kept = self.kept.pop(file.uri, Kept())
            whole = kept.pieces and all(exact(found, schema) for found in kept.schemas)
            yield from ordered(make, kept.drain() if whole else self.pieces(file))

    def _none_taken(self, rows: int) -> DataError:
        asked = " and ".join(self.options.where or (f"sample={self.options.sample}",))
        return DataError("NOROWS", found=f"none of {rows} rows is {asked}", expected="rows to learn from",
                         fix="correct where=, or leave it out")  # fmt: skip

    def names(self) -> list[str]:
        """The columns of the first file."""
        batch, _ = next(iter(self.pieces(self.files[0])))()
        return batch.schema.names

    def pieces(self, file: File) -> Iterator[Piece]:
        """A file as calls that read one batch each, to be made on any thread."""
        pieces: Iterator[Piece] = (partial(flat, piece) for piece in self._pieces(file))
        if found := folder_columns(file):
            pieces = (partial(with_folders, piece, found) for piece in pieces)
        return (partial(some, piece, self.options) for piece in pieces) if self.options.some_rows else pieces

    @property
    def identity(self) -> list[Any]:
        """Folders became columns later, so data in such folders is another request than it was."""
        return [*super().identity, *(["folders"] if any(map(folder_columns, self.files)) else [])]

    def _pieces(self, file: File) -> Iterator[Piece]:
        if file.size == 0:
            raise DataError("EMPTY", where=file.uri, found="0 bytes", expected="a table")
        if module := BINARY.get(file.suffix):
            if module == "sheet":
                check_installed()
            return (partial(_known, item) for item in self.readers[module].batches(file))
        if file.suffix in JSON:
            return jsonl.pieces(file, self.options)
        return csv.pieces(file, self.options)


def _read_as(field: AnyField, dusty: bool) -> list[Any]:
    decimals = getattr(field, "decimals", None) if dusty else None
    return [field.name, str(field.arrow()), getattr(field, "format", None), decimals]


def _known(item: tuple[pa.RecordBatch, Place]) -> tuple[pa.RecordBatch, Place]:
    return item


def _look(
    piece: Piece, index: int, token: int = 0, options: TableOptions | None = None
) -> tuple[TableStats, pa.RecordBatch, Place]:
    """Statistics of a batch of file number `index`, and the batch in the types that were found."""
    batch, place = piece()
    if not batch.num_rows:  # none of it was asked for
        return TableStats(skipped=place.left), batch, place
    names = batch.schema.names
    dropped = {n for n in names if re.fullmatch(r"__index_level_\d+__", n)}
    left = {n for n in names if options and not is_taken(n, options.columns, options.drop)}
    nested = {n for n, t in zip(names, batch.schema.types, strict=True) if pa.types.is_nested(t)} - left
    out = dropped | nested | left
    kept = tuple(n for n in names if n not in out)
    values = {n: normalise(batch.column(n), n, place) for n in kept}
    seen = {n: look(n, column, place) for n, column in values.items()}
    columns = {n: column for n, (column, _) in seen.items()}
    for n, column in columns.items():
        column.unit = unit_of(batch.schema.field(n).type)
    typed = pa.RecordBatch.from_arrays([values for _, values in seen.values()], names=list(kept))
    layout, seen_again = (index, kept, place.uri), repeats.look(typed)
    sample = Sample.of(typed, token, place.row, [n for n, c in columns.items() if to_sample(c)])
    stats = TableStats([], batch.num_rows, columns, layout, dropped, nested, left, seen_again, sample)
    stats.structs, stats.skipped = structs_of(batch), place.left
    return stats, typed, place


def _column(batch: pa.RecordBatch, name: str, place: Place) -> pa.Array:
    index = batch.schema.get_field_index(name)
    if index >= 0:
        return normalise(batch.column(index), name, place)
    if suffix_of(place.uri) in JSON:
        return pa.nulls(batch.num_rows)
    raise DataError(
        "SCHEMA",
        where=place.uri,
        found=f"no column {name!r}",
        expected="the columns of the schema: it names " + name,
        fix=closest(name, batch.schema.names) or "remove it from the schema file",
    )
