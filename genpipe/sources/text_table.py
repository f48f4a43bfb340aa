"""A column of tables (JSON Lines, CSV, Parquet) as texts: one record a row."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError, UsageError, closest, few
from genpipe.fields import AnyField, Category, Identifier, Text
from genpipe.schema import Schema
from genpipe.sources.base import Options, Reject, Rows, Source
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.tabular.convert import convert_column
from genpipe.sources.tabular.normalise import normalise
from genpipe.sources.tabular.source import TableOptions, TableSource
from genpipe.sources.tabular.stats import TableStats

LOST = "rows without a text, which are left out: {n}"


class TextTable(Source):
    """Beside the texts, the target, which is their class, and the key, whose rows share a split, are kept."""

    kind: ClassVar[str] = "text"

    def __init__(
        self, files: tuple[File, ...], options: Options, *, field: str | None, encoding: str, longest: int
    ) -> None:
        super().__init__(files, options)
        self.field, self.longest = field, longest
        self.table = TableSource(files, TableOptions(memory=options.memory, encoding=encoding), keeps=False)

    @cached_property
    def units(self) -> tuple[tuple[File, ...], ...]:
        return self.table.units

    def observe(self, unit: int) -> TableStats:
        return self.table.observe(unit)

    def schema(self, stats: TableStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        columns = stats.complete()
        for role, name in (("field", self.field), ("target", target), *(("key", n) for n in key)):
            if name is not None and name not in columns:
                raise UsageError(
                    "COLUMN",
                    where=role,
                    found=f"{name!r} is not a column",
                    expected="one of " + few(list(columns)),
                    fix=closest(name, columns),
                )
        texts = [
            n for n, c in columns.items() if 2 * c.types["text"] > c.valid and n != target and n not in key
        ]
        name = self.field or ("text" if "text" in texts else texts[0] if len(texts) == 1 else None)
        if name is None:
            raise UsageError(
                "FIELD",
                found=f"{len(texts)} columns of texts" + (f": {few(texts)}" if texts else ""),
                expected="field=COLUMN, the one to learn",
                fix=f"columns are {few(list(columns))}",
            )
        fields: list[AnyField] = [Text(name=name, reason="one row a record")]
        if target:
            gaps = columns[target].nulls > 0
            fields.append(Category(name=target, nullable=gaps, reason="the target, the class of a text"))
        fields += [
            Identifier(name=n, nullable=columns[n].nulls > 0, reason="rows of one share a split")
            for n in key
            if n not in (name, target)
        ]
        return Schema(kind="text", fields=tuple(fields), target=target, key=key)

    def unused(self, schema: Schema, *, inferred: bool) -> list[str]:
        left = [n for n in self.table.names() if n not in schema.names]
        if not left:
            return []
        what = "target=COLUMN takes one as the class of a text, key= one that names its author"
        return [f"columns that are left out: {few(left)}; {what}"]

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        name = schema.of_kind("text")[0].name
        for file in self.units[unit]:
            for piece in self.table.pieces(file) if file.uri not in skip else ():
                batch, place = piece()
                texts = self._texts(batch, name, place)
                there = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), False)
                made = {name: texts, **self._others(batch, schema, place)}
                rows = pa.RecordBatch.from_arrays([made[n].filter(there) for n in schema.names], schema.names)
                lost = batch.num_rows - rows.num_rows
                rows = pa.RecordBatch.from_arrays(rows.columns, schema=schema.arrow())
                yield Rows(rows, lost={LOST: lost} if lost else {})

    def _texts(self, batch: pa.RecordBatch, name: str, place: Place) -> pa.Array:
        texts = _text(batch, name, place)
        longest = pc.max(pc.utf8_length(texts)).as_py() or 0
        if longest > self.longest:
            raise DataError(
                "LINESIZE",
                where=f"{place.uri}:row {place.row}",
                found=f"a text of {longest} characters, in one of {batch.num_rows} rows",
                expected=f"at most max_characters={self.longest}",
                fix="cut it, or raise max_characters=",
            )
        return texts

    def _others(self, batch: pa.RecordBatch, schema: Schema, place: Place) -> dict[str, Any]:
        others = (f for f in schema.fields if f.kind != "text")
        return {f.name: convert_column(_column(batch, f.name, place), f, place) for f in others}


def _column(batch: pa.RecordBatch, name: str, place: Place) -> pa.Array:
    """Rows of JSON may lack a key, and here all of a batch do."""
    index = batch.schema.get_field_index(name)
    return (
        normalise(batch.column(index), name, place) if index >= 0 else pa.nulls(batch.num_rows, pa.string())
    )


def _text(batch: pa.RecordBatch, name: str, place: Place) -> pa.Array:
    return convert_column(_column(batch, name, place), Category(name=name, nullable=True), place)
