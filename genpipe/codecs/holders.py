"""Who holds a value: a codec keeps of the data only what at least k entities have.

An entity is a row, or whom the schema says that rows are about (`Schema.about`). Distinct entities are
counted with witnesses: of each value the few smallest hashes of entities that have it. Fewer than that
many are all there are, so it is known whether a value has k, in bounded memory, however often one entity
repeats it; and the witnesses of a whole are the smallest of those of its parts, however it was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.sketch import hash_column
from genpipe.errors import DataError
from genpipe.keys import entity_keys
from genpipe.schema import Schema

WHO = "\0who"  # in a sample: whom each row is about; no column has this name
WITNESSES = 20  # entities remembered of a value, or k if that is more; what is learnt of pairs needs some


def entities(batch: pa.RecordBatch, schema: Schema) -> np.ndarray | None:
    """(B,) hashes of whom each row is about; None = every row is an entity of its own."""
    names = schema.about
    return entity_keys(batch, names, unnamed="together") if names else None


@dataclass(frozen=True)
class Holders:
    """values, entities: (W,) hashes of values and of entities that have them, ascending, at most `most` a
    value; None once there were more than `limit` values.
    """

    most: int
    values: np.ndarray | None
    entities: np.ndarray | None
    limit: int = 2**31

    @classmethod
    def of(cls, values: np.ndarray, entities: np.ndarray, *, least: int, limit: int = 2**31) -> Holders:
        return cls(max(WITNESSES, least), values, entities, limit)._bounded()

    def _bounded(self) -> Holders:
        assert self.values is not None and self.entities is not None
        order = np.lexsort((self.entities, self.values))
        values, entities = self.values[order], self.entities[order]
        other = np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]])
        new = other | np.concatenate([other[:1], entities[1:] != entities[:-1]])
        values, entities, other = values[new], entities[new], other[new]
        if other.sum() > self.limit:
            return replace(self, values=None, entities=None)
        place = np.arange(len(values))
        first = place - np.maximum.accumulate(np.where(other, place, 0)) < self.most
        return replace(self, values=values[first], entities=entities[first])

    def merge(self, other: Holders) -> Holders:
        if self.values is None or other.values is None or self.entities is None or other.entities is None:
            return replace(self, values=None, entities=None)
        values = np.concatenate([self.values, other.values])
        entities = np.concatenate([self.entities, other.entities])
        return replace(self, values=values, entities=entities)._bounded()

    def count(self, values: np.ndarray) -> np.ndarray:
        """How many entities are known to have each of these hashes of values: at most `most`."""
        if self.values is None:
            return np.zeros(len(values), dtype=np.int64)
        return np.searchsorted(self.values, values, "right") - np.searchsorted(self.values, values)

    def who(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(index into `values`, entity) of each witness."""
        if self.values is None or self.entities is None:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        counts = self.count(values)
        index = np.repeat(np.arange(len(values)), counts)
        nth = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        return index, self.entities[np.repeat(np.searchsorted(self.values, values), counts) + nth]


def merge_holders(one: dict[str, Holders], other: dict[str, Holders]) -> dict[str, Holders]:
    return {name: held.merge(other[name]) for name, held in one.items()}


