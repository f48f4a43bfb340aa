"""DuckDB: a file of its own, opened without a way to other files, the network or extensions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from genpipe.databases.address import Address
from genpipe.databases.base import BATCH_ROWS, Column, Database, Link, Table, driver, quoted
from genpipe.errors import DataError, closest

LEAST = 64 * 2**20  # bytes that DuckDB does not work without


class Duck(Database):
    def __init__(self, address: Address, memory: int, write: bool) -> None:
        super().__init__(address, memory)
        duckdb = driver("duckdb")
        self.errors = (duckdb.Error, pa.ArrowException, OSError)
        path = Path(address.place)
        if not write and not os.path.isfile(path):
            near = os.listdir(path.parent) if path.parent.is_dir() else []
            raise DataError("MISSING", where=str(path), found="no such file", fix=closest(path.name, near))
        limits = {
            "enable_external_access": "false",
            "memory_limit": f"{max(memory // 2, LEAST)}B",
            "threads": "1",
        }
        try:
            self.connection = duckdb.connect(str(path), read_only=not write, config=limits)
        except self.errors as error:
            fix = "is it a DuckDB file that nobody else writes to, of a version this duckdb reads?"
            raise DataError("DATABASE", where=str(path), found=str(error).splitlines()[0], fix=fix) from None

    def tables(self) -> dict[str, Table]:
        found = dict[str, Table]()
        views = {
            (s, n)
            for s, n in self._all("select schema_name, view_name from duckdb_views() where not internal")
        }
        rows = self._all(
            "select schema_name, table_name, column_name, data_type, is_nullable from duckdb_columns()"
            " where not internal and database_name = current_database()"
            " order by schema_name, table_name, column_index"
        )
        for schema, name, column, type_, nullable in rows:
            table = found.setdefault(_named(schema, name), Table(view=(schema, name) in views))
            table.columns[column] = Column("enum" if type_.startswith("ENUM") else type_, nullable)
        keys = self._all(
            "select schema_name, table_name, constraint_type, constraint_column_names, referenced_table,"
            " referenced_column_names from duckdb_constraints() where database_name = current_database()"
            " order by constraint_index"
        )
        for schema, name, kind, columns, other, others in keys:
            table = found[_named(schema, name)]
            if kind == "PRIMARY KEY":
                table.key = tuple(columns)
            elif kind == "UNIQUE":
                table.unique |= {*columns} if len(columns) == 1 else set()
            elif kind == "FOREIGN KEY":
                table.links.append(Link(tuple(columns), _named(schema, other), tuple(others)))
        return found

    def rows_of(self, table: Table, name: str, columns: Sequence[str]) -> str:
        """In the order in which they were put in, which DuckDB keeps."""
        read = ", ".join(_read(c, table.columns[c].type) for c in columns)
        return f"select {read} from {self.quoted(name)}"

    def shape(self, query: str) -> list[str]:
        return [name for name, *_ in self._all(f"describe select * from (\n{query}\n) as q")]

    def rows_of_query(self, query: str, columns: Sequence[str]) -> str:
        types = {name: kind for name, kind, *_ in self._all(f"describe select * from (\n{query}\n) as q")}
        return f"select {', '.join(_read(c, types[c]) for c in columns)} from (\n{query}\n) as q"

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        try:
            reader = self.connection.sql(statement).to_arrow_reader(BATCH_ROWS)
            for batch in reader:
                if batch.num_rows:
                    columns = [
                        c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns
                    ]
                    yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        except self.errors as error:
            raise self.wrong(error, statement) from None

    def one(self, statement: str) -> Any:
        return self._all(statement)[0][0]

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self.connection.execute(statement)

    def insert(self, name: str, columns: Mapping[str, str], batches: Iterable[pa.RecordBatch]) -> None:
        names = ", ".join(map(quoted, columns))
        for batch in batches:
            self.connection.register("genpipe_rows", pa.Table.from_batches([batch]))
            self.connection.execute(f"insert into {name} ({names}) select {names} from genpipe_rows")
            self.connection.unregister("genpipe_rows")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.connection.begin()
        try:
            yield
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()

    def close(self) -> None:
        self.connection.close()

    def quoted(self, name: str) -> str:
        schema, dot, last = name.partition(".")
        return f"{quoted(schema)}.{quoted(last)}" if dot else quoted(name)

    def _all(self, statement: str) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(statement).fetchall()
        except self.errors as error:
            raise self.wrong(error, statement) from None


def _named(schema: str, name: str) -> str:
    return name if schema == "main" else f"{schema}.{name}"


def _read(column: str, kind: str) -> str:
    """A column as it is asked for, under its name: in a type that Arrow and people have."""
    name = quoted(column)
    if kind == "INTERVAL":
        return f"epoch({name}) as {name}"
    text = kind in ("TIME WITH TIME ZONE", "BIT", "UUID", "JSON", "enum") or kind.startswith(
        ("ENUM", "UNION")
    )
    return f"{name}::varchar as {name}" if text else name
