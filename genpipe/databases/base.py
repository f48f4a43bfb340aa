"""What every database is here: tables with their keys, batches of a query, and a delivery, once."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa

from genpipe.databases.address import Address
from genpipe.errors import (
    ConflictError,
    DataError,
    GenpipeError,
    InfrastructureError,
    UsageError,
    closest,
    few,
)

DELIVERIES = "genpipe_deliveries"
NOTES = f"""create table if not exists {DELIVERIES} (output_id varchar(80) not null,
table_name varchar(200) not null, row_count bigint not null, primary key (output_id, table_name))"""
BATCH_ROWS = 16_384
FEWEST_ROWS = 16


@dataclass(frozen=True)
class Column:
    """type: as the database calls it. nullable: whether it may be empty."""

    type: str
    nullable: bool = True


@dataclass(frozen=True)
class Link:
    """A foreign key: these columns hold `others`, a key of `table`."""

    columns: tuple[str, ...]
    table: str
    others: tuple[str, ...]


@dataclass
class Table:
    """A table or view. key: of its primary key. unique: columns that alone tell rows apart."""

    columns: dict[str, Column] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    unique: set[str] = field(default_factory=set)
    links: list[Link] = field(default_factory=list)
    view: bool = False

    @property
    def numbers(self) -> set[str]:
        """Columns that tell rows apart, each alone."""
        return self.unique | ({*self.key} if len(self.key) == 1 else set())


class Rows(NamedTuple):
    """What is delivered into a table. output: the id of the output that it is. number: of its rows."""

    table: str
    output: str
    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    number: int


class Database(AbstractContextManager["Database"], ABC):
    """An open connection. Its errors are ours: `query` says what a database says of a statement."""

    errors: tuple[type[Exception], ...]
    # what a column of each Arrow type is declared as in a new table
    types: Mapping[str, str] = {
        "int": "bigint",
        "float": "double precision",
        "bool": "boolean",
        "date": "date",
    }

    def __init__(self, address: Address, memory: int) -> None:
        self.address, self.memory = address, memory
        self.block = max(2**18, (memory - 2**26) // 128)  # bytes of a batch, as of other sources

    @abstractmethod
    def tables(self) -> dict[str, Table]:
        """Every table and view that is the user's, by name."""

    @abstractmethod
    def rows_of(self, table: Table, name: str, columns: Sequence[str]) -> str:
        """The statement that reads these columns of a table, in an order that is always the same."""

    @abstractmethod
    def shape(self, query: str) -> list[str]:
        """The columns of a query."""

    @abstractmethod
    def rows_of_query(self, query: str, columns: Sequence[str]) -> str:
        """The statement that reads these columns of what a query gives, in its order."""

    @abstractmethod
    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """What a statement of `rows_of` gives."""

    @abstractmethod
    def one(self, statement: str) -> Any:
        """The first value of the first row."""

    @abstractmethod
    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        """A statement of ours that gives nothing."""

    @abstractmethod
    def insert(self, name: str, columns: Mapping[str, str], batches: Iterable[pa.RecordBatch]) -> None:
        """Put rows into a table. columns: their names and the types they have there."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All within happens, or nothing of it."""

    @abstractmethod
    def close(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def table(self, name: str) -> tuple[str, Table]:
        """A table by its name, or the only one there is. Raises DataError that tells what there is."""
        found = self.tables()
        mine = {n: t for n, t in found.items() if n != DELIVERIES}
        where, known = str(self.address._replace(table="")), few(mine, 30)
        if not mine:
            raise DataError("NOTABLE", where=where, found="no tables", expected="at least one")
        if not name:
            if len(mine) > 1:
                fix = "say table= (-o table=NAME), or `genpipe relate` for all of them together"
                raise UsageError(
                    "TABLE", where=where, found=f"{len(mine)} tables", expected=f"one of {known}", fix=fix
                )
            name = next(iter(mine))
        if name not in found:
            fix = closest(name, mine)
            raise DataError(
                "NOTABLE", where=where, found=f"no table {name!r}", expected=f"one of {known}", fix=fix
            )
        return name, found[name]

    def wrong(self, error: Exception, statement: str = "") -> DataError | InfrastructureError:
        """What a database says of a statement, as an error of ours."""
        told = " ".join(line.strip() for line in self.told(error).splitlines() if line.strip())
        return DataError(
            "QUERY",
            where=str(self.address),
            found=told[:400],
            fix=f"it was asked: {statement[:200]}" if statement else "",
        )

    def told(self, error: Exception) -> str:
        """What an error says that a person needs."""
        return str(error)

    def deliver(self, tables: Sequence[Rows]) -> None:
        """Put generated rows into tables, all of them or none, and each output once: where it is there
        already nothing is done.

        A new table is made; one that is there must be empty and have these columns. Rows and the note that
        they were delivered, in the table genpipe_deliveries, are one transaction.
        """
        try:
            with self.transaction():
                self.run(NOTES)
                for rows in (r for r in tables if not self._delivered(r)):
                    values = f"{literal(rows.output)}, {literal(rows.table)}, {rows.number}"
                    self.run(f"insert into {DELIVERIES} values ({values})")
                    columns = self._prepared(rows.table, rows.schema)
                    self.insert(self.quoted(rows.table), columns, rows.batches)
        except self.errors as error:
            with suppress(GenpipeError):  # of two at once the second may find what the first has made
                if all(map(self._delivered, tables)):
                    return
            raise self.wrong(error) from None

    def _delivered(self, rows: Rows) -> bool:
        key = f"output_id = {literal(rows.output)} and table_name = {literal(rows.table)}"
        return bool(self.one(f"select count(*) from {DELIVERIES} where {key}"))

    def _prepared(self, name: str, schema: pa.Schema) -> dict[str, str]:
        """The columns of the table that rows go into, which is made if it is not there."""
        there = self.tables().get(name)
        if there is None:
            kinds = {f.name: self.declared(f.type) for f in schema}
            columns = ", ".join(
                f"{quoted(f.name)} {kinds[f.name]}{'' if f.nullable else ' not null'}" for f in schema
            )
            self.run(f"create table {self.quoted(name)} ({columns})")
            return kinds
        where = str(self.address)
        if there.view or self.one(f"select count(*) from (select 1 from {self.quoted(name)} limit 1) as t"):
            found = "a view" if there.view else "a table that has rows already"
            fix = "name another table, or empty it"
            raise ConflictError(
                "OUTPUT", where=where, found=found, expected="a new or an empty table", fix=fix
            )
        if lacking := [n for n in schema.names if n not in there.columns]:
            found, fix = f"no column {few(lacking, 10)}", "name a new table, or add the columns"
            raise DataError("OUTPUT", where=where, found=found, expected="a table of these columns", fix=fix)
        return {n: there.columns[n].type for n in schema.names}

    def declared(self, kind: pa.DataType) -> str:
        """The type of a new column."""
        if pa.types.is_integer(kind):
            return self.types["int"]
        if pa.types.is_floating(kind):
            return self.types["float"]
        if pa.types.is_boolean(kind):
            return self.types["bool"]
        if pa.types.is_date(kind):
            return self.types["date"]
        if pa.types.is_timestamp(kind):
            return "timestamp with time zone" if kind.tz else "timestamp"
        return "text"

    def quoted(self, name: str) -> str:
        """A table's name in a statement."""
        return quoted(name)


def quoted(name: str) -> str:
    """A name in a statement, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in a statement."""
    return "'" + text.replace("'", "''") + "'"


def driver(module: str) -> Any:
    """A package that is installed with the extra `databases` alone."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0].replace("_", "-")
        found, fix = f"the package {package} is not installed", f"pip install {package}"
        raise UsageError("EXTRA", found=found, fix=f"{fix} (or genpipe's extra `databases`)") from None
