"""The two passes over an input: what is in its units, then their parts; only what is not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import starmap
from typing import Any

import numpy as np

from genpipe import store
from genpipe.constraints import Reckoned
from genpipe.dataset import new_attempt
from genpipe.errors import DataError
from genpipe.progress import Event, Progress
from genpipe.schema import Schema
from genpipe.sources import Source
from genpipe.sources.base import UNIT_BYTES, Reject
from genpipe.sources.files import bad_files
from genpipe.stages.cluster import in_order
from genpipe.stages.ingest.earlier import Block, Earlier, may_grow
from genpipe.stages.ingest.writer import Split, Written, count_unit, damaged_in, observe_unit, write_unit

PARALLEL_BYTES = 128 * 2**20
# the holdout of a small table is so near to the share asked for, or the nearest of so many draws; of a larger
# one chance makes it nearer
OFF, DRAWS, SMALL_ROWS = 0.02, 20, 50_000


class _Merged:
    """Statistics of pieces, added up one by one."""

    stats: Any = None

    def add(self, stats: Any) -> Any:
        if stats is not None:
            self.stats = stats if self.stats is None else self.stats.merge(stats)
        return self.stats


class Passes:
    """earlier: what need not be read again. read: the units that were, so far. blocks: what `observe` saw.
    again: files that are as they were, and of which the parts had to be written anew.
    """

    def __init__(
        self,
        source: Source,
        uri: str,
        holdout: float,
        *,
        workers: int | None,
        earlier: Earlier | None,
        progress: Progress,
    ) -> None:
        self.source, self.uri, self.holdout, self.progress = source, uri, holdout, progress
        self.units, self.earlier, self.read = range(len(source.units)), earlier, set[int]()
        self.keys = source.unit_keys if may_grow(source) else []
        self.workers, self.again, self.blocks = workers, 0, list[Block]()

    def run(
        self, work: Callable[..., Any], units: Sequence[int], *same: Any, note: str, once: Iterable[int] = ()
    ) -> Iterator[Any]:
        """work(source, unit, *same) of each unit, in order, in this process or as Ray tasks. once: units of
        which no pass comes after this one.
        """
        lean = dict.fromkeys(once, self.source.lean())
        self.read |= {*units}
        size = sum(f.size for unit in units for f in self.source.units[unit])
        workers = int(len(units) > 1 and size > PARALLEL_BYTES) if self.workers is None else self.workers
        mapped = in_order if workers and units and self.source.travels else starmap
        results = mapped(work, [(lean.get(unit, self.source), unit, *same) for unit in units])
        for done, result in enumerate(results, 1):
            self.progress(Event("ingest", done, len(units), "pieces", note=note))
            yield result

    def observe(self) -> Any:
        """Statistics of all units. Those of a last one that may get more files are also kept apart."""
        known = self.earlier.blocks if self.earlier else ()
        looked = {key for keys, _ in known for key in keys}
        todo = [unit for unit in self.units if not self.keys or self.keys[unit] not in looked]
        last, size = self.units[-1], sum(file.size for file in self.source.units[-1])
        apart = self.keys[-1:] if size < self.source.unit_bytes else []
        sides = {True: _Merged(), False: _Merged()}
        for keys, stats in known:
            sides[keys == apart].add(stats)
        parts_there = [unit for unit in todo if self._known(unit)]
        seen = self.run(observe_unit, todo, note="looking", once=parts_there)
        for unit, stats in zip(todo, seen, strict=True):
            sides[unit == last and bool(apart)].add(stats)
        for side, of in ((True, apart), (False, self.keys[: len(self.keys) - len(apart)])):
            if (stats := sides[side].stats) and of and not stats.rejects:
                self.blocks.append((of, self.source.dump(stats.settled())))
        return sides[False].add(sides[True].stats).settled()

    def write(
        self, schema: Schema, form: str, skip: frozenset[str], counted: Sequence[Reckoned]
    ) -> tuple[dict[int, Written], int]:
        """(of each unit its parts, the draw). Of few rows, or few entities, chance may hold out far more or
        less than was asked for: then they are drawn again. The first unit alone decides that, so that later
        files move no row of it to the other split.
        """
        earlier = self.earlier if self.earlier and self.earlier.form == form else None
        kept = {u for u in self.units if self.keys[u] in earlier.units} if earlier else set[int]()
        made, draw = dict[int, Written](), earlier.draw if earlier else 0
        drawn = schema.kind == "tabular" and self.holdout > 0
        if drawn and not (earlier and 0 in kept and self.keys[0] == earlier.first):
            small = sum(f.size for f in self.source.units[0]) <= UNIT_BYTES
            made = self._write([0] if small else self.units, schema, skip, counted, draw=0)
            if draw := self._draw(made[0], schema, skip):
                for part in (p for w in made.values() for p in w.parts):
                    store.remove(store.join(self.uri, part.path))
                made = {}
            if earlier and draw != earlier.draw:
                kept = set()
        rest = [u for u in self.units if u not in kept and u not in made]
        made |= self._write(rest, schema, skip, counted, draw=draw)
        self.again = sum(len(self.source.units[u]) for u in made if self._known(u))
        for unit in kept - made.keys():
            assert earlier
            made[unit] = earlier.written(self.keys[unit], counted)
        return {unit: made[unit] for unit in self.units}, draw

    def _draw(self, first: Written, schema: Schema, skip: frozenset[str]) -> int:
        rows = sum(p.rows for p in first.parts)
        held = sum(p.rows for p in first.parts if p.split == "holdout")
        if rows > SMALL_ROWS or abs(held / max(1, rows) - self.holdout) <= OFF:
            return 0
        (counted,) = self.run(count_unit, [0], schema, self.holdout, DRAWS, skip, note="drawing")
        shares = counted[:, 0] / np.maximum(counted[:, 1], 1)
        off = np.abs(shares - self.holdout)
        return int(np.argmax(off <= max(OFF, off.min())))

    def _write(
        self,
        units: Sequence[int],
        schema: Schema,
        skip: frozenset[str],
        counted: Sequence[Reckoned],
        *,
        draw: int,
    ) -> dict[int, Written]:
        same = (schema, self.uri, new_attempt(), Split(self.holdout, draw), skip, counted)
        return dict(zip(units, self.run(write_unit, units, *same, note="writing"), strict=True))

    def _known(self, unit: int) -> bool:
        return self.earlier is not None and self.keys[unit] in self.earlier.units

    def judge(self, rejects: list[Reject], policy: str, max_bad: float) -> list[Reject]:
        """As `judged`; before an error all files are read, so that it tells of all that are bad."""
        try:
            return judged(rejects, self.source, policy, max_bad)
        except DataError:
            more = self.run(damaged_in, self.units, note="checking")
            known = {r.file for r in rejects}
            rejects = rejects + [r for found in more for r in found if r.file not in known]
            return judged(rejects, self.source, policy, max_bad)


def judged(rejects: list[Reject], source: Source, policy: str, max_bad: float) -> list[Reject]:
    """Bad files: an error that lists the first of them, unless few enough may be skipped."""
    if not rejects:
        return []
    total = len(source.files)
    if policy == "skip" and len(rejects) <= max_bad * total:
        return rejects
    fix = (
        "repair or remove them, or pass on_bad_file='skip' with max_bad="
        if policy == "fail"
        else f"more than max_bad={max_bad} of all; repair them or raise it"
    )
    raise bad_files([r.error for r in rejects], total, fix)
