"""What is known of a table once it was looked through, batch by batch and file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from genpipe.errors import DataError
from genpipe.sources import repeats
from genpipe.sources.base import Observed
from genpipe.sources.columns import Column
from genpipe.sources.files import suffix_of
from genpipe.sources.limits import check_names
from genpipe.sources.repeats import Repeats
from genpipe.sources.sample import Sample
from genpipe.sources.tabular.infer import unlearnt
from genpipe.written.codes import code_pattern

JSON = (".jsonl", ".ndjson", ".json")
COUNTED = ("types", "looked", "written")  # counters of a column
A = TypeVar("A")


@dataclass
class TableStats(Observed):
    """columns by name. layout: (index of the first file seen, its columns in order, its uri). dropped,
    nested, left: columns of an index, of lists, and not asked for. skipped: rows that were not asked for.
    """

    rows: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    layout: tuple[int, tuple[str, ...], str] | None = None
    dropped: set[str] = field(default_factory=set)
    nested: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    repeats: dict[str, Repeats] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)
    structs: set[str] = field(default_factory=set)
    skipped: int = 0

    def merge(self, other: TableStats) -> TableStats:
        columns = dict(self.columns)
        for name, column in other.columns.items():
            columns[name] = columns[name].merge(column) if name in columns else column
        check_names(columns, (other.layout or self.layout or (0, (), ""))[2])
        layouts = [x for x in (self.layout, other.layout) if x is not None]
        if len(layouts) == 2:
            _same_columns(*sorted(layouts))
        return TableStats(
            self.rejects + other.rejects,
            self.rows + other.rows,
            columns,
            min(layouts, default=None),
            self.dropped | other.dropped,
            self.nested | other.nested,
            self.left | other.left,
            repeats.merged(self.repeats, other.repeats),
            self.sample.merge(other.sample),
            self.structs | other.structs,
            self.skipped + other.skipped,
        )

    def settled(self) -> TableStats:
        order = {
            name: i
            for i, name in enumerate(dict.fromkeys([*(self.layout or (0, ()))[1], *sorted(self.columns)]))
        }

        def by_column(values: Mapping[str, A]) -> dict[str, A]:
            return dict(sorted(values.items(), key=lambda item: order[item[0]]))

        seen = {name: replace(r, cells=by_column(r.cells)) for name, r in by_column(self.repeats).items()}
        columns = {name: _settled(column) for name, column in by_column(self.columns).items()}
        texts = by_column(self.sample.texts)
        sample = replace(self.sample, columns=by_column(self.sample.columns), texts=texts)
        return replace(self, columns=columns, repeats=seen, sample=sample)

    def patterns(self, names: Iterable[str]) -> dict[str, str]:
        """Of the columns of texts that have one in common."""
        seen = {n: self.sample.texts[n].drop_null().to_pylist() for n in names if n in self.sample.texts}
        return {name: made for name, texts in seen.items() if (made := code_pattern(texts))}

    def losses(self) -> list[str]:
        """What of it will not be learnt, a line a column."""
        said = {name: "is empty and was dropped" for name, c in self.columns.items() if c.valid == 0}
        said |= dict.fromkeys(sorted(self.dropped), "is a pandas index and was dropped")
        lists = "holds lists and was left out: make columns of its parts to have them learnt"
        said |= dict.fromkeys(sorted(self.nested), lists)
        lines = [f"column {name!r} {text}" for name, text in said.items()]
        return [*lines, *unlearnt(self.columns.values())]

    def complete(self) -> dict[str, Column]:
        """Columns in the order of the first file; rows that lack a key (JSON) count as missing."""
        order = list(dict.fromkeys([*(self.layout[1] if self.layout else ()), *sorted(self.columns)]))
        for column in self.columns.values():
            column.nulls += self.rows - column.rows
            column.rows = self.rows
        return {name: self.columns[name] for name in order if name in self.columns}


def _settled(column: Column) -> Column:
    counted: dict[str, Any] = {name: Counter(dict(sorted(getattr(column, name).items()))) for name in COUNTED}
    return replace(column, **counted)


def _same_columns(first: tuple[int, tuple[str, ...], str], other: tuple[int, tuple[str, ...], str]) -> None:
    if suffix_of(first[2]) in JSON or suffix_of(other[2]) in JSON:
        return  # JSON rows may leave keys out
    mine, theirs = set(first[1]), set(other[1])
    lacking, extra = [c for c in first[1] if c not in theirs], [c for c in other[1] if c not in mine]
    if lacking or extra:
        diff = ", ".join([f"-{c}" for c in lacking[:10]] + [f"+{c}" for c in extra[:10]])
        raise DataError(
            "DRIFT",
            where=other[2],
            found=f"other columns than {first[2].rsplit('/', 1)[-1]}: {diff}",
            expected="the same columns in every file",
            fix="ingest the files apart, or make them alike",
        )
