"""What every source is: raw files in, one observed schema, a stream of checked Arrow batches out.

    source.units                    pieces of work that may be read anywhere, in any order
    source.observe(unit) -> stats   what is in one piece; `a.merge(b)`, order does not matter
    source.schema(stats) -> Schema  inferred once, with a reason per field
    source.read(unit, schema)       batches of exactly that schema, or a DataError naming file, row, value

The units depend on the listing alone, never on who reads them: so one process and many Ray tasks write
the same bytes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from genpipe.errors import DataError
from genpipe.schema import Schema
from genpipe.sources.columns import Place
from genpipe.sources.entities import Entity
from genpipe.sources.files import File, check_same
from genpipe.sources.limits import MAX_RECORD
from genpipe.sources.relations import Relation

UNIT_BYTES = 64 * 2**20
UNIT_FILES = 4096
FIXED = 64 * 2**20
Piece = Callable[[], tuple[pa.RecordBatch, Place]]
A = TypeVar("A")
B = TypeVar("B")


def unset(value: object) -> bool:
    """`exclude_if` of options that came later: a request that sets none is told as it was before them."""
    return value is None


class Options(BaseModel):
    """What a user may set of a source; every source declares its own, unknown names are refused.

    memory: bytes a reading process may grow by. The machinery takes FIXED of it (allocator, threads, codecs),
    the rest is shared by the pieces in flight and the parts being gathered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    memory: int = Field(default=512 * 2**20, ge=96 * 2**20, le=2**44)

    @property
    def block(self) -> int:
        """Bytes parsed at a time; each takes several times that while it is typed, and some fly at once."""
        return min((self.memory - FIXED) // 128, 4 * 2**20)

    @property
    def longest(self) -> int:
        """Bytes of the longest record or line; some are parsed at once, each in several copies."""
        return min((self.memory - FIXED) // 32, MAX_RECORD)

    @property
    def part(self) -> int:
        """Arrow bytes gathered per split before a part is written."""
        return min((self.memory - FIXED) // 20, 32 * 2**20)


class Rows(NamedTuple):
    """A batch. keys: (B,) uint64, rows of equal key share a split; None = hash of the key or the entity.

    held: (B,) bool, the rows that the input itself holds out. lost: what was left out on the way to this
    batch: a sentence with `{n}` in it -> how many; those of all batches are added up.
    """

    batch: pa.RecordBatch
    keys: np.ndarray | None = None
    held: np.ndarray | None = None
    lost: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Reject:
    """A file that cannot be read, and why."""

    file: str
    error: DataError


@dataclass
class Observed(ABC):
    """The least a source must know of a unit; subclasses add what their schema needs."""

    rejects: list[Reject] = field(default_factory=list)

    @abstractmethod
    def merge(self, other: Any) -> Any:
        """What is in both pieces; order does not matter."""

    def settled(self) -> Any:
        """The same, in an order that the order of merging left no trace in."""
        return self


class Source(ABC):
    """A listed input. Holds only its files and options, so that it travels to Ray tasks cheaply."""

    kind: ClassVar[str]
    more: ClassVar[str] = ""  # what makes more rows of the same input, for a message
    sheets: ClassVar[tuple[str, ...]] = ()  # names of files that tell of the others, taken from a folder, too
    travels: ClassVar[bool] = True  # whether a copy in another process reads the same
    # whether what was made of a unit still holds when there are other units: see stages/ingest/earlier.py
    incremental: bool = False
    options: Options
    files: tuple[File, ...]

    others: Mapping[str, int] = MappingProxyType({})  # files of the input that are of no type it reads

    def __init__(self, files: tuple[File, ...], options: Options) -> None:
        self.files, self.options = files, options

    @classmethod
    def of(cls, files: tuple[File, ...], options: Any) -> Source:
        """The source of these files; of another class where their form asks for one."""
        return cls(files, options)

    @property
    def unit_bytes(self) -> int:
        """Of the files of one unit together."""
        return UNIT_BYTES

    @cached_property
    def units(self) -> tuple[tuple[File, ...], ...]:
        """Consecutive files up to `unit_bytes` or UNIT_FILES together."""
        units: list[tuple[File, ...]] = []
        now: list[File] = []
        size = 0
        for file in self.files:
            if now and (size + file.size > self.unit_bytes or len(now) >= UNIT_FILES):
                units.append(tuple(now))
                now, size = [], 0
            now.append(file)
            size += file.size
        return (*units, tuple(now))

    @property
    def identity(self) -> list[Any]:
        """What makes another run the same run: the files as listed."""
        return [[f.uri, f.size, f.stamp] for f in self.files]

    @abstractmethod
    def observe(self, unit: int) -> Any: ...

    @abstractmethod
    def schema(self, stats: Any, *, target: str | None, key: tuple[str, ...]) -> Schema: ...

    @abstractmethod
    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        """Rows of a unit but for files in `skip`; files that turn out bad are added to `rejects`."""

    def notices(self, stats: Any) -> list[str]:
        """What a person should know about how the input was taken; no name of a file and no value is in it,
        since reports repeat it.
        """
        return []

    def unused(self, schema: Schema, *, inferred: bool) -> list[str]:
        """Notices of what the schema leaves out of the input, in so far as `notices` does not say it.

        inferred: it is the source's own.
        """
        return []

    def damaged(self, unit: int) -> list[Reject]:
        """Files of a unit that `observe` took and whose contents are bad; none, where it reads them whole."""
        return []

    def entity(self, stats: Any) -> Entity | None:
        """Whom rows are about, where one has several: of tables alone, other kinds say so themselves."""
        return None

    def relations(self, stats: Any, schema: Schema) -> list[Relation]:
        """What seems to hold between columns: of tables alone."""
        return []

    def check_unchanged(self, units: Iterable[int]) -> None:
        """A file that changed since it was listed would give a dataset of neither version. units: that were
        read.
        """
        for file in (f for unit in units for f in self.units[unit]):
            check_same(file)

    def lean(self) -> Source:
        """The same, but that it keeps nothing from one pass for the next."""
        return self

    @cached_property
    def unit_keys(self) -> list[str]:
        """Of an incremental source: for each unit a hash of all that its rows depend on but the options."""
        raise NotImplementedError

    def form(self, schema: Schema, stats: Any) -> Any:
        """Of an incremental source: what of a schema the bytes of a part depend on, as JSON. stats: what the
        schema is inferred from; None where it was given.
        """
        raise NotImplementedError

    def dump(self, stats: Any) -> dict[str, Any]:
        """Of an incremental source: what was observed, as JSON."""
        raise NotImplementedError

    def load(self, told: Any) -> Any:
        """What `dump` told. Raises ValueError, TypeError or KeyError where it is something else."""
        raise NotImplementedError


def attempt(work: Callable[[File], B], file: File, rejects: list[Reject]) -> B | None:
    """work(file); a DataError becomes a reject, so that all bad files are found at once."""
    try:
        return work(file)
    except DataError as error:
        rejects.append(Reject(file.uri, error))
        return None


def ordered(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """map() over threads with few results in flight, since Arrow and numpy release the GIL."""
    threads = min(os.cpu_count() or 1, 8)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        source = iter(items)
        flying = collections.deque(pool.submit(work, item) for item in itertools.islice(source, threads + 1))
        try:
            while flying:
                done = flying.popleft().result()
                flying.extend(pool.submit(work, item) for item in itertools.islice(source, 1))
                yield done
        finally:
            for future in flying:
                future.cancel()
