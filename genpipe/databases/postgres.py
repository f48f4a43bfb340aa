"""PostgreSQL by ADBC: rows come by COPY as Arrow batches; a session that reads may do nothing else.

libpq finds the password itself, in PGPASSWORD or ~/.pgpass. Types that Arrow does not have come as texts,
intervals as seconds, and exact numbers of few digits as numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from genpipe.databases.address import Address
from genpipe.databases.base import Column, Database, Link, Table, driver, quoted
from genpipe.errors import InfrastructureError, UsageError
from genpipe.redaction import redact

CONNECT_SECONDS = 10
AS_IT_IS = {
    "smallint", "integer", "bigint", "real", "double precision", "boolean", "text", "character varying",
    "name", "date", "timestamp without time zone", "timestamp with time zone", "time without time zone",
    "bytea",
}  # fmt: skip
DIGITS = 15  # of an exact number that a double holds

COLUMNS = """
select n.nspname::text, c.relname::text, c.relkind::text, a.attname::text,
       case when t.typtype = 'e' then 'enum ' else '' end || format_type(a.atttypid, a.atttypmod),
       a.attnotnull
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
     join pg_type t on t.oid = a.atttypid
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and a.attnum > 0 and not a.attisdropped
      and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
order by 1, 2, a.attnum"""
KEYS = """
select n.nspname::text, c.relname::text, k.contype::text, fn.nspname::text, f.relname::text,
  (select array_agg(a.attname::text order by p.i) from unnest(k.conkey) with ordinality p(n, i)
   join pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.n),
  (select array_agg(a.attname::text order by p.i) from unnest(k.confkey) with ordinality p(n, i)
   join pg_attribute a on a.attrelid = k.confrelid and a.attnum = p.n)
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
     left join pg_class f on f.oid = k.confrelid left join pg_namespace fn on fn.oid = f.relnamespace
