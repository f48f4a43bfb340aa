"""What a column holds: mergeable statistics of text or typed values, and the field they amount to.

Text is typed by trying, block by block, the strictest type that takes every value. A block that is nearly
all numbers or dates is counted value by value, so that one stray word is reported and never turns the
column into text unseen. Distinct values are counted with k minimum values (Bar-Yossef et al., "Counting
distinct elements in a data stream", 2002): exact below SKETCH, within about 3 % above.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError
from genpipe.keys import column_keys
from genpipe.sources.decimals import ANY, Digits, digits

SKETCH = 1024
EXACT_FLOAT = 2**53
SMALL = 1e-4  # programs write what is smaller with an exponent
NUMERIC = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TEMPORAL = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
ZONE = r":\d{2}(\.\d+)?(Z|[+-]\d{2}:?\d{2})$"
LADDER: tuple[tuple[str, pa.DataType], ...] = (
    ("date", pa.date32()),
    ("timestamp[s]", pa.timestamp("s")),
    ("timestamp[us]", pa.timestamp("us")),
    ("timestamp[ns]", pa.timestamp("ns")),
    ("timestamp[us,UTC]", pa.timestamp("us", "UTC")),
    ("timestamp[ns,UTC]", pa.timestamp("ns", "UTC")),
)


@dataclass(frozen=True)
class Place:
    """Where a batch begins. row: of its first value, the header being row 1. left: rows of it that were left
    out; then `rows` are those that are there, counted from the first.
    """

    uri: str
    row: int
    left: int = 0
    rows: np.ndarray | None = field(default=None, compare=False)

    def at(self, index: int, column: str) -> str:
        return f"{self.uri}:row {self.row + (index if self.rows is None else int(self.rows[index]))}:{column}"


@dataclass
class Column:
    """Statistics of one column. types: values per type; odd: the first texts and codes, with places.

    unit: what whole numbers count, where they stand for a time of day or a duration. looked: see pii.look.
    written: see written.formats.
    """

    name: str
    rows: int = 0
    nulls: int = 0
    types: Counter[str] = field(default_factory=Counter)
    odd: list[tuple[str, int, str]] = field(default_factory=list)
    low: float | int | None = None
    high: float | int | None = None
    digits: Digits = field(default_factory=Digits)
    sketch: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    chars: int = 0
    unit: str = ""
    looked: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)

    def merge(self, other: Column) -> Column:
        lows = [v for v in (self.low, other.low) if v is not None]
        highs = [v for v in (self.high, other.high) if v is not None]
        return Column(
            name=self.name,
            rows=self.rows + other.rows,
            nulls=self.nulls + other.nulls,
            types=self.types + other.types,
            odd=sorted(self.odd + other.odd)[:5],
            low=min(lows, default=None),
            high=max(highs, default=None),
            digits=self.digits.merge(other.digits),
            sketch=_smallest(self.sketch, other.sketch),
            chars=self.chars + other.chars,
            unit=self.unit or other.unit,
            looked=self.looked + other.looked,
            written=self.written + other.written,
        )

    @property
    def valid(self) -> int:
        return self.rows - self.nulls

    @property
    def distinct(self) -> int:
        if len(self.sketch) < SKETCH:
            return len(self.sketch)
        return int((SKETCH - 1) / (float(self.sketch[-1]) / 2.0**64))


def _smallest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The SKETCH smallest different keys of both."""
    if len(a) == SKETCH:
        b = b[b <= a[-1]]
    if len(b) > 8 * SKETCH:  # keys are uniform: where nearly all differ, the lowest few hold enough
        low = _sorted_set(b[b < np.uint64(4 * SKETCH * 2**64 // len(b))])
        b = low if len(low) >= SKETCH else b
    return _sorted_set(np.concatenate([a, b]))[:SKETCH]


def _sorted_set(keys: np.ndarray) -> np.ndarray:
    """np.unique, but by sorting: for 64-bit keys that beats its hash table several times."""
    keys = np.sort(keys)
    return keys[np.concatenate([np.ones(min(len(keys), 1), bool), keys[1:] != keys[:-1]])]


def _distinct_keys(values: pa.Array) -> np.ndarray:
    """Keys of the non-null values, at least one of each."""
    values = values.drop_null()
    if len(pc.unique(values.slice(0, SKETCH))) * 2 < min(len(values), SKETCH):
        values = pc.unique(values)  # cheaper than hashing every repetition
    return column_keys(values)


def observe(name: str, values: pa.Array, place: Place) -> tuple[Column, pa.Array]:
    """Statistics of one batch of a column, text or typed; and the values in the type that was found."""
    column = Column(name, rows=len(values), nulls=values.null_count)
    if column.valid == 0:
        return column, values
    if not pa.types.is_string(values.type):
        _typed(column, values, place)
        return column, values
    return column, _text(column, values, place, looking=True)


def _text(column: Column, values: pa.Array, place: Place, *, looking: bool) -> pa.Array:
    """Add the text `values`; `looking` = still willing to set strays apart."""
    found = strictest(values)
    if found is None:
        _mixed(column, values, place, looking)
        return values
    kind, typed = found
    column.types[kind] += len(values) - values.null_count
    if kind == "integer":
        _range(column, typed, place)
        column.sketch = _smallest(column.sketch, _distinct_keys(typed))
    elif kind == "number":
        _range(column, typed, place)
        flat = typed.drop_null().to_numpy(zero_copy_only=False)
        some = Digits(ANY, ANY) if _significant(values, flat) else digits(flat)
        column.digits = column.digits.merge(some)
    return typed


def _mixed(column: Column, values: pa.Array, place: Place, looking: bool) -> None:
    pattern = _mostly(values) if looking else None
    if pattern:
        fits = pc.match_substring_regex(values, pattern)
        zoned = pc.match_substring_regex(values, ZONE)
        for some in (pc.and_(fits, zoned), pc.and_(fits, pc.invert(zoned))):  # no type takes both
            _text(column, values.filter(some), place, looking=False)
        values = values.filter(pc.invert(fits).fill_null(False))
        rows = np.flatnonzero(pc.invert(fits).fill_null(False).to_numpy(zero_copy_only=False))
    else:
        rows = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False)[:1000])
        values = values.drop_null()
    if not len(values):
        return
    code = all(re.fullmatch(r"[+-]?\d+", value) for value in values.slice(0, 1000).to_pylist())
    column.types["code" if code else "text"] += len(values)
    column.odd = [
        (place.uri, place.row + int(r), v.as_py()[:60]) for r, v in zip(rows[:5], values[:5], strict=False)
    ]
    column.sketch = _smallest(column.sketch, _distinct_keys(values))
    column.chars += int(pc.sum(pc.binary_length(values)).as_py())


def strictest(values: pa.Array) -> tuple[str, pa.Array] | None:
    """The strictest type that takes every non-null text exactly, and the values in it; None = text."""
    first = next((v.as_py() for v in values if v.is_valid), "")
    if re.match(r"[+-.\d]", first) and not re.match(r"\d{4}-\d", first):
        integers = _cast(values, pa.int64())
        if integers is not None:
            return None if leading_zero(values) else ("integer", integers)
        numbers = _cast(values, pa.float64())
        if numbers is None or _too_many_digits(values, numbers) or leading_zero(values):
            return None
        return "number", numbers
    if first.lower() in ("true", "false"):
        flags = _cast(values, pa.bool_())
        digits = pc.any(pc.equal(pc.binary_length(values), 1)).as_py()  # Arrow takes 0 and 1 for booleans
        return None if flags is None or digits else ("boolean", flags)
    if re.match(r"\d{4}-\d", first):
        for kind, arrow in LADDER:
            typed = _cast(values, arrow)
            if typed is not None:
                return kind, typed
    if first.lower() in ("inf", "infinity"):
        numbers = _cast(values, pa.float64())
        return None if numbers is None else ("number", numbers)
    return None


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        values.slice(0, 64).cast(kind)  # a failing cast looks at every value, so fail on few
        return values.cast(kind)
    except pa.ArrowInvalid:
        return None


def leading_zero(values: pa.Array) -> bool:
    """Whether a number would lose its leading zeros: 01234, but not 0 or 0.5."""
    ends, text = _buffers(values)
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1]])
    starts = starts[: np.searchsorted(starts, len(text) - 1)]
    zeros = np.flatnonzero(text[starts] == ord("0"))
    digits = text[starts[zeros] + 1] - ord("0") < 10  # unsigned: what comes before 0 is large
    return bool((digits & (ends[zeros] - starts[zeros] > 1)).any())


