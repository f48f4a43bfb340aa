"""What a table beside files says of each: `file_name,label`, as Hugging Face has it, or an id and a class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError, UsageError, closest, few
from genpipe.fields import Category
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import beyond
from genpipe.sources.tabular.convert import convert_column
from genpipe.sources.tabular.normalise import normalise
from genpipe.sources.tabular.source import TableOptions, TableSource

MOST_BYTES = 64 * 2**20
USUAL = ("label", "labels", "class", "category", "target", "species", "genre")
SOME, REPEATED = 1000, 2  # classes at most, and files of each on average


class Sheet:
    """columns: texts of each column; nested: those that are none. rows: the URI that each row names; missing:
    how many name no file.
    """

    def __init__(self, columns: dict[str, pa.Array], nested: set[str], rows: list[str], missing: int) -> None:
        self.columns, self.nested, self.rows, self.missing = columns, nested, rows, missing
        self.known: dict[str, dict[str, str]] = {}

    def labels(self, name: str) -> dict[str, str]:
        """The class of every file that has one, by URI."""
        if name not in self.columns:
            raise UsageError(
                "COLUMN",
                where="target",
                found=f"{name!r} is no column of the sheet",
                expected="one of " + few(list(self.columns)),
                fix=closest(name, self.columns),
            )
        if name not in self.known:
            told = zip(self.rows, self.columns[name].to_pylist(), strict=True)
            self.known[name] = {uri: value for uri, value in told if value is not None}
        return self.known[name]

    def choose(self, target: str | None) -> str | None:
        """The column of classes: the target, one with a usual name, or the only one that has few values."""
        if target is not None:
            different = len(set(self.labels(target).values()))
            if not self._classes(target):
                raise UsageError(
                    "TARGET",
                    where=target,
                    found=f"{different} different values for {len(self.rows)} files",
                    expected=f"classes: at most {SOME}, of {REPEATED} files or more on average",
                    fix="name another column, or group its values",
                )
            return target
        usual = [n for word in USUAL for n in self.columns if n.lower() == word and self._classes(n)]
        few_values = [n for n in self.columns if self._classes(n)]
        return usual[0] if usual else few_values[0] if len(few_values) == 1 else None

    def _classes(self, name: str) -> bool:
        found = Counter(self.labels(name).values())
        return 0 < len(found) <= SOME and found.total() >= REPEATED * len(found)

    def notices(self, target: str | None, files: int) -> list[str]:
        """What of the sheet is not learnt, and what it does not tell."""
        name = self.choose(target)
        others = [n for n in (*self.columns, *sorted(self.nested)) if n != name]
        said = [f"the class of a file is column {name!r} of the sheet beside it"] if name else []
        if others:
            fix = "target=COLUMN takes one of them as the class"
            said.append(f"columns of the sheet that are left out: {few(others)}; {fix}")
        if self.missing:
            said.append(f"{self.missing} rows of the sheet name no file that was read")
        lacking = files - len(self.labels(name)) if name else 0
        return [*said, *([f"{lacking} files have no class in the sheet"] if lacking else [])]


def read_sheets(sheets: Sequence[File], files: Sequence[File], memory: int) -> Sheet:
    """The sheets, each of the files in its folder and below. Raises DataError where one names no file."""
    if sum(s.size for s in sheets) > MOST_BYTES:
        size = sum(s.size for s in sheets)
        raise beyond(
            sheets[0].uri, f"sheets of {size} bytes", f"{MOST_BYTES}", "keep their columns of labels"
        )
    merged: dict[str, list[str | None]] = {}
    nested, rows, missing = set[str](), list[str](), 0
    for sheet in sheets:
        columns, others = _texts(sheet, memory)
        nested |= others
        known = _names(sheet, files)
        named = next((n for n, c in columns.items() if _names_files(c, known)), "")
        if not named:
            raise DataError(
                "SHEET",
                where=sheet.uri,
                found=f"no column of file names among {few(list(columns))}",
                expected="a column file_name, as the files lie below the sheet's folder",
                fix="correct it, or move it elsewhere to have classes by folder",
            )
        uris = [known.get(v or "") for v in columns.pop(named).to_pylist()]
        missing += sum(u is None for u in uris)
        keep = [i for i, u in enumerate(uris) if u is not None]
        for name in columns:
            merged.setdefault(name, [None] * len(rows))
        rows += [u for u in uris if u is not None]
        for name, values in merged.items():
            texts = columns[name].take(pa.array(keep, pa.int64())).to_pylist() if name in columns else None
            values += texts or [None] * len(keep)
    return Sheet({n: pa.array(v, pa.string()) for n, v in merged.items()}, nested, rows, missing)


def _texts(sheet: File, memory: int) -> tuple[dict[str, pa.Array], set[str]]:
    """Columns as texts, 1.0 being "1"; and the names of those of lists or objects, which are no classes."""
    nested = set[str]()
    parts: dict[str, list[pa.Array]] = {}
    total = 0
    for piece in TableSource((sheet,), TableOptions(memory=memory), keeps=False).pieces(sheet):
        batch, place = piece()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_nested(column.type):
                nested.add(name)
                continue
            found = parts.setdefault(name, [pa.nulls(total, pa.string())])
            found.append(_text(column, name, place))
        total += batch.num_rows
        for found in parts.values():
            lacking = total - sum(map(len, found))
            found += [pa.nulls(lacking, pa.string())] if lacking else []
    return {name: pa.concat_arrays(found) for name, found in parts.items()}, nested


def _text(column: pa.Array, name: str, place: Place) -> pa.Array:
    text = convert_column(normalise(column, name, place), Category(name=name, nullable=True), place)
    return pc.if_else(pc.equal(text, ""), None, text)


def _names(sheet: File, files: Sequence[File]) -> dict[str, str]:
    """What may name a file: its path from the sheet, and its name with or without suffix where one has it."""
    folder = sheet.uri[: -len(sheet.name)]
    below = [f for f in files if f.uri.startswith(folder)]
    count = Counter(n for f in below for n in {f.name, os.path.splitext(f.name)[0]})
    known: dict[str, str] = {}
    for f in below:
        known |= {n: f.uri for n in (f.name, os.path.splitext(f.name)[0]) if count[n] == 1}
    return known | {f.uri.removeprefix(folder): f.uri for f in below}


def _names_files(column: pa.Array, known: dict[str, str]) -> bool:
    """Whether half of a column's first values or more name files."""
    some = column.slice(0, 1000).drop_null().to_pylist()
    return sum(v in known for v in some) * 2 >= max(1, len(some))