where k.contype in ('p', 'u', 'f') and k.conparentid = 0
order by 1, 2, k.oid"""


class Postgres(Database):
    def __init__(self, address: Address, memory: int, write: bool) -> None:
        super().__init__(address, memory)
        dbapi = driver("adbc_driver_postgresql.dbapi")
        self.errors = (dbapi.Error, pa.ArrowException, OSError)
        self.option = driver("adbc_driver_postgresql").StatementOptions.BATCH_SIZE_HINT_BYTES.value
        limit = (
            ""
            if "connect_timeout" in address.place or "PGCONNECT_TIMEOUT" in os.environ
            else str(CONNECT_SECONDS)
        )
        more = ("&" if "?" in address.place else "?") + f"connect_timeout={limit}" if limit else ""
        try:
            self.connection = dbapi.connect(address.place + more, autocommit=True)
        except self.errors as error:
            raise _away(address, error) from None
        self.cursor = self.connection.cursor()
        self.run("set datestyle = 'ISO, YMD'")
        self.run("set synchronize_seqscans = off")  # else rows begin where another reader is
        if not write:
            self.run("set default_transaction_read_only = on")

    def tables(self) -> dict[str, Table]:
        found = dict[str, Table]()
        for schema, name, kind, column, type_, notnull in self._all(COLUMNS):
            table = found.setdefault(_named(schema, name), Table(view=kind in "vm"))
            table.columns[column] = Column(type_, not notnull)
        for schema, name, kind, other_schema, other, columns, others in self._all(KEYS):
            table = found.get(_named(schema, name), Table())
            if kind == "p":
                table.key = tuple(columns)
            elif kind == "u":
                table.unique |= {*columns} if len(columns) == 1 else set()
            else:
                table.links.append(Link(tuple(columns), _named(other_schema, other), tuple(others)))
        return found

    def rows_of(self, table: Table, name: str, columns: Sequence[str]) -> str:
        """In the order of the primary key, or else of all columns: where rows lie is nothing to rely on."""
        read = [_read(c, table.columns[c].type) for c in columns]
        order = [quoted(c) for c in table.key] or [str(i + 1) for i in range(len(columns))]
        return f"select {', '.join(read)} from {self.quoted(name)} order by {', '.join(order)}"

    def shape(self, query: str) -> list[str]:
        return self._schema(f"select * from (\n{query}\n) as q").names

    def rows_of_query(self, query: str, columns: Sequence[str]) -> str:
        kinds = ", ".join(f"pg_typeof(q.{quoted(c)})::text" for c in columns)
        types = self._all(f"select {kinds} from (select 1) as one left join (\n{query}\n) as q on false")[0]
        read = ", ".join(_read(c, kind) for c, kind in zip(columns, types, strict=True))
        return f"select {read} from (\n{query}\n) as q"

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        with self.connection.cursor() as cursor:
            try:
                cursor.adbc_statement.set_options(**{self.option: str(self.block)})
                cursor.execute(statement)
                yield from (batch for batch in cursor.fetch_record_batch() if batch.num_rows)
            except self.errors as error:
                raise self.wrong(error, statement) from None

    def one(self, statement: str) -> Any:
        return self._all(statement)[0][0]

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self.cursor.execute(statement)

    def insert(self, name: str, columns: Mapping[str, str], batches: Iterable[pa.RecordBatch]) -> None:
        """By way of a table of this session, as COPY takes a column in its very type alone."""
        there, names = "genpipe_rows", ", ".join(map(quoted, columns))
        for i, batch in enumerate(batches):
            rows = batch.select(list(columns))
            self.cursor.adbc_ingest(there, rows, mode="append" if i else "create", temporary=True)
        values = ", ".join(f"{quoted(c)}::{_whole(kind)}" for c, kind in columns.items())
        self.run(f"insert into {name} ({names}) select {values} from pg_temp.{there}")
        self.run(f"drop table pg_temp.{there}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.run("begin")
        try:
            yield
        except BaseException:
            self.run("rollback")
            raise
        self.run("commit")

    def close(self) -> None:
        self.cursor.close()
        self.connection.close()

    def quoted(self, name: str) -> str:
        schema, dot, last = name.partition(".")
        return f"{quoted(schema)}.{quoted(last)}" if dot else quoted(name)

    def _schema(self, statement: str) -> pa.Schema:
        try:
            return self.cursor.adbc_execute_schema(statement)
        except self.errors as error:
            raise self.wrong(error, statement) from None

    def _all(self, statement: str) -> list[tuple[Any, ...]]:
        try:
            self.cursor.execute(statement)
            return self.cursor.fetchall()
        except self.errors as error:
            raise self.wrong(error, statement) from None

    def told(self, error: Exception) -> str:
        return re.sub(r"(?s)^.*?ERROR:\s*", "", str(error)).partition("Query was:")[0]


def _named(schema: str, name: str) -> str:
    return name if schema == "public" else f"{schema}.{name}"


def _whole(kind: str) -> str:
    """A type without its limits: a cast to one would cut what is too long for the column."""
    return re.sub(r"\(.*?\)", "", kind.removeprefix("enum "))


def _read(column: str, kind: str) -> str:
    """A column as it is asked for, under its name."""
    name = quoted(column)
    plain = re.sub(r"\(.*?\)", "", kind)
    exact = re.fullmatch(r"numeric\((\d+),(\d+)\)", kind)
    if kind.endswith("[]") or plain in AS_IT_IS:
        return name
    if exact and int(exact[1]) <= DIGITS:
        return f"{name}::{'double precision' if int(exact[2]) else 'bigint'} as {name}"
    if plain.startswith("interval"):
        return f"extract(epoch from {name})::double precision as {name}"
    if plain == "inet":
        return f"abbrev({name}) as {name}"
    return f"{name}::{'numeric::text' if plain == 'money' else 'text'} as {name}"


def _away(address: Address, error: Exception) -> InfrastructureError | UsageError:
    told = " ".join(redact(str(error)).split()).removeprefix("IO: [libpq] Failed to connect: ")
    fix = "is the server running, and may this machine reach it?"
    if "password" in told or "authentication" in told:
        fix = "set PGPASSWORD, or write a line host:port:database:user:password into ~/.pgpass (chmod 600)"
    elif "does not exist" in told:
        fix = "name another: postgresql://user@host:port/database"
    return InfrastructureError("DATABASE", where=str(address), found=told, fix=fix)
