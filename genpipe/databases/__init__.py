"""Databases that tables are read from and delivered to: SQLite, PostgreSQL, DuckDB, each in its own file.

    sqlite:///people.db   sqlite:////data/people.db   people.db   people.sqlite
    postgresql://user@host:5432/shop                  the password: PGPASSWORD or ~/.pgpass, as libpq has it
    duckdb:///shop.duckdb                             shop.duckdb

`#table` behind any of them names a table: `sqlite:///people.db#visits`. What is needed beside Python is
loaded when a database is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genpipe.databases.address import Address, beside, is_database, place_of

if TYPE_CHECKING:
    from genpipe.databases.base import Database


def open_database(address: Address, *, memory: int = 2**29, write: bool = False) -> Database:
    """A connection, to be closed by `with`. memory: bytes that reading may take. write: else it only reads.

    Raises UsageError where the driver is not installed, DataError where there is no such file, and
    InfrastructureError where a server does not answer or refuses.
    """
    if address.scheme == "sqlite":
        from genpipe.databases.sqlite import Sqlite

        return Sqlite(address, memory, write)
    if address.scheme == "duckdb":
        from genpipe.databases.duck import Duck

        return Duck(address, memory, write)
    from genpipe.databases.postgres import Postgres

    return Postgres(address, memory, write)


__all__ = ["Address", "beside", "is_database", "open_database", "place_of"]