def _too_many_digits(values: pa.Array, numbers: pa.Array) -> bool:
    large = np.nan_to_num(np.abs(numbers.to_numpy(zero_copy_only=False)), nan=0.0) >= EXACT_FLOAT
    if not large.any():
        return False
    return bool(pc.any(pc.match_substring_regex(values.filter(pa.array(large)), r"^[+-]?\d+$")).as_py())


def _significant(values: pa.Array, flat: np.ndarray) -> bool:
    """Whether exponents say that digits are counted from the first one; programs write very small numbers so
    that have a few digits after the point."""
    if not ((_buffers(values)[1] | 32) == ord("e")).any():  # e or E
        return False
    powers = pc.match_substring(values.drop_null(), "e", ignore_case=True).to_numpy(zero_copy_only=False)
    return bool((np.abs(flat[powers]) >= SMALL).any())


def _buffers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(B,) end of every text, and all characters one after the other."""
    _, offsets_buffer, data = values.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[values.offset : values.offset + len(values) + 1]
    return offsets[1:] - offsets[0], np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]


def _mostly(values: pa.Array) -> str | None:
    """The pattern more than half of a sample follows."""
    sample = values.slice(0, 256).drop_null().slice(0, 64).to_pylist()
    for pattern in map(re.compile, (NUMERIC, TEMPORAL)):  # Arrow would compile them at every call
        if not any(map(pattern.match, sample[:8])):
            continue
        if sum(pattern.match(value) is not None for value in sample) * 2 > len(sample):
            return pattern.pattern
    return None


def _typed(column: Column, values: pa.Array, place: Place) -> None:
    kind = values.type
    if pa.types.is_integer(kind):
        name = "integer"
        column.sketch = _smallest(column.sketch, _distinct_keys(values))
    elif pa.types.is_floating(kind):
        name, column.digits = "number", digits(values.drop_null().to_numpy(zero_copy_only=False))
    elif pa.types.is_boolean(kind):
        name = "boolean"
    elif pa.types.is_date(kind):
        name = "date"
    elif pa.types.is_timestamp(kind):
        name = f"timestamp[{kind.unit}{',' + kind.tz if kind.tz else ''}]"
    else:
        raise DataError(
            "DTYPE",
            where=place.at(0, column.name),
            found=f"a column of type {kind}",
            expected="numbers, text, booleans, dates or times",
            fix="flatten or drop it before ingesting",
        )
    column.types[name] += column.valid
    if name in ("integer", "number"):
        _range(column, values, place)


def _range(column: Column, values: pa.Array, place: Place) -> None:
    ends = pc.min_max(values).as_py()
    for end in (ends["min"], ends["max"]):
        if isinstance(end, float) and not np.isfinite(end):
            row = int(np.flatnonzero(np.isinf(values.to_numpy(zero_copy_only=False)))[0])
            raise DataError(
                "NONFINITE",
                where=place.at(row, column.name),
                found=f"{end} (infinite, or beyond a 64-bit float)",
                expected="finite numbers",
                fix="write an empty cell for a missing value",
            )
    column.low = ends["min"] if column.low is None else min(column.low, ends["min"])
    column.high = ends["max"] if column.high is None else max(column.high, ends["max"])