def coarse(counts: Sequence[float] | np.ndarray, k: int) -> np.ndarray:
    """Counts to the nearest multiple of k, none of those that are k or more to 0.

    Shares are made of such counts, so no share and no sum or difference of shares tells a single person.
    What is lost is less than the chance of a sample: half of k against the root of the count.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if k < 2:
        return counts
    return np.where(counts > 0, np.maximum(np.rint(counts / k), 1) * k, 0)


@dataclass(frozen=True)
class Crowd:
    """Points in ascending order, each as often as there are entities that are known to have it.

    who: the entity of each; None = all are different.
    """

    k: int
    points: np.ndarray
    who: np.ndarray | None = None

    @classmethod
    def of(
        cls, k: int, values: np.ndarray, counts: np.ndarray, who: tuple[np.ndarray, np.ndarray] | None = None
    ) -> Crowd:
        """values: ascending. counts: rows of each. who: (index into values, entity), without order."""
        if who is None:
            return cls(k, np.repeat(values, np.minimum(counts, max(k, 2) * 4)))
        index, entity = who
        return cls(k, values[index], entity).sorted()

    def sorted(self) -> Crowd:
        order = np.argsort(self.points, kind="stable")
        return replace(self, points=self.points[order], who=None if self.who is None else self.who[order])

    def at(self, points: np.ndarray) -> Crowd:
        """The same entities at other points."""
        return replace(self, points=points).sorted()

    def only(self, mask: np.ndarray) -> Crowd:
        return Crowd(self.k, self.points[mask], None if self.who is None else self.who[mask])

    def among(self, first: int, stop: int) -> int:
        """How many entities the points numbered first .. stop - 1 are of."""
        return stop - first if self.who is None else len(np.unique(self.who[first:stop]))

    def enough(self) -> bool:
        return self.among(0, len(self.points)) >= self.k

    def held(self, points: np.ndarray) -> np.ndarray:
        """(P,) whether k entities have each point."""
        return self.between(points, points)

    def between(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """(P,) whether k entities have points in each stretch, its ends included."""
        first, stop = np.searchsorted(self.points, low), np.searchsorted(self.points, high, "right")
        out = stop - first >= self.k
        if self.who is not None:
            for i in np.flatnonzero(out):
                out[i] = self.among(first[i], stop[i]) >= self.k
        return out

    def ends(self, unit: float) -> tuple[Any, Any]:
        """Where the points begin and end: k entities lie at or beyond, rounded outwards to a power of two as
        coarse as the points lie apart there, at least `unit`; exact only where k entities have the value.
        """
        flipped = replace(self, points=self.points[::-1], who=None if self.who is None else self.who[::-1])
        low, high = self._end(unit, 1), flipped._end(unit, -1)
        if low < high or self.held(np.array([low]))[0]:
            return low, high
        # fewer than twice k: a stretch as wide as all of them, that holds the middle one
        at = self.points[len(self.points) // 2].item()
        step = _step(float(self.points[-1] - self.points[0]), unit, at)
        return _rounded(at, step, 1), _rounded(at + type(at)(step), step, 1)

    def _end(self, unit: float, sign: int) -> Any:
        places = self._firsts()
        if len(places) < self.k:
            raise DataError("FEW", found=f"{len(places)} entities", expected=f"at least {self.k}")
        # as many entities again tell how far apart they lie
        first, at, beyond = (self.points[i].item() for i in (0, places[self.k - 1], places[-1]))
        if self.among(*_run(self.points, places[self.k - 1])) >= self.k:
            return at
        out, inside = abs(at - first), abs(beyond - at)
        return _rounded(at, _step(float(min(out, inside) or max(out, inside)), unit, at), sign)

    def _firsts(self) -> np.ndarray:
        """Where each of the first 2 k entities comes first."""
        if self.who is None:
            return np.arange(min(len(self.points), 2 * self.k))
        _, first = np.unique(self.who, return_index=True)
        return np.sort(first)[: 2 * self.k]

    def snapped(self, cuts: np.ndarray, *, shift: float = 0.0, unit: float = 0.0) -> np.ndarray:
        """Cuts moved to multiples of the least power of two (plus `shift`) around which, half of it to each
        side, k entities lie: so they say where many are, and not where one is.
        """
        out, todo = cuts.astype(np.float64), np.arange(len(cuts))
        spread = float(self.points[-1] - self.points[0]) if len(self.points) else 0.0
        if not len(cuts) or not self.enough():
            return out
        least = max(unit, float(np.spacing(np.abs(out).max())))
        middle = np.searchsorted(self.points, out)
        near = np.clip(middle - 1, 0, len(self.points) - 1), np.clip(middle, 0, len(self.points) - 1)
        gaps = self.points[near[1]] - self.points[near[0]]
        steps = np.array([_power(max(least, float(gap))) for gap in gaps])
        while len(todo):
            step = steps[todo]
            there = np.rint((cuts[todo] - shift) / step) * step + shift
            fine = self.between(there - step / 2, there + step / 2) | (step > 4 * max(spread, least))
            out[todo[fine]] = there[fine]
            todo = todo[~fine]
            steps[todo] *= 2
        return out


def _run(points: np.ndarray, place: int) -> tuple[int, int]:
    """(first, last + 1) of the points equal to the one at `place`, in points in either order."""
    same = np.flatnonzero(points == points[place])
    return int(same[0]), int(same[-1]) + 1


def _step(size: float, unit: float, at: float) -> float:
    """The least power of two that is not smaller than size, unit, or what floats tell apart there."""
    return _power(max(size, unit, float(np.spacing(abs(float(at))))))


def _rounded(at: Any, step: float, sign: int) -> Any:
    """Down (sign 1) or up (sign -1) to a multiple of step."""
    if not isinstance(at, int):
        return float(sign * np.floor(sign * at / step) * step) + 0.0
    return max(-(2**63), min(2**63 - 1, sign * (sign * at // int(step)) * int(step)))


def _power(size: float) -> float:
    """The least power of two that is not smaller."""
    return float(2.0 ** np.ceil(np.log2(size)))


def hash_values(values: Iterable[Any], kind: pa.DataType) -> np.ndarray:
    """The hashes of values of a column of this type."""
    return hash_column(pa.array(list(values), kind))
