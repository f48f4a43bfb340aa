"""Dates and times: `12/31/2026`, `31.12.26 14:05`, `3 Jan 2021`, `20230709`, `2021-Q3`, `2021-W05`, `Mar 21`.

A form is a format of strptime, with `%-d` for days without a zero in front, `%q` for the quarter and `%G-W%V`
for ISO's weeks; months, quarters and weeks are their first day. Of two digits 69 to 99 are years of the last
century. ISO 8601 needs no form (sources/columns.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.written.sample import SAMPLE, sample

LAST_DAYS = 3  # a day that its month does not have becomes one of the first of the next
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
NAMED = r"[A-Za-z]{3,9}"
# what a text looks like, and the forms it may have: of these the first is the likeliest
SHAPES: list[tuple[str, tuple[str, ...], bool]] = [
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%m/%d/%Y", "%d/%m/%Y"), True),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%m/%d/%y", "%d/%m/%y"), True),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y", "%m.%d.%Y"), True),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y", "%m.%d.%y"), True),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y"), True),
    (r"\d{4}/\d{1,2}/\d{1,2}", ("%Y/%m/%d",), True),
    (r"\d{4}-\d{1,2}-\d{1,2}", ("%Y-%m-%d",), True),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",), True),
    (rf"\d{{1,2}} {NAMED} \d{{4}}", ("%d %b %Y", "%d %B %Y"), True),
    (rf"\d{{1,2}}-{NAMED}-\d{{4}}", ("%d-%b-%Y", "%d-%B-%Y"), True),
    (rf"\d{{1,2}}-{NAMED}-\d{{2}}", ("%d-%b-%y",), True),
    (rf"{NAMED} \d{{1,2}}, \d{{4}}", ("%b %d, %Y", "%B %d, %Y"), True),
    (rf"{NAMED} \d{{1,2}} \d{{4}}", ("%b %d %Y", "%B %d %Y"), True),
    (rf"{NAMED}, \d{{1,2}} {NAMED} \d{{4}}", ("%a, %d %b %Y", "%A, %d %B %Y"), True),
    (r"\d{8}", ("%Y%m%d",), False),
    (r"\d{14}", ("%Y%m%d%H%M%S",), False),
    (r"\d{4}-\d{2}", ("%Y-%m",), False),
    (r"\d{2}/\d{4}", ("%m/%Y",), False),
    (rf"{NAMED} \d{{4}}", ("%b %Y", "%B %Y"), False),
    (rf"{NAMED}-\d{{4}}", ("%b-%Y",), False),
    (rf"{NAMED}-\d{{2}}", ("%b-%y",), False),
    (r"\d{4}[- ]?Q[1-4]", ("%Y-Q%q", "%Y Q%q", "%YQ%q"), False),
    (r"Q[1-4][- ]\d{4}", ("Q%q %Y", "Q%q-%Y"), False),
    (r"\d{4}-?W\d{2}", ("%G-W%V", "%GW%V"), False),
]
COMPILED = [
    (re.compile(shape + ("(?: |$)" if times else "$")), forms, times) for shape, forms, times in SHAPES
]
FORMS = dict.fromkeys(  # in the order of their likelihood, whatever order they were met in
    day + time for _, forms, times in SHAPES for day in forms for time in (TIMES if times else TIMES[:1])
)


def plain(form: str) -> str:
    """The form in which every day, month and hour has two digits."""
    return form.replace("%-", "%")


def takes(form: str) -> bool:
    """Any format that says a year and is no clock."""
    return len(form) <= 80 and re.search("%-?[YyG]", form) is not None and "0" not in form and "#" not in form


def has_time(form: str) -> bool:
    return "%H" in plain(form) or "%I" in plain(form)


def find(texts: pa.Array) -> Counter[str]:
    some = sample(texts)
    found = Counter[str]()
    for shape, forms, times in COMPILED:
        if not any(map(shape.match, some[:8])):
            continue
        shaped = pc.utf8_trim_whitespace(texts)
        shaped = shaped.filter(pc.match_substring_regex(shaped, "^" + shape.pattern).fill_null(False))
        for form in (day + time for day in forms for time in (TIMES if times else TIMES[:1])):
            few = shaped.slice(0, SAMPLE)
            if len(few) and read(few, form).null_count < len(few):
                taken = read(shaped, form)
                found[form] = len(taken) - taken.null_count
        for sign, pattern in (("|day", r"(^|[^\d:])\d([^\d:]|$)"), ("|hour", r" \d:")):
            found[sign] += (pc.sum(pc.match_substring_regex(shaped, pattern)).as_py() or 0) if times else 0
    return +found


def settle(found: Counter[str]) -> list[tuple[str, int]]:
    """(form, how many texts it takes), the likeliest first."""
    out = []
    for form in FORMS:
        if times := found[form]:
            shown = re.sub("%([dm])", r"%-\1", form) if found["|day"] else form
            out.append((re.sub("%([HI])", r"%-\1", shown) if found["|hour"] else shown, times))
    return sorted(out, key=lambda item: -item[1])


def read(texts: pa.Array, form: str) -> pa.Array:
    """Texts as points in time, to the second; missing where one does not follow the form."""
    texts, form = pc.utf8_trim_whitespace(texts), plain(form)
    if "%q" in form or "%V" in form:
        return _by_value(texts, form)
    if not re.search("%[djeD]", form):  # a month is its first day
        texts, form = pc.binary_join_element_wise(texts, "01", " "), form + " %d"
    found = pc.strptime(texts, format=form, unit="s", error_is_null=True)
    early = pc.less_equal(pc.day(found), LAST_DAYS).fill_null(False)
    wrong = [text for text in pc.unique(texts.filter(early)).to_pylist() if not _is_day(text, form)]
    return pc.if_else(pc.is_in(texts, pa.array(wrong, texts.type)), None, found) if wrong else found


def _is_day(text: str, form: str) -> bool:
    """Whether there is such a day; C's strptime, which Arrow asks, takes the 31st of February."""
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def _by_value(texts: pa.Array, form: str) -> pa.Array:
    """Quarters and weeks, each different one once."""
    pattern = re.escape(form).replace("%Y", "(?P<y>\\d{4})").replace("%G", "(?P<y>\\d{4})")
    shape = re.compile(pattern.replace("%q", "(?P<q>[1-4])").replace("%V", "(?P<w>\\d{2})"))
    coded = texts.dictionary_encode()

    def value(text: str) -> datetime | None:
        if not (found := shape.fullmatch(text)):
            return None
        parts = {name: int(digits) for name, digits in found.groupdict().items()}
        try:
            day = (
                date(parts["y"], 3 * parts["q"] - 2, 1)
                if "q" in parts
                else date.fromisocalendar(parts["y"], parts["w"], 1)
            )
        except ValueError:
            return None
        return datetime(day.year, day.month, day.day)

    values = pa.array([value(v) for v in coded.dictionary.to_pylist()], pa.timestamp("s"))
    return values.take(coded.indices)


def write(values: pa.Array, form: str) -> pa.Array:
    coded = values.dictionary_encode()
    return pa.array(list(_texts(coded.dictionary.to_pylist(), form)), pa.string()).take(coded.indices)


def _texts(values: list[date], form: str) -> Iterator[str]:
    for value in values:
        yield value.strftime(form.replace("%q", str((value.month + 2) // 3)))
