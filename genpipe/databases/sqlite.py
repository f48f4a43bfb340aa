"""SQLite by Python's own module: read as it is on disk, by statements that can do nothing but read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from genpipe.databases.address import Address
from genpipe.databases.base import BATCH_ROWS, FEWEST_ROWS, Column, Database, Link, Table, quoted
from genpipe.errors import DataError, closest

FETCHED_ROWS = 1024
# what a query may do
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


class Sqlite(Database):
    errors = (sqlite3.Error, UnicodeDecodeError)
    types = {"int": "integer", "float": "real", "bool": "boolean", "date": "date"}

    def __init__(self, address: Address, memory: int, write: bool) -> None:
        super().__init__(address, memory)
        path, mode = Path(address.place), "rwc" if write else "ro"
        if not write and not os.path.isfile(path):
            near = os.listdir(path.parent) if path.parent.is_dir() else []
            raise DataError("MISSING", where=str(path), found="no such file", fix=closest(path.name, near))
        try:
            self.connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=60,
            )
            self.connection.execute("pragma trusted_schema = off")
            self.connection.execute("select count(*) from sqlite_master").fetchall()
        except sqlite3.Error as error:
            fix = "is it a SQLite file, and may it be read?"
            raise DataError("DATABASE", where=str(path), found=str(error), fix=fix) from None
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, memory // 32)
        self.reads, self.flags = not write, set[str]()  # flags: columns that are booleans
        if self.reads:
            self.connection.set_authorizer(_only_reads)

    def tables(self) -> dict[str, Table]:
        found = dict[str, Table]()
        listed = self._all(
            "select name, type from sqlite_master where type in ('table', 'view') order by name"
        )
        for name, kind in listed:
            if name.startswith("sqlite_"):
                continue
            rows = self._all(
                'select name, type, "notnull", pk from pragma_table_xinfo(?) where hidden <> 1', name
            )
            key = [column for _, column in sorted((pk, column) for column, _, _, pk in rows if pk)]
            columns = {c: Column(type_, not (notnull or c in key)) for c, type_, notnull, _ in rows}
            found[name] = Table(columns, tuple(key), self._unique(name), view=kind == "view")
        for name, table in found.items():
            table.links = self._links(name, found)
        return found

    def _unique(self, name: str) -> set[str]:
        out = set[str]()
        rows = self._all("select name from pragma_index_list(?) where \"unique\" and origin = 'u'", name)
        for (index,) in rows:
            columns = [c for (c,) in self._all("select name from pragma_index_info(?)", index)]
            out |= {*columns} if len(columns) == 1 else set()
        return out

    def _links(self, name: str, tables: Mapping[str, Table]) -> list[Link]:
        rows = self._all(
            'select id, "table", "from", "to" from pragma_foreign_key_list(?) order by id, seq', name
        )
        out = list[Link]()
        same = {t.lower(): t for t in tables}
        for number in dict.fromkeys(row[0] for row in rows):
            mine = [row for row in rows if row[0] == number]
            other = same.get(mine[0][1].lower(), mine[0][1])
            theirs = tuple(row[3] for row in mine if row[3]) or (tables[other].key if other in tables else ())
            out.append(Link(tuple(row[2] for row in mine), other, theirs))
        return out[::-1]  # SQLite lists the last first

    def rows_of(self, table: Table, name: str, columns: Sequence[str]) -> str:
        """In the order of the file, which is that of its key. What is declared a boolean is one if it holds 0
        and 1 alone.
        """
        flags = [c for c in columns if "bool" in table.columns[c].type.lower()]
        self.flags = {c for c in flags if self.one(
            f"select not exists (select 1 from {quoted(name)} where {quoted(c)} is not null and"
            f" ({quoted(c)} not in (0, 1) or typeof({quoted(c)}) <> 'integer'))"
        )}  # fmt: skip
        return f"select {', '.join(map(quoted, columns))} from {quoted(name)}"

    def shape(self, query: str) -> list[str]:
        # not within another query, where two of one name get names of their own
        with closing(self._ask(query)) as cursor:
            return [d[0] for d in cursor.description or ()]

    def rows_of_query(self, query: str, columns: Sequence[str]) -> str:
        self.flags = set()
        return f"select {', '.join(map(quoted, columns))} from (\n{query}\n)"

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """Rows are fetched few at a time, which is quickest, and gathered."""
        most, now = self.block, list[pa.RecordBatch]()
        for few in self._fetched(statement):
            full = sum(b.num_rows for b in now) >= BATCH_ROWS or sum(b.nbytes for b in now) >= most
            if now and (full or few.schema != now[0].schema):
                yield pa.concat_batches(now)
                now = []
            now.append(few)
        if now:
            yield pa.concat_batches(now)

    def _fetched(self, statement: str) -> Iterator[pa.RecordBatch]:
        cursor, rows, known = self._ask(statement), FEWEST_ROWS, dict[str, pa.DataType]()
        names = [d[0] for d in cursor.description]
        while True:
            try:
                chunk = cursor.fetchmany(rows)
            except self.errors as error:
                raise self.wrong(error, statement) from None
            if not chunk:
                return
            arrays = [_column(n, v, known) for n, v in zip(names, zip(*chunk, strict=True), strict=True)]
            arrays = [
                a.cast(pa.bool_()) if n in self.flags else a for n, a in zip(names, arrays, strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(arrays, names=names)
            fit = self.block // 8 * batch.num_rows // max(1, batch.nbytes)
            rows = max(1, min(fit, FETCHED_ROWS, rows * 8))
            yield batch

    def one(self, statement: str) -> Any:
        return self._ask(statement).fetchone()[0]

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self.connection.execute(statement, values)

    def insert(self, name: str, columns: Mapping[str, str], batches: Iterable[pa.RecordBatch]) -> None:
        names = ", ".join(map(quoted, columns))
        marks = ", ".join("?" * len(columns))
        for batch in batches:
            lists = [_plain(batch.column(n)).to_pylist() for n in columns]
            self.connection.executemany(
                f"insert into {name} ({names}) values ({marks})", zip(*lists, strict=True)
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.connection.execute("rollback")
            raise
        self.connection.execute("commit")

    def close(self) -> None:
        self.connection.close()

    def _ask(self, statement: str) -> sqlite3.Cursor:
        try:
            return self.connection.execute(statement)
        except (*self.errors, sqlite3.Warning) as error:
            raise self.wrong(error, statement) from None

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to a question of ours about tables, which a query may not ask."""
        if self.reads:
            self.connection.set_authorizer(None)
        try:
            return self.connection.execute(statement, values).fetchall()
        except self.errors as error:
            raise self.wrong(error, statement) from None
        finally:
            if self.reads:
                self.connection.set_authorizer(_only_reads)


def _only_reads(action: int, first: str | None, second: str | None, *_: Any) -> int:
    allowed = action in _READS and (second or "").lower() != "load_extension"
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _column(name: str, values: Sequence[Any], known: dict[str, pa.DataType]) -> pa.Array:
    """Values of one column, which may be of any type each: of several, all are texts."""
    try:
        return pa.array(values, known.get(name))
    except (pa.ArrowException, TypeError, OverflowError):
        pass
    try:
        found = pa.array(values)
        mixed = False
    except (pa.ArrowException, TypeError, OverflowError):
        mixed = True
    if mixed:
        found = pa.array([v if v is None or isinstance(v, str) else _text(v) for v in values], pa.string())
    if not pa.types.is_null(found.type):
        known[name] = found.type
    return found


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _plain(values: pa.Array) -> pa.Array:
    """Dates and times as SQLite's own functions read them."""
    if pa.types.is_temporal(values.type):
        return values.cast(pa.string())
    return values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values
