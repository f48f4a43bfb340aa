"""What a table may be at most. A few bytes of a stranger's file can ask for any amount of memory or time, so
every reader stops here, and says what it found and how to go on.

| limit | value |
|---|---|
| columns, or different keys of JSON objects | MAX_COLUMNS |
| characters of a column's name | MAX_NAME |
| bytes of a CSV header | MAX_HEADER |
| bytes of a CSV record or a JSON line, and so of a cell | Options.longest: a 32nd of `memory`, MAX_RECORD |
| objects and lists within each other | MAX_DEPTH |
| bytes of text out of a compressed file | half of `memory`, or MAX_RATIO times the file |
| bytes of values out of Parquet, Arrow, Excel, databases or JSON | `memory`, or MAX_RATIO times the file |
| bytes a process that parses Parquet, Arrow or Excel may grow by | `memory` |
| files of one input | MAX_FILES |
"""

from __future__ import annotations

from collections.abc import Collection

from genpipe.errors import DataError

MAX_COLUMNS = 65_536
MAX_NAME = 1_024
MAX_HEADER = 4 * 2**20
MAX_RECORD = 256 * 2**20
MAX_DEPTH = 64
MAX_RATIO = 400
MAX_FILES = 2_000_000
SHOWN = 100


def beyond(where: str, found: str, allowed: str, fix: str) -> DataError:
    """The error for all that is more than a limit."""
    return DataError("LIMIT", where=where, found=found, expected=f"at most {allowed}", fix=fix)


def check_names(names: Collection[str], where: str, *, what: str = "columns") -> None:
    """Few enough names, none of which is as long as a document."""
    if len(names) > MAX_COLUMNS:
        fix = "keep the columns that are to be learnt, or write rows of (row, name, value)"
        raise beyond(where, f"{len(names)} {what}", str(MAX_COLUMNS), fix)
    longest = max(names, key=len, default="")
    if len(longest) > MAX_NAME:
        found = f"a name of {len(longest)} characters, {longest[:20]!r}..."
        raise beyond(where, found, f"{MAX_NAME}", f"is it the right delimiter, and are these {what}?")


def check_growth(where: str, size: int, grown: int, free: int) -> None:
    """A file of `size` bytes that has become `grown`: beyond `free` bytes not out of all proportion."""
    allowed = max(free, MAX_RATIO * size)
    if grown > allowed:
        raise DataError(
            "EXPAND",
            where=where,
            found=f"{size} bytes grow to more than {allowed}",
            expected=f"at most {free}, by memory=, or {MAX_RATIO} times the file",
            fix="raise memory= if you trust it",
        )


def shown(value: object) -> str:
    """repr() for a message: the beginning of what is long."""
    text = repr(value[:SHOWN] if isinstance(value, str) else value)
    return f"{text}... ({len(value)} characters)" if isinstance(value, str) and len(value) > SHOWN else text
