"""Dates and times as people write them: 12/31/2026, 31.12.2026 14:05, 2026/12/31 2:05 PM.

Years have four digits. ISO 8601 needs no format (columns.py).
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

SHAPE = re.compile(r"(\d{4}|\d{1,2})([/.-])\d{1,2}\2\d")
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
SAMPLE = 64
LAST_DAYS = 3  # a day that its month does not have becomes one of the first of the next


def formats(values: pa.Array) -> Counter[str]:
    """How many values each format takes that any of the first ones suggests; where several take as many, the
    first is the likelier: the month comes first between slashes, the day elsewhere.
    """
    first = next((v.as_py() for v in values.slice(0, SAMPLE) if v.is_valid), "")
    shape = SHAPE.match(first) if pa.types.is_string(values.type) else None
    if shape is None:
        return Counter()
    year_first, mark = len(shape[1]) == 4, shape[2]
    days = ["%Y-%m-%d"] if year_first else ["%m-%d-%Y", "%d-%m-%Y"][:: 1 if mark == "/" else -1]
    digits = r"\d{4}-\d{1,2}-\d{1,2}" if year_first else r"\d{1,2}-\d{1,2}-\d{4}"
    pattern = "^" + digits.replace("-", re.escape(mark)) + r"(\D|$)"
    shaped = values.filter(pc.match_substring_regex(values, pattern).fill_null(False))
    found = Counter[str]()
    for format in (day.replace("-", mark) + time for day in days for time in TIMES):
        if read(shaped.slice(0, SAMPLE), format).null_count < min(SAMPLE, len(shaped)):
            taken = read(shaped, format)
            found[format] = len(taken) - taken.null_count
    return +found


def read(values: pa.Array, format: str) -> pa.Array:
    """Texts as points in time, to the second; missing where one does not follow the format."""
    found = pc.strptime(values, format=format, unit="s", error_is_null=True)
    early = pc.less_equal(pc.day(found), LAST_DAYS).fill_null(False)
    wrong = [text for text in pc.unique(values.filter(early)).to_pylist() if not _is_day(text, format)]
    return pc.if_else(pc.is_in(values, pa.array(wrong, values.type)), None, found) if wrong else found


def _is_day(text: str, format: str) -> bool:
    """Whether there is such a day; C's strptime, which Arrow asks, takes the 31st of February."""
    try:
        datetime.strptime(text, format)
    except ValueError:
        return False
    return True
