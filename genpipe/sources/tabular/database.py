"""A table of a database, or what a query gives, as a source: read once, kept beside, and read from there.

One statement reads all rows, so they are of one moment; they are fingerprinted by what they are. What the
database says of its columns decides where values alone would not: keys, and what one of few words is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa

from genpipe.databases import Address, open_database
from genpipe.databases.base import Database
from genpipe.databases.base import Table as Declared
from genpipe.errors import DataError, InfrastructureError, UsageError
from genpipe.fields import AnyField, Category, Identifier
from genpipe.redaction import shows_secret
from genpipe.schema import Schema
from genpipe.sources.base import Piece
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import check_growth, check_names
from genpipe.sources.tabular.csv import Names
from genpipe.sources.tabular.fingerprint import Fingerprint
from genpipe.sources.tabular.flat import check_taken, is_taken, within
from genpipe.sources.tabular.rows import RowOptions
from genpipe.sources.tabular.source import TableSource
from genpipe.sources.tabular.spill import Spill
from genpipe.sources.tabular.stats import TableStats

KEYS = ("integer", "category", "identifier")


class DatabaseOptions(RowOptions):
    """table: of the database, where it has several. query: in place of a table. columns, drop: to take, to
    leave out: these never leave the database. relations: as of any table.
    """

    table: str | None = None
    query: str | None = None
    columns: Names = ()
    drop: Names = ()
    relations: bool = True


class DatabaseSource(TableSource):
    """place: see genpipe/databases. It is opened when it is first asked for rows."""

    options: DatabaseOptions  # type: ignore[assignment]
    travels = False

    def __init__(self, place: str, options: DatabaseOptions) -> None:
        self.address = Address.parse(place)
        if options.query and (options.table or self.address.table):
            raise UsageError("OPTION", where="query", found="a query beside a table", expected="one of them")
        if options.query and shows_secret(options.query):
            fix = "make a view of it in the database, as a query is kept with the dataset"
            raise UsageError("KEYS", where="query", found="a password or key in it", fix=fix)
        if options.table:
            self.address = self.address._replace(table=options.table)
        self.declared, self.unread = Declared(), set[str]()
        super().__init__((File(str(self.address), 1, "", ""),), options, keeps=False)  # type: ignore[arg-type]

    @cached_property
    def read_once(self) -> tuple[str, list[Piece]]:
        """(a hash of all rows, the rows), which lie in memory and in a file without a name."""
        digest, pieces, grown, row = Fingerprint(), list[Piece](), 0, 1
        spill, uri = Spill(self.options.memory // 8), str(self.address)
        with open_database(self.address, memory=self.options.memory) as database:
            size = 0 if self.address.scheme == "postgresql" else _size(self.address.place)
            for batch in database.batches(self._statement(database)):
                grown += max(batch.nbytes, batch.num_rows)
                if size:  # a view of a stranger's file may give rows without end
                    check_growth(f"{uri}:row {row}", size, grown, self.options.memory)
                digest.add(batch)
                piece = spill.keep(batch, Place(uri, row), disk=True)
                if piece is None:
                    fix = "free some space, or read fewer columns with columns= or query="
                    raise InfrastructureError("DISK", where=uri, found="no space for what is read", fix=fix)
                pieces.append(piece)
                row += batch.num_rows
        if not pieces:
            raise DataError("NOROWS", where=uri, found="0 rows", expected="data")
        self.files = (File(uri, grown, digest.hexdigest(), ""),)
        return digest.hexdigest(), pieces

    def _statement(self, database: Database) -> str:
        """What is asked, once it is known which columns there are and which are taken."""
        if self.options.query:
            names = database.shape(query := self.options.query.strip().rstrip(";"))
        else:
            name, self.declared = database.table(self.address.table)
            self.address = self.address._replace(table=name)
            names = list(self.declared.columns)
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            found = f"several columns named {', '.join(map(repr, twice[:10]))}"
            raise DataError(
                "DUPCOL", where=str(self.address), found=found, expected="different names (AS name)"
            )
        check_names(names, str(self.address))
        wanted, drop = self.options.columns, self.options.drop
        parts = {part for name in wanted for part in within(name)}  # of a struct, named part by part
        taken = [n for n in names if n not in drop and (not wanted or n in parts or is_taken(n, wanted, ()))]
        self.unread = {*names} - {*taken}
        if not taken:
            check_taken(names, wanted, drop)
            raise DataError("EMPTY", where=str(self.address), found="no column that is taken")
        if self.options.query:
            return database.rows_of_query(query, taken)
        return database.rows_of(self.declared, name, taken)

    @property
    def identity(self) -> list[Any]:
        return ["database", self.read_once[0]]

    def check_unchanged(self, units: Iterable[int]) -> None:
        """It was read once."""

    def _pieces(self, file: File) -> Iterator[Piece]:
        return iter(self.read_once[1])

    def observe(self, unit: int) -> TableStats:
        stats = super().observe(unit)
        stats.left |= self.unread
        return stats

    def schema(self, stats: TableStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        found = super().schema(stats, target=target, key=key)
        fields = tuple(f if f.name == target else self._as_declared(f) for f in found.fields)
        return found.model_copy(update={"fields": fields})

    def _as_declared(self, field: AnyField) -> AnyField:
        """The field as its column is declared, as far as that says more than the values."""
        column = self.declared.columns.get(field.name)
        if column is None:
            return field
        if field.name in self.declared.numbers and field.kind in KEYS and not field.pii:
            what = "the primary key" if field.name in self.declared.key else "unique"
            whole = field.arrow() == pa.int64() and not getattr(field, "format", None)
            return Identifier(
                name=field.name,
                nullable=field.nullable,
                storage="integer" if whole else "string",
                minimum=1 if whole else None,  # so that it fits into a column of 32 bits
                reason=f"{what} in the database: tells rows apart, is never learnt, and is made up anew",
            )
        if column.type.startswith("enum") and field.kind in ("identifier", "text") and not field.pii:
            return Category(name=field.name, nullable=field.nullable, reason="an enumeration in the database")
        told = f"{column.type.lower()}{'' if column.nullable else ' not null'} in the database"
        return field.model_copy(update={"reason": f"{field.reason}; {told}" if column.type else field.reason})


def _size(path: str) -> int:
    """Bytes of a file of a database, with what was written beside it and not yet into it."""
    return sum(os.path.getsize(path + end) for end in ("", "-wal", ".wal") if os.path.exists(path + end))


def open_table(place: str, options: DatabaseOptions, kind: str | None) -> DatabaseSource:
    """The source of a place that `is_database`."""
    if kind not in (None, "tabular"):
        fix = "write it to a Parquet file and ingest that"
        raise UsageError("KIND", found=f"a database as {kind}", expected="kind 'tabular'", fix=fix)
    return DatabaseSource(place, options)
