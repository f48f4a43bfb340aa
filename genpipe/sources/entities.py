"""Whom a table's rows are about: columns whose values repeat a few times and decide others.

A patient with eight visits is one person, not eight rows. The unit of privacy is the person, so the split
keeps a person together and nothing is kept of a value that too few persons have. Hence the columns that name
one are looked for while a table is read, by what they repeat (repeats.py).

A column names an entity if its values repeat, if rows that share one agree in other columns by far more
than chance, and if what is known of it speaks of persons or of numbers given to them. An airport decides its
city as a patient decides a birth date: there the names of the columns tell. How a number is written does not
matter: 756.12345678 is read as a real number, and names a person as well as 756-12345678 does.

Of several such columns the one is taken that decides the most personal attributes (a patient before the
doctor), and of those that decide the same ones the one with the fewest entities (a customer before an order).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from genpipe.keys import NULL, mix
from genpipe.sources.called import ATTRIBUTE, EVENT, NUMBER, PERSON, THING, names_person, words
from genpipe.sources.columns import Column
from genpipe.sources.repeats import OFTENEST, Repeats

FEWEST = 8  # entities
REPEATED, AGREEING = 0.3, 0.9  # shares of sampled values: with two rows or more; that decide a column
LOG_CHANCE = np.log(1e-6)
RICH = 0.7  # share of groups that differ in a column: nearly all, so it is another name of the same
PAIRED = 0.6  # share of rows that a pair of columns must find a partner for


@dataclass(frozen=True)
class Entity:
    """columns: that together name one. decides: what is the same in all rows of one. also: other columns that
    hold numbers of persons or events. rows: of an entity, on average. rivals: other columns that could name
    the same as well. learnt: whether its one column is a measure rather than a name, and stays. patterns: of
    the texts of what is made up anew.
    """

    columns: tuple[str, ...]
    decides: tuple[str, ...]
    also: tuple[str, ...]
    rows: float
    rivals: tuple[str, ...] = ()
    learnt: bool = False
    patterns: Mapping[str, str] = field(default_factory=dict)

    @property
    def made(self) -> tuple[str, ...]:
        """The columns that are made up anew."""
        return (*(self.columns if len(self.columns) == 1 and not self.learnt else ()), *self.also)


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


def find(repeats: Mapping[str, Repeats], columns: Mapping[str, Column]) -> Entity | None:
    """Whom the rows are about; None where every row is somebody of its own, or nothing tells."""
    single = {}
    for name, seen in repeats.items():
        often = seen.counts.mean() > OFTENEST and not names_person(words(name))
        if often or len(seen.values) < FEWEST or (seen.counts > 1).mean() < REPEATED:
            continue
        groups = Groups(seen.of, seen.cells)
        decides = groups.decides((name,))
        if _personal(columns[name], decides, groups, seen, columns):
            single[name] = Entity((name,), decides, (), float(seen.counts.mean()))
    left = [e for e in single.values() if not any(_beside(e, o, columns) for o in single.values())]
    best = max(left, key=lambda e: _rank(e, columns), default=None)
    if best is None or not (_key(columns[best.columns[0]]) and _attributes(best, columns)):
        best = _more_told(best, _paired(repeats, columns), columns)
    if best is None:
        return None
    rivals = tuple(n for n in single if n not in best.columns and _same(best, single[n]))
    best = _with_measure(best, rivals, single, columns)
    also = tuple(n for n in single if n not in best.columns and numbered(columns[n]))
    return replace(best, also=also, rivals=tuple(n for n in rivals if n not in best.columns))


def _more_told(best: Entity | None, pair: Entity | None, columns: Mapping[str, Column]) -> Entity | None:
    """One column or two, whichever more is told of; a number gives way to itself within something else only
    where that alone tells of persons.
    """
    if best is None or pair is None:
        return best or pair
    if _key(columns[best.columns[0]]):
        return pair if best.columns[0] in pair.columns and _attributes(pair, columns) else best
    return pair if len(pair.decides) > len(best.decides) else best


def _same(a: Entity, b: Entity) -> bool:
    """Whether two name the same: each decides the other."""
    return {*a.columns} <= {*b.decides} and {*b.columns} <= {*a.decides}


def _beside(e: Entity, other: Entity, columns: Mapping[str, Column]) -> bool:
    """Whether an entity steps back: a household before its persons, of whom more is told; and an event before
    whom it happened to, of whom as much is told. A name that says so counts for more than this.
    """
    mine, theirs = (_attributes(x, columns) for x in (e, other))
    (name,), (rival,) = e.columns, other.columns
    named, known = (bool(PERSON.search(words(n))) for n in (name, rival))
    if name in other.decides and rival not in e.decides:
        finer = not (EVENT.search(words(rival)) or THING.search(words(rival)))
        return finer and mine < theirs and known >= named
    fewer = rival in e.decides and name not in other.decides
    return fewer and not named and _key(columns[rival]) and bool(mine) and mine == theirs


def _with_measure(
    e: Entity, rivals: tuple[str, ...], single: Mapping[str, Entity], columns: Mapping[str, Column]
) -> Entity:
    """An income to the cent names somebody as well as a birth date does, and may be a number given to them:
    without a name that tells, both do so together.
    """
    if len(e.columns) > 1 or _key(columns[e.columns[0]]):
        return e
    own, others = _fraction(columns[e.columns[0]]), [n for n in rivals if not numbered(columns[n])]
    beside = [n for n in others if _fraction(columns[n]) != own]
    if not beside:
        return replace(e, learnt=own)
    finest = min(beside, key=lambda n: single[n].rows)
    pair = (e.columns[0], finest)
    return Entity(pair, tuple(n for n in e.decides if n not in pair), (), min(e.rows, single[finest].rows))


def _personal(
    column: Column, decides: tuple[str, ...], groups: Groups, seen: Repeats, columns: Mapping[str, Column]
) -> bool:
    """Whether a column that decides others is about persons, or holds numbers given to somebody.

    What is but another form of the column (the logarithm of a wage) says nothing, and neither does the
    table of a code, in which many codes mean the same. Numbers of persons need not decide anything.
    """
    called = words(column.name)
    if not decides:
        return _bare_number(column, seen)
    told = [d for d in decides if groups.number([d]) < RICH]
    attributes = [d for d in decides if _attribute(d, columns)]
    if _fraction(column):
        attributes = [d for d in attributes if words(d) != "name"]
        said = names_person(called) and told and _formed(column)
        return not THING.search(called) and bool(attributes or said)
    if attributes and (told or numbered(column)):
        return True
    if PERSON.search(called) or EVENT.search(called):
        return not THING.search(called)
    whole = "number" not in column.types and (column.high or 0) >= 1000 and seen.distinct >= 100
    codes = numbered(column) or whole
    return not THING.search(called) and codes and len(told) > 1 and groups.number(decides) > RICH


def _bare_number(column: Column, seen: Repeats) -> bool:
    """Whether a column that decides nothing holds numbers of persons all the same: customer_id."""
    called = words(column.name)
    if called == "nr" or not (names_person(called) and numbered(column)):
        return False
    said = bool(NUMBER.search(called)) or called.endswith("id")
    digits = [sum(c.isdigit() for c in v) >= 4 for _, _, v in column.odd]
    codes = (column.high or 0) >= 1000 or (bool(digits) and all(digits))
    return codes or (said and seen.distinct >= FEWEST * 2)


def _attribute(name: str, columns: Mapping[str, Column]) -> bool:
    looked = columns[name].looked if name in columns else {}
    pii = any(looked.get(k, 0) >= 0.9 * looked.get("", 1) for k in ("email", "phone", "ssn", "iban", "card"))
    return bool(pii or ATTRIBUTE.search(words(name)))


def _attributes(e: Entity, columns: Mapping[str, Column]) -> frozenset[str]:
    return frozenset(n for n in (*e.columns, *e.decides) if _attribute(n, columns))


def _fraction(column: Column) -> bool:
    """Whether a column holds real numbers; 12.0 is a whole one."""
    return column.types["number"] > 0 and column.digits.most > 0


def numbered(column: Column) -> bool:
    """Whether a column holds numbers or codes given to somebody, by its name or its values."""
    called, kinds = words(column.name), {*column.types}
    if THING.search(called) or not kinds <= {"integer", "number", "code", "text"}:
        return False
    if _fraction(column):
        return names_person(called)
    if PERSON.search(called) or EVENT.search(called):
        return True
    digits = sum(c.isdigit() for _, _, v in column.odd for c in v) >= 4 * len(column.odd) > 0
    return digits and kinds <= {"code", "text"} and not ATTRIBUTE.search(called)


def _formed(column: Column) -> bool:
    """Whether real numbers look like numbers given to somebody, as 756.12345678 does: all have as many digits
    before the point, and at least four after it.
    """
    low, high = (len(str(int(abs(v or 0)))) for v in (column.low, column.high))
    other = THING.search(words(column.name)) or ATTRIBUTE.search(words(column.name))
    return _fraction(column) and column.digits.most >= 4 and low == high and not other


def _key(column: Column) -> bool:
    return numbered(column) or _formed(column)


def _rank(e: Entity, columns: Mapping[str, Column]) -> tuple[float, ...]:
    """Persons before events and things; numbers before attributes; of whom more is told, who decides more;
    the fewer entities.
    """
    column = columns[e.columns[0]]
    called = words(column.name)
    return (
        bool(PERSON.search(called)) and not EVENT.search(called),
        not (EVENT.search(called) or THING.search(called)),
        numbered(column),
        _key(column),
        len(_attributes(e, columns)),
        len(e.decides),
        not _attribute(column.name, columns),
        e.rows,
    )


def _paired(repeats: Mapping[str, Repeats], columns: Mapping[str, Column]) -> Entity | None:
    """A birth date, or a number that starts again elsewhere, that names somebody together with another."""
    best: Entity | None = None
    for first, seen in repeats.items():
        few = len(seen.values) < FEWEST or seen.counts.mean() > OFTENEST
        if few or not (_attribute(first, columns) or names_person(words(first))):
            continue
        alone = Groups(seen.of, seen.cells).decides((first,))
        for second in (name for name in seen.cells if name not in (first, *alone)):
            groups = Groups.by(mix(seen.values[seen.of] + mix(seen.cells[second])), seen.cells)
            if groups.sizes[groups.sizes > 1].sum() < PAIRED * len(groups.of):
                continue
            other = Groups.by(seen.cells[second], seen.cells).decides((second,))
            decides = groups.decides((first, second, *alone, *other))
            every = (*alone, *decides)
            if not (_attribute(first, columns) or any(_attribute(d, columns) for d in decides)):
                continue
            if decides and len(every) > (len(best.decides) if best else 0):
                best = Entity((first, second), every, (), float(groups.sizes.mean()))
    return best
