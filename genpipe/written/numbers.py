"""Numbers with a currency, a unit, a per cent sign, thousands marks or a decimal comma.

A form is a spreadsheet's number format in the marks of the data: `$#,##0.00`, `#.##0,00 €`, `0.0%`,
`0.## kg`; a 0 is a digit that always stands there, a # one that may. Behind `;` stands how negative numbers
are written where that is not a minus in front: `$#,##0.00;($#,##0.00)`. Per cent are the number before it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.written.sample import sample

BLANKS = " \u00a0\u202f"
MARKS = ",.'’_" + BLANKS
FORM = re.compile(
    rf"(?P<before>[^\d#;]*?)(?:#(?P<mark>[{MARKS}])##)?0(?:(?P<point>[.,])(?P<fixed>0*)(?P<more>#*))?"
    r"(?P<after>[^\d#;,.'][^\d#;]*)?(?:;(?P<negative>[^;]+))?"
)
CODES = (
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KES|KRW|MAD|MXN|MYR"
    r"|NGN|NOK|NZD|PEN|PHP|PKR|PLN|RON|RSD|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR|Rs\.?|kr\.?|Fr\.?|zł"
)
# what a number may begin with: letters before digits are mostly the name of something (INV1001)
SIGNS = "$€£¥₹₽₩₺₴₫₪₦₱฿₡₲₵₸"
CURRENCY = rf"(?:[A-Z]{{0,3}}[{re.escape(SIGNS)}]|(?:{CODES})(?=[{BLANKS}\d+−-]))"
SHAPE = re.compile(
    rf"\(?[+−-]?(?P<before>(?:{CURRENCY}[{BLANKS}]?)?)[+−-]?(?P<number>[\d.,][\d{MARKS}]*?)"
    rf"(?P<after>(?:[{BLANKS}]?[^\W\d_%‰°][^\d()#;,]{{0,15}}|[{BLANKS}]?[%‰°{re.escape(SIGNS)}][^\d()#;,]{{0,8}})?)-?\)?"
)
STYLES = [("", "."), ("", ","), (",", "."), (".", ","), ("'", "."), ("’", ".")] + [
    (blank, point) for blank in BLANKS for point in ",."
]
DIGITS = 10
NEGATIVE = {"open": "({0}{1}{2})", "two": "{0}-{1}{2}", "tail": "{0}{1}{2}-"}  # other than a minus in front


@dataclass(frozen=True)
class Form:
    before: str
    mark: str
    point: str
    fixed: int
    most: int
    after: str
    negative: str

    def number(self, value: float) -> str:
        """Without sign."""
        text = f"{value:,.{self.most}f}" if self.mark else f"{value:.{self.most}f}"
        whole, _, rest = text.partition(".")
        while len(rest) > self.fixed and rest.endswith("0"):
            rest = rest[:-1]
        return whole.replace(",", self.mark) + (self.point + rest if rest else "")

    def text(self, value: float) -> str:
        number = self.number(abs(value))
        below = value < 0 and re.search("[1-9]", number) is not None
        pattern = self.negative if below else f"{self.before}\0{self.after}"
        return pattern.replace("\0", number)


@cache
def parse(form: str) -> Form:
    found = FORM.fullmatch(form)
    assert found is not None, form
    before, after = found["before"], found["after"] or ""
    core = form[len(before) : len(form.partition(";")[0]) - len(after)]
    negative = (found["negative"] or f"-{before}{core}{after}").replace(core, "\0", 1)
    fixed, more = found["fixed"] or "", found["more"] or ""
    return Form(
        before, found["mark"] or "", found["point"] or "", len(fixed), len(fixed + more), after, negative
    )


def takes(form: str) -> bool:
    return len(form) <= 80 and FORM.fullmatch(form) is not None and "%H" not in form


@cache
def _pattern(before: str, mark: str, point: str, after: str) -> str:
    whole = rf"(?:0|[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+|[1-9]\d*)" if mark else r"(?:0|[1-9]\d*)"
    rest = rf"(?P<rest>(?:{re.escape(point)}\d+)?)" if point else "(?P<rest>)"
    return (
        rf"^(?P<open>\(?)(?P<one>[+−-]?){re.escape(before)}(?P<two>[+−-]?)(?P<whole>{whole}){rest}"
        rf"{re.escape(after)}(?P<tail>-?)\)?$"
    )


def _parts(texts: pa.Array, before: str, mark: str, point: str, after: str) -> pa.StructArray:
    return pc.extract_regex(pc.utf8_trim_whitespace(texts), _pattern(before, mark, point, after))


def read(texts: pa.Array, form: str) -> pa.Array:
    known = parse(form)
    parts = _parts(texts, known.before, known.mark, known.point or ".", known.after)
    whole, rest = pc.struct_field(parts, "whole"), pc.struct_field(parts, "rest")
    if known.mark:
        whole = pc.replace_substring(whole, known.mark, "")
    if known.point == ",":
        rest = pc.replace_substring(rest, ",", ".")
    out = pc.binary_join_element_wise(whole, rest, "").cast(pa.float64())
    signs = [pc.struct_field(parts, name) for name in ("open", "one", "two", "tail")]
    below = pc.is_in(pc.binary_join_element_wise(*signs, ""), pa.array(["(", "-", "−"]))
    return pc.if_else(below, pc.negate(out), out)


def write(values: pa.Array, form: str) -> pa.Array:
    known = parse(form)
    texts = [None if v is None else known.text(v) for v in values.to_pylist()]
    return pa.array(texts, pa.string())


def find(texts: pa.Array) -> Counter[str]:
    """Keys for `settle`: a form of each number of decimals with its marks, `0.00|.`, and signs, `|open`."""
    some = sample(texts)
    shapes = [found for found in map(SHAPE.fullmatch, some) if found]
    if len(shapes) * 2 <= len(some):
        return Counter()
    (before, after), _ = Counter((s["before"], s["after"]) for s in shapes).most_common(1)[0]
    seen = {m for m in MARKS if pc.any(pc.match_substring_regex(texts, rf"\d{re.escape(m)}\d")).as_py()}
    found = Counter[str]({f"|{mark}": 1 for mark in seen})
    same: dict[tuple[str, str], pa.StructArray] = {}  # a style reads as a plainer one what has not its marks
    for mark, point in STYLES:
        style = mark if mark in seen else "", point if point in seen else "."
        if style not in same:
            same[style] = _parts(texts, before, *style, after).drop_null()
        parts = same[style]
        if not len(parts) or (style[0] not in ("", ",") and not before + after and _alike(parts)):
            continue
        core = f"#{mark}##0" if mark else "0"
        for row in pc.value_counts(pc.utf8_length(pc.struct_field(parts, "rest"))).to_pylist():
            shown = min(DIGITS, max(0, row["values"] - 1))
            rest = point + "0" * shown if shown else ""
            found[f"{before}{core}{rest}{after}|{mark}{point}"] += row["counts"]
        for sign in NEGATIVE:
            found[f"|{sign}"] += pc.sum(pc.not_equal(pc.struct_field(parts, sign), "")).as_py()
    return +found


def _alike(parts: pa.StructArray) -> bool:
    """Whole ones of one length, as telephone numbers and codes in groups are."""
    if pc.any(pc.not_equal(pc.struct_field(parts, "rest"), "")).as_py():
        return False
    return pc.count_distinct(pc.utf8_length(pc.struct_field(parts, "whole"))).as_py() < 2


def settle(found: Counter[str]) -> list[tuple[str, int]]:
    """(form, how many texts it takes), the likeliest first."""
    styles: dict[tuple[str, str, str, str], Counter[int]] = {}
    for key, times in found.items():
        form, bar, marks = key.rpartition("|")
        if bar and form and all(found[f"|{m}"] for m in (marks[:-1], marks[-1:].strip(".")) if m):
            one = parse(form)
            styles.setdefault((one.before, marks[:-1], marks[-1], one.after), Counter())[one.fixed] += times
    sign = max(NEGATIVE, key=lambda name: found[f"|{name}"])
    negative = NEGATIVE[sign] if found[f"|{sign}"] else ""
    out = []
    for (before, mark, point, after), decimals in styles.items():
        fewest, most = min(decimals), max(decimals)
        core = f"#{mark}##0" if mark else "0"
        core += point + "0" * fewest + "#" * (most - fewest) if most else ""
        # three decimals in all: these are thousands where a comma or a currency stands
        money = point == "," or re.search(CURRENCY, before + after + "0") is not None
        thousands = not mark and decimals.keys() <= {0, 3} and most == 3 and money
        form = before + core + after + (";" + negative.format(before, core, after) if negative else "")
        out.append((-decimals.total(), thousands, len(mark), form))
    return [(form, -total) for total, _, _, form in sorted(out)]
