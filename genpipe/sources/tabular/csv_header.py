"""The first row of a CSV: which delimiter it has, and whether it holds the names of the columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from genpipe.errors import DataError

DELIMITERS = ",;\t|"
QUOTED = re.compile(r'"(?:[^"]|"")*"')
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?", re.I)
DATE = re.compile(r"\d{4}-\d\d?-\d\d?([ T].*)?|\d\d?[/.]\d\d?[/.]\d{2,4}")
YEAR = re.compile(r"(1[89]|2[01])\d\d")


def found_delimiter(text: str) -> str:
    """The one most often in the first line; what stands in quotes does not count."""
    lines = [line for line in QUOTED.sub("", text).splitlines() if line.strip()] or text.splitlines() or [""]
    return max(DELIMITERS, key=lines[0].count)


def check_header(
    where: str, names: Sequence[str], first: Sequence[str], rows: Sequence[Sequence[str]], *, sure: bool
) -> None:
    """names: of the columns; first: cells of the first row; rows: some below it. sure: a person said so."""
    empty = [str(i + 1) for i, name in enumerate(names) if not name]
    if empty:
        raise DataError(
            "HEADER",
            where=where,
            found=f"no name for column {', '.join(empty[:10])}",
            expected="a name per column",
            fix="name it in the header; pandas: to_csv(index=False)",
        )
    if sure and len(names) != len(first):
        raise DataError(
            "HEADER",
            where=where,
            found=f"{len(first)} cells in the first row",
            expected=f"{len(names)}, one a name",
        )
    _check_different(where, names)
    only_numbers = all(re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", name, re.I) for name in names)
    if not sure and (only_numbers or looks_like_data(first, rows)):
        raise DataError(
            "HEADER",
            where=where,
            found="the first row holds only numbers" if only_numbers else "a first row like those below it",
            expected="a header row with column names",
            fix="add one, or pass header=none, or names= for the columns; header=true if it is the header",
        )


def _check_different(where: str, names: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if name.casefold() in seen:
            j = seen[name.casefold()]
            raise DataError(
                "DUPCOL",
                where=where,
                found=f"columns {j + 1} and {i + 1} are both named {name!r}"
                + ("" if names[j] == name else f" (up to case: {names[j]!r})"),
                expected="different names",
                fix="rename one in the header, or pass names=",
            )
        seen[name.casefold()] = i


def looks_like_data(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is one of the data. A name over a column of numbers says it is a header; a number
    over one, or a text that comes again below it, says it is not. Years and ascending numbers may be names.
    """
    rows = [row for row in rows if len(row) == len(first)]
    if len(rows) < 5:
        return False
    figures, again, texts = list[str](), 0, 0
    for name, column in zip(first, zip(*rows, strict=True), strict=True):
        cells = [cell.strip() for cell in column if cell.strip()]
        if not cells:
            continue
        if all(NUMBER.fullmatch(cell) or DATE.fullmatch(cell) for cell in cells):
            if not (NUMBER.fullmatch(name) or DATE.fullmatch(name)):
                return False
            figures.append(name)
        else:
            texts, again = texts + 1, again + (name in cells)
    if again and again * 2 >= texts and (figures or again >= 2):
        return True
    return bool(figures) and not _may_be_names(figures)


def _may_be_names(figures: Sequence[str]) -> bool:
    """Years, or numbers or days that ascend as those of a wide table do."""
    if all(YEAR.fullmatch(figure) for figure in figures):
        return True
    if not all(NUMBER.fullmatch(figure) for figure in figures):
        return len(figures) > 2  # days over columns
    numbers = [float(figure.rstrip("%")) for figure in figures]
    return len(numbers) > 2 and all(b > a for a, b in itertools.pairwise(numbers))
