"""Whom a table's rows are about: columns whose values repeat a few times and decide others.

A patient with eight visits is one person, not eight rows. The unit of privacy is the person, so the split
keeps a person together and nothing is kept of a value that too few persons have. Hence the columns that name
one are looked for while a table is read, in memory that does not grow with it: of each column the values
with the smallest hashes (a bottom-k sample: Cohen and Kaplan, "Summarizing data using bottom-k sketches",
2007) with how often they occur and some of their rows.

A column names an entity if its values repeat, if rows that share one agree in other columns by far more
than chance, and if what is known of it speaks of persons or of numbers given to them. An airport decides its
city as a patient decides a birth date: there the names of the columns tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.keys import NULL, column_keys, mix
from genpipe.sources.columns import Column

MOST_COLUMNS = 40  # looked at, the first ones
VALUES, ROWS = 48, 24  # sampled values of a column, and rows kept of each
FEWEST, OFTENEST = 8, 500  # entities, and rows of one, on average
REPEATED, AGREEING = 0.3, 0.9  # shares of sampled values: with two rows or more; that decide a column
LOG_CHANCE = np.log(1e-6)
RICH = 0.7  # share of groups that differ in a column: nearly all, so it is another name of the same
PAIRED = 0.6  # share of rows that a pair of columns must find a partner for

PERSON = re.compile(
    r"\b(person|people|patient|insured|customer|client|user|member|employee|staff|student|pupil|subject|participant"
    r"|respondent|household|hh|family|worker|citizen|holder|account|passenger|borrower|driver|player|guest|donor"
    r"|voter|resident|owner|tenant|individual|doctor|physician|nurse|teacher|prof|professor|author|reviewer"
    r"|applicant|candidate|contestant|athlete|child|mother|father|seller|buyer|agent|mrn|nhs|ahv|ssn|pid|uid"
    r"|(person|pat|user|cust|child|subj|usubj|emp|hh|stud|case)?id|idcode|nr)\b"
)
ATTRIBUTE = re.compile(
    r"\b(birth ?(date|day|year|yr)|date of birth|year of birth|dob|born|geburt\w*|naissance|nascita"
    r"|nacimiento|sex|gender|blood ?(group|type)|race|ethnic(ity)?|marital( status)?|surname"
    r"|(first|last|full|given|family|patient|customer|client|employee|person|student) ?name)\b|^name$"
)
THING = re.compile(
    r"\b(product|item|sku|article|stock|part|material|isbn|asin|airport|origin|destination|dest|station|stop"
    r"|city|town|country|county|state|zip ?(code)?|zipcode|postal|postcode|region|district|store|shop|branch"
    r"|warehouse|model|make|brand|movie|film|book|song|course|question|sensor|device|machine|symbol|ticker"
    r"|species|plane|tailnum|flight|route|vehicle|year|month|week|day|date|time|hour)"
    r" ?(id|code|no|nr|num|number|key|name|fips)?\b"
)
EVENT = re.compile(
    r"\b(invoice|order|transaction|visit|session|ticket|event|batch|lot|encounter|claim|trip)\b"
)


@dataclass(frozen=True)
class Repeats:
    """A sample of one column's values. values: (V,) hashes, ascending. counts: (V,) rows of each.

    of: (R,) which value each kept row has. cells: column -> (R,) hashes of these rows.
    """

    values: np.ndarray
    counts: np.ndarray
    of: np.ndarray
    cells: dict[str, np.ndarray] = field(default_factory=dict)

    def merge(self, other: Repeats) -> Repeats:
        values, back = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, back, np.concatenate([self.counts, other.counts]))
        mine, theirs = back[: len(self.values)], back[len(self.values) :]
        of = np.concatenate([mine[self.of], theirs[other.of]])
        names = list(dict.fromkeys([*self.cells, *other.cells]))
        a, b = (np.full(len(r.of), NULL) for r in (self, other))
        cells = {n: np.concatenate([self.cells.get(n, a), other.cells.get(n, b)]) for n in names}
        return _fewer(values, counts, of, cells)


def _fewer(
    values: np.ndarray, counts: np.ndarray, of: np.ndarray, cells: Mapping[str, np.ndarray]
) -> Repeats:
    """The first VALUES values and up to ROWS rows of each, whatever order they came in."""
    key = np.zeros(len(of), np.uint64)
    for name in sorted(cells):
        key = mix(key + cells[name])
    order = np.lexsort((key, of))
    starts = np.searchsorted(of[order], of[order], side="left")
    kept = order[(np.arange(len(of)) - starts < ROWS) & (of[order] < VALUES)]
    return Repeats(values[:VALUES], counts[:VALUES], of[kept], {n: c[kept] for n, c in cells.items()})


def look(batch: pa.RecordBatch) -> dict[str, Repeats]:
    """What the columns of a typed batch that may name entities repeat; real numbers never do."""
    names = batch.schema.names[:MOST_COLUMNS]
    chosen: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}
    for name in names:
        column = batch.column(name)
        kind = column.type
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
            continue
        if not _few(column):
            chosen[name] = _smallest(column)
    rows = np.unique(np.concatenate([np.zeros(0, np.int64), *(at for _, _, at, _ in chosen.values())]))
    some = batch.select(names).take(pa.array(rows))
    cells = {name: column_keys(some.column(name)) for name in names} if len(rows) else {}
    return {
        name: _fewer(values, counts, of, {n: c[np.searchsorted(rows, at)] for n, c in cells.items()})
        for name, (values, counts, at, of) in chosen.items()
    }


def _few(column: pa.Array) -> bool:
    """Whether each value has so many rows of a large batch that it names no entity."""
    step = max(1, len(column) // 1024)
    spread = column.take(pa.array(np.arange(0, len(column), step)))
    return len(column) >= 4 * OFTENEST and len(pc.unique(spread)) <= 8


def _smallest(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(values, their counts, some of their rows, which value each has) of the smallest hashes, but nulls."""
    keys = column_keys(column)
    there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    low = there[keys[there] < np.uint64(2**64 // 16)]
    values = np.unique(keys[low])
    if len(values) < VALUES:
        low, values = there, np.unique(keys[there])
    values = values[:VALUES]
    if not len(values):
        return values, np.zeros(0, np.int64), low[:0], low[:0]
    low = low[keys[low] <= values[-1]]
    of = np.searchsorted(values, keys[low])
    counts = np.bincount(of, minlength=len(values))
    order = np.argsort(of, kind="stable")
    ends = np.cumsum(counts)
    nth = np.arange(len(of)) - np.repeat(ends - counts, counts)
    # rows from all over the batch: neighbours may be the same event told twice
    stride = np.repeat(np.maximum(1, counts // ROWS), counts)
    kept = order[(nth % stride == 0) & (nth // stride < ROWS)]
    return values, counts, low[kept], of[kept]


@dataclass(frozen=True)
class Entity:
    """columns: that together name one. decides: what is the same in all rows of one. also: other columns that
    hold numbers of persons or events. rows: of an entity, on average.
    """

    columns: tuple[str, ...]
    decides: tuple[str, ...]
    also: tuple[str, ...]
    rows: float


@dataclass(frozen=True)
class Groups:
    """Rows of a sample by what they share. of: (R,) 0, 1, ...; cells: column -> (R,) hashes."""

    of: np.ndarray
    cells: Mapping[str, np.ndarray]

    @classmethod
    def by(cls, keys: np.ndarray, cells: Mapping[str, np.ndarray]) -> Groups:
        return cls(np.unique(keys, return_inverse=True)[1], cells)

    @cached_property
    def sizes(self) -> np.ndarray:
        return np.bincount(self.of)

    def decides(self, but: tuple[str, ...]) -> tuple[str, ...]:
        """The columns in which rows of a group agree by more than chance."""
        return tuple(name for name in self.cells if name not in but and self._agree(self.cells[name]))

    def _agree(self, cell: np.ndarray) -> bool:
        there = (self.sizes[self.of] > 1) & (cell != NULL)
        seen = np.unique(np.stack([self.of[there].astype(np.uint64), cell[there]]), axis=1)
        size = np.bincount(self.of[there], minlength=len(self.sizes))
        kinds = np.bincount(seen[0].astype(np.int64), minlength=len(self.sizes))
        tested = size > 1
        if tested.sum() < FEWEST // 2 or (kinds[tested] == 1).mean() < AGREEING:
            return False
        # how often two groups agree is how often rows of one would by chance
        shares = np.unique(seen[1], return_counts=True)[1] / seen.shape[1]
        alike = float((shares**2).sum())
        return len(shares) > 1 and (size[tested] - 1).sum() * np.log(alike) < LOG_CHANCE

    def number(self, names: Iterable[str]) -> float:
        """Different combinations of what the groups have in these columns, as a share of the groups."""
        first = np.unique(self.of, return_index=True)[1]
        key = np.zeros(len(first), np.uint64)
        for name in names:
            key = mix(key + self.cells[name][first])
        return len(np.unique(key)) / max(1, len(first))


def words(name: str) -> str:
    """A column's name as words: InsuredNo -> insured no."""
    return re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()).strip()


def find(repeats: Mapping[str, Repeats], columns: Mapping[str, Column]) -> Entity | None:
    """Whom the rows are about; None where every row is somebody of its own, or nothing tells."""
    single = {}
    for name, seen in repeats.items():
        if not _several(seen) or (seen.counts > 1).mean() < REPEATED:
            continue
        groups = Groups(seen.of, seen.cells)
        decides = groups.decides((name,))
        if decides and _personal(columns[name], decides, groups, columns):
            single[name] = Entity((name,), decides, (), float(seen.counts.mean()))
    best = max(single.values(), key=lambda e: _rank(e, columns), default=None)
    if best is None or not numbered(columns[best.columns[0]]):
        pair = _paired(repeats, columns)
        best = pair if best is None or (pair and len(pair.decides) > len(best.decides)) else best
    if best is None:
        return None
    also = tuple(n for n in single if n not in best.columns and numbered(columns[n]))
    return replace(best, also=also)


def _several(seen: Repeats) -> bool:
    return len(seen.values) >= FEWEST and seen.counts.mean() <= OFTENEST


def _personal(
    column: Column, decides: tuple[str, ...], groups: Groups, columns: Mapping[str, Column]
) -> bool:
    """Whether a column that decides others is about persons, or holds numbers given to somebody.

    What is but another form of the column (the logarithm of a wage) says nothing, and neither does the
    table of a code, in which many codes mean the same.
    """
    called = words(column.name)
    told = [d for d in decides if groups.number([d]) < RICH]
    if any(_attribute(d, columns) for d in decides) and (told or numbered(column)):
        return True
    if PERSON.search(called) or EVENT.search(called):
        return not THING.search(called)
    codes = numbered(column) or ((column.high or 0) >= 1000 and column.distinct >= 100)
    return not THING.search(called) and codes and len(told) > 1 and groups.number(decides) > RICH


def _attribute(name: str, columns: Mapping[str, Column]) -> bool:
    looked = columns[name].looked if name in columns else {}
    pii = any(looked.get(k, 0) >= 0.9 * looked.get("", 1) for k in ("email", "phone", "ssn", "iban", "card"))
    return bool(pii or ATTRIBUTE.search(words(name)))


def numbered(column: Column) -> bool:
    """Whether a column holds numbers or codes given to somebody, by its name or its values."""
    called, kinds = words(column.name), set(column.types)
    if PERSON.search(called) or EVENT.search(called):
        return kinds <= {"integer", "code", "text"} and not THING.search(called)
    digits = sum(c.isdigit() for _, _, v in column.odd for c in v) >= 4 * len(column.odd) > 0
    return digits and kinds <= {"code", "text"} and not (THING.search(called) or ATTRIBUTE.search(called))


def _rank(e: Entity, columns: Mapping[str, Column]) -> tuple[float, ...]:
    """Persons before events and things; numbers before attributes; who decides more; the fewer entities."""
    column = columns[e.columns[0]]
    called = words(column.name)
    return (
        bool(PERSON.search(called)) and not EVENT.search(called),
        not (EVENT.search(called) or THING.search(called)),
        numbered(column),
        len(e.decides),
        e.rows,
    )


def _paired(repeats: Mapping[str, Repeats], columns: Mapping[str, Column]) -> Entity | None:
    """A birth date, or another personal column, that names somebody together with a second column."""
    best: Entity | None = None
    for first, seen in repeats.items():
        if not (_several(seen) and _attribute(first, columns)):
            continue
        alone = Groups(seen.of, seen.cells).decides((first,))
        for second in (name for name in seen.cells if name not in (first, *alone)):
            groups = Groups.by(mix(seen.values[seen.of] + mix(seen.cells[second])), seen.cells)
            if groups.sizes[groups.sizes > 1].sum() < PAIRED * len(groups.of):
                continue
            other = Groups.by(seen.cells[second], seen.cells).decides((second,))
            decides = groups.decides((first, second, *alone, *other))
            every = (*alone, *decides)
            if decides and len(every) > (len(best.decides) if best else 0):
                best = Entity((first, second), every, (), float(groups.sizes.mean()))
    return best


def merged(a: Mapping[str, Repeats], b: Mapping[str, Repeats]) -> dict[str, Repeats]:
    """Of two pieces of a table together."""
    return {**a, **b, **{name: a[name].merge(b[name]) for name in a.keys() & b.keys()}}
