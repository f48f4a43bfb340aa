"""Singling out: do generated rows show what one person alone has?

A value, or a pair of values, that one entity alone has among all training and held-out ones names that
entity ("singling out": Article 29 Data Protection Working Party, Opinion 05/2014 on anonymisation techniques,
section 3). It may be shown by chance, on a lattice of numbers most of all. Which side its holder fell on was
chance, too; so a generator that has learnt nobody shows what single training entities have as often as what
as many held-out ones have, whatever the column. Counts are compared by entity: a value shown a hundred times
is one piece of evidence (the variance of a compound Poisson sum).

Only what generated rows show is kept in memory; training rows are seen piece by piece.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.evaluation.privacy.findings import FEWEST, Excess, Finding, told
from genpipe.fields import AnyField
from genpipe.keys import column_keys, entity_keys, mix
from genpipe.schema import Schema

VALUES, COMBINED = 0.002, 0.01  # of values and of pairs, that may be a training entity's beyond chance
EXCUSED = 2.0  # times chance: what honest shares of rare pairs come to is far less (lab notes)
PAIRS = 24  # pairs of columns: one look-up of every training row each
COLUMNS = 32  # among which pairs are sought
PAIR_ROWS = 2_000  # by which they are chosen
BITS = 18  # of a key, by which most real values are passed over
SAMPLE = 2**16  # entity keys by which entities are counted
KINDS = ("number", "integer", "boolean", "category", "timestamp", "date", "identifier", "text")
_ODD = np.uint64(0x9FB21C651E98DF25)


class Shown:
    """Things that generated rows show, by (N,) uint64 keys, and which real entities have them."""

    def __init__(self, keys: np.ndarray) -> None:
        self.total = len(keys)
        self.keys, self.times = np.unique(keys, return_counts=True)
        self.holders = np.zeros(len(self.keys), np.int8)  # 0, 1, or 2 for several
        self.holder = np.zeros(len(self.keys), np.uint64)
        self.member = np.zeros(len(self.keys), bool)  # whether that one is of the training side
        self.perhaps = np.zeros(2**BITS, bool)
        self.perhaps[self._short(self.keys)] = True

    def _short(self, keys: np.ndarray) -> np.ndarray:
        return keys >> np.uint64(64 - BITS)

    @property
    def settled(self) -> bool:
        """Whether several real entities have each of the things: no further row can tell more."""
        return not self.perhaps.any()

    def see(self, keys: np.ndarray, who: np.ndarray, *, member: bool) -> None:
        """keys: (M,) things of real rows. who: (M,) whose they are."""
        near = np.flatnonzero(self.perhaps[self._short(keys)])
        if not len(near):
            return
        at = np.minimum(np.searchsorted(self.keys, keys[near]), len(self.keys) - 1)
        same = self.keys[at] == keys[near]
        at, whose = at[same], who[near[same]]
        if not len(at):
            return
        order = np.lexsort((whose, at))
        at, whose = at[order], whose[order]
        first = np.r_[True, at[1:] != at[:-1]]
        thing, one, last = at[first], whose[first], whose[np.r_[first[1:], True]]
        known = self.holders[thing] > 0
        another = known & ((self.holder[thing] != one) | (self.member[thing] != member))
        self.holders[thing] = np.maximum(self.holders[thing], np.where((one != last) | another, 2, 1))
        self.holder[thing] = np.where(known, self.holder[thing], one)
        self.member[thing] = np.where(known, self.member[thing], member)
        if (self.holders[thing] > 1).any():  # of what several have nothing more is asked
            self.perhaps[:] = False
            self.perhaps[self._short(self.keys[self.holders < 2])] = True

    def tally(self, *, member: bool) -> np.ndarray:
        """How often what each entity alone has is shown, of the entities it is shown of."""
        mine = (self.holders == 1) & (self.member == member)
        of = np.unique(self.holder[mine], return_inverse=True)[1]
        return np.bincount(of, weights=self.times[mine])

    def excess(self, what: str, members: float, others: int) -> Excess:
        """Shares of all shown; those of `others` entities as if they were as many as `members`."""
        sides = self.tally(member=True), self.tally(member=False)
        return _excess(what, *sides, members / others, self.total)

    def beside(self, what: str, twin: Shown) -> Excess:
        """Of what held-out entities alone have, where `self` was made by a generator that learnt these and
        `twin` by one that did not.
        """
        as_many = self.total / max(1, twin.total)
        return _excess(what, self.tally(member=False), twin.tally(member=False), as_many, self.total)


def _excess(what: str, mine: np.ndarray, theirs: np.ndarray, as_many: float, shown: int) -> Excess:
    """as_many: how many times as many could have been hit of the former. shown: of all."""
    # no hit at all has no variance, but one more entity could have been hit
    variance = (mine @ mine + 1) + as_many**2 * (theirs @ theirs + 1)
    shown = max(1, shown)
    return Excess(
        what,
        float(mine.sum()) / shown,
        min(1.0, as_many * float(theirs.sum()) / shown),
        float(np.sqrt(variance)) / shown,
        _luck(mine, theirs, as_many / (as_many + 1)),
    )


def _luck(mine: np.ndarray, theirs: np.ndarray, share: float) -> float:
    """How probable it is at most, where each entity shown is of the training side with this chance, that
    those of that side are shown so often (Chernoff's bound: small counts are not normal).
    """
    both = np.concatenate([mine, theirs])
    if not len(both):
        return 1.0
    steepness = np.r_[0.0, np.geomspace(1e-3, 50, 60)] / both.max()
    factor = np.logaddexp(np.log1p(-share), np.log(share) + steepness[:, None] * both).sum(1)
    return float(np.exp((factor - steepness * mine.sum()).min()))


class Distinct:
    """How many different keys there are: those of the smallest values tell (Bar-Yossef et al., "Counting
    distinct elements in a data stream", 2002, section 2); exact up to SAMPLE.
    """

    def __init__(self) -> None:
        self.least = np.zeros(0, np.uint64)

    def see(self, keys: np.ndarray) -> None:
        mixed = mix(keys)
        if len(self.least) == SAMPLE:
            mixed = mixed[mixed < self.least[-1]]
        self.least = np.unique(np.concatenate([self.least, mixed]))[:SAMPLE]

    @property
    def count(self) -> float:
        if len(self.least) < SAMPLE:
            return float(len(self.least))
        return (SAMPLE - 1) * 2.0**64 / float(self.least[-1])


def whose(table: pa.Table, schema: Schema, start: int = 0) -> np.ndarray:
    """(N,) uint64: the entity of every row; where none is named, the row itself, numbered from `start`."""
    if not schema.about:
        return np.arange(start, start + table.num_rows, dtype=np.uint64)
    batches = table.select(list(schema.names)).combine_chunks().to_batches()
    return np.concatenate([np.zeros(0, np.uint64), *(entity_keys(b, schema.about) for b in batches)])


@dataclass
class Rows:
    """keys: of the values of every column. there: whether there is one."""

    keys: dict[str, np.ndarray]
    there: dict[str, np.ndarray]

    def pair(self, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
        """(N,) keys of two columns together, and where both have a value."""
        return mix(self.keys[a] * _ODD ^ (self.keys[b] >> np.uint64(7))), self.there[a] & self.there[b]


def value_keys(table: pa.Table, fields: tuple[AnyField, ...]) -> Rows:
    keys, there = {}, {}
    for field in fields:
        chunks = table[field.name].cast(field.arrow()).chunks
        column = pa.concat_arrays(chunks or [pa.array([], field.arrow())])
        if field.kind == "number" and field.decimals is not None:
            column = pc.round(column, ndigits=field.decimals)
        keys[field.name] = column_keys(column)
        there[field.name] = column.is_valid().to_numpy(zero_copy_only=False)
    return Rows(keys, there)


class SinglingOut:
    """Of a generated table: give it the training rows, then the held-out ones, and ask."""

    def __init__(self, synthetic: pa.Table, unseen: pa.Table, who_unseen: np.ndarray, schema: Schema) -> None:
        self.fields = schema.of_kind(*KINDS)
        self.pairs = _pairs(unseen, who_unseen, self.fields)
        rows = value_keys(synthetic, self.fields)
        self.cells = {name: Shown(rows.keys[name][rows.there[name]]) for name in rows.keys}
        self.both = {}
        for pair in self.pairs:
            keys, there = rows.pair(*pair)
            self.both[pair] = Shown(keys[there])
        self.sides = {True: Distinct(), False: Distinct()}

    def see(self, table: pa.Table, who: np.ndarray, *, member: bool) -> None:
        self.sides[member].see(who)
        cells = {name: shown for name, shown in self.cells.items() if not shown.settled}
        both = {pair: shown for pair, shown in self.both.items() if not shown.settled}
        asked = {*cells, *itertools.chain(*both)}
        rows = value_keys(table, tuple(f for f in self.fields if f.name in asked))
        for name, shown in cells.items():
            shown.see(*_those(rows.there[name], rows.keys[name], who), member=member)
        for pair, shown in both.items():
            keys, there = rows.pair(*pair)
            shown.see(*_those(there, keys, who), member=member)

    def findings(self, twin: SinglingOut | None = None) -> list[Finding]:
        """twin: of rows of a generator that has not learnt the held-out entities, where this one has."""
        sides = self.sides[True].count, int(self.sides[False].count)
        few = "" if min(sides) >= FEWEST else "too few entities"

        def excess(what: str, shown: Shown, other: Shown | None) -> Excess:
            return shown.beside(what, other) if other else shown.excess(what, *sides)

        cells = [
            excess(name, s, twin.cells[name] if twin else None)
            for name, s in self.cells.items()
            if not few and s.total
        ]
        both = [
            excess(" with ".join(pair), s, twin.both[pair] if twin else None)
            for pair, s in self.both.items()
            if not few and s.total
        ]
        return [
            told(
                "single_values", "One person's values",
                "share of generated values that one training entity alone has; of real data: as many others",
                cells, VALUES, excused=EXCUSED, reason=few or "no column of values",
                leak="It gives out values that one training entity alone has",
            ),
            told(
                "single_pairs", "One person's pairs",
                "share of generated pairs of values that one training entity alone has; of real data: as many"
                " others",
                both, COMBINED, excused=EXCUSED, reason=few or "no two columns that name somebody together",
                leak="It gives out pairs of values that one training entity alone has",
            ),
        ]  # fmt: skip


def _those(there: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    return columns if there.all() else tuple(c[there] for c in columns)


def _pairs(unseen: pa.Table, who: np.ndarray, fields: tuple[AnyField, ...]) -> list[tuple[str, str]]:
    """Pairs of columns that name most entities together whom neither column names alone."""
    rows, who = value_keys(unseen.slice(0, PAIR_ROWS), fields), who[:PAIR_ROWS]
    alone = {name: _single(keys, who) for name, keys in rows.keys.items()}
    varied = {name: len(np.unique(keys)) for name, keys in rows.keys.items()}
    names = sorted((n for n in alone if varied[n] > 1 and alone[n] < 0.9), key=lambda n: -varied[n])[:COLUMNS]
    gain = {}
    for a, b in itertools.combinations([f.name for f in fields if f.name in names], 2):
        more = _single(rows.pair(a, b)[0], who) - max(alone[a], alone[b])
        if more > 0:
            gain[a, b] = more
    return sorted(gain, key=lambda pair: (-gain[pair], pair))[:PAIRS]


def _single(keys: np.ndarray, who: np.ndarray) -> float:
    """Share of the rows whose value one entity alone has."""
    pairs = np.unique(np.stack([keys, who], 1), axis=0)[:, 0] if len(who) != len(np.unique(who)) else keys
    values, counts = np.unique(pairs, return_counts=True)
    single = np.sort(values[counts == 1])
    return float(np.isin(keys, single).mean()) if len(keys) else 0.0
