"""Times of day and durations, in seconds: `14:05`, `2:05 PM`, `26:30:00`, `1 days 02:03:04`, `PT1H`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.written.sample import sample

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
ISO, WORDS = "PT%-HH%-MM%-SS", "%-Hh %-Mm %-Ss"


@dataclass(frozen=True)
class Clock:
    """shape: groups d, h, m, s and p (AM or PM). form: where all has two digits; `%-H` where hours do not."""

    shape: str
    form: str


HALF = r" ?(?P<p>[AaPp])\.?[Mm]\.?"
CLOCKS = [
    Clock(r"^(?P<sign>-?)(?P<h>\d{1,4}):(?P<m>[0-5]\d)$", "%H:%M"),
    Clock(r"^(?P<sign>-?)(?P<h>\d{1,4}):(?P<m>[0-5]\d):(?P<s>[0-5]\d)$", "%H:%M:%S"),
    Clock(rf"^(?P<h>0?[1-9]|1[0-2]):(?P<m>[0-5]\d){HALF}$", "%I:%M %p"),
    Clock(rf"^(?P<h>0?[1-9]|1[0-2]):(?P<m>[0-5]\d):(?P<s>[0-5]\d){HALF}$", "%I:%M:%S %p"),
    Clock(
        r"^(?P<sign>-?)(?P<d>\d{1,6}) days? (?P<h>\d\d):(?P<m>[0-5]\d):(?P<s>[0-5]\d)$",
        "%-d days %H:%M:%S",
    ),
    Clock(
        r"^(?P<sign>-?)P(?:(?P<d>\d{1,6})D)?(?:T(?:(?P<h>\d{1,6})H)?(?:(?P<m>\d{1,6})M)?(?:(?P<s>\d{1,6})S)?)?$",
        ISO,
    ),
    Clock(
        r"^(?P<sign>-?)(?:(?P<h>\d{1,4}) ?h(?:ours?|rs?)?)? ?"
        r"(?:(?P<m>\d{1,4}) ?m(?:in)?)? ?(?:(?P<s>\d{1,4}) ?s(?:ec)?)?$",
        WORDS,
    ),
]
BY_FORM = {clock.form: clock for clock in CLOCKS}


def _plain(form: str) -> str:
    """The form with two digits for hours."""
    return form if form in BY_FORM else form.replace("%-H", "%H").replace("%-I", "%I")


def takes(form: str) -> bool:
    return _plain(form) in BY_FORM


def read(texts: pa.Array, form: str) -> pa.Array:
    parts = pc.extract_regex(pc.utf8_trim_whitespace(texts), BY_FORM[_plain(form)].shape)
    names = {field.name for field in parts.type}
    total = pa.scalar(0, pa.int64())
    for name, seconds in UNITS.items():
        if name in names:
            digits = pc.struct_field(parts, name)
            number = pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64())
            if name == "h" and "p" in names:
                late = pc.is_in(pc.struct_field(parts, "p"), pa.array(["p", "P"]))
                number = pc.if_else(pc.equal(number, 12), 0, number)
                number = pc.add(number, pc.if_else(late, 12, 0))
            total = pc.add(total, pc.multiply(number, seconds))
    if "sign" in names:
        total = pc.if_else(pc.equal(pc.struct_field(parts, "sign"), "-"), pc.negate(total), total)
    return total


def write(values: pa.Array, form: str) -> pa.Array:
    return pa.array([None if v is None else _text(int(v), form) for v in values.to_pylist()], pa.string())


def _text(value: int, form: str) -> str:
    minutes, s = divmod(abs(value), 60)
    hours, m = divmod(minutes, 60)
    sign = "-" if value < 0 else ""
    if form == ISO:
        parts = [f"{n}{unit}" for n, unit in ((hours, "H"), (m, "M"), (s, "S")) if n]
        return f"{sign}PT{''.join(parts) or '0S'}"
    if form == WORDS:
        parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (m, "m"), (s, "s")) if n]
        return sign + (" ".join(parts) or "0m")
    if "%-d" in form:
        return f"{sign}{hours // 24} days {hours % 24:02}:{m:02}:{s:02}"
    if "%p" in form:
        half, hours = "AM" if hours % 24 < 12 else "PM", (hours - 1) % 12 + 1
    else:
        half = ""
    begin = f"{hours}" if "%-" in form else f"{hours:02}"
    return f"{sign}{begin}:{m:02}" + (f":{s:02}" if "%S" in form else "") + (f" {half}" if half else "")


def find(texts: pa.Array) -> Counter[str]:
    some = sample(texts)
    found = Counter[str]()
    for clock in CLOCKS:
        pattern = re.compile(clock.shape)
        if not any(pattern.match(v) and any(map(str.isdigit, v)) for v in some):
            continue
        trimmed = pc.utf8_trim_whitespace(texts)
        found[clock.form] += _number(pc.match_substring_regex(trimmed, clock.shape))
        if ":" in clock.form and "days" not in clock.form:
            found["|short"] += _number(pc.match_substring_regex(trimmed, r"^-?\d:"))
    return +found


def _number(mask: pa.BooleanArray) -> int:
    return pc.sum(mask).as_py() or 0


def settle(found: Counter[str]) -> list[tuple[str, int]]:
    """(form, how many texts it takes), the likeliest first."""
    out = []
    for form in BY_FORM:
        if found[form]:
            short = found["|short"]
            shown = form.replace("%H", "%-H").replace("%I", "%-I") if short else form
            out.append((shown, found[form]))
    return sorted(out, key=lambda item: -item[1])
