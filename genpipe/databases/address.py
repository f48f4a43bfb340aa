"""Where a database is, from its URL or its file's name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from genpipe.errors import UsageError, refuse_keys

FILES = {".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".duckdb": "duckdb"}
_URL = re.compile(r"(sqlite|duckdb|postgresql|postgres)://")
EXPECTED = (
    "sqlite:///file.db, duckdb:///file.duckdb or postgresql://user@host/database, with #table behind it"
)


class Address(NamedTuple):
    """place: of the database, a path for a file and a URL for a server. table: empty where none is named."""

    scheme: str
    place: str
    table: str = ""

    def __str__(self) -> str:
        whole = self.place if self.scheme == "postgresql" else f"{self.scheme}:///{self.place}"
        return whole + (f"#{self.table}" if self.table else "")

    @property
    def name(self) -> str:
        """What to call the data: the table, or the database."""
        last = self.place.partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
        return self.table or (last if self.scheme == "postgresql" else os.path.splitext(last)[0])

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises UsageError where it is no address, or holds a password."""
        refuse_keys(text)
        found = _URL.match(text)
        if found is None:
            return cls(FILES[os.path.splitext(text)[1].lower()], _file(text))
        place, _, table = text.partition("#")
        scheme = found[1]
        if scheme in ("postgres", "postgresql"):
            if not re.fullmatch(r"[^/?]*(/[^/?]+)?(\?.*)?", place[found.end() :]):
                raise UsageError("DATABASE", where=text, found="no database", expected=EXPECTED)
            return cls("postgresql", f"postgresql://{place[found.end() :]}", unquote(table))
        path = place[found.end() :]
        if not path.startswith("/") or not path[1:]:
            fix = "a path stands behind three slashes, a whole one behind four"
            raise UsageError("DATABASE", where=text, found="no file", expected=EXPECTED, fix=fix)
        return cls(scheme, _file(path[1:]), unquote(table))


def _file(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def is_database(place: Any) -> bool:
    """Whether it is the URL of a database, or a file that is named as one."""
    if not isinstance(place, str | os.PathLike):
        return False
    text = os.fspath(place)
    return bool(_URL.match(text)) or ("://" not in text and os.path.splitext(text)[1].lower() in FILES)


def place_of(source: str, options: Mapping[str, Any]) -> str:
    """The whole address of what is read: that of a table, where the options name one."""
    address = Address.parse(source)
    if (table := options.get("table")) and address.table not in ("", table):
        found = f"table={table!r} beside #{address.table}"
        raise UsageError("OPTION", where=source, found=found, expected="one of them")
    return str(address._replace(table=str(table or address.table)))


def beside(place: str, folder: Path) -> str:
    """The address of a spec's file with its relative path as one of the spec's folder."""
    found = re.match(r"(sqlite|duckdb):///(?=[^/~])", place)
    return f"{found[0]}{(folder / place[found.end() :]).absolute()}" if found else place
