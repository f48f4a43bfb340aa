"""The pattern of made-up identifiers that look like those of the data: `CUST-[0-9]{13}` beside CUST-00412.

Kept is what nearly all have: what stands between the parts, words such as CUST, and which kinds of characters
stand where. A part that counts is lengthened until there are ENOUGH strings, so that a made-up identifier is
as good as never one of the data, and there are always more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

FEWEST, LONGEST = 20, 64  # different identifiers that a form is found from; characters of one
ALIKE = 0.95  # of them have the form
ENOUGH, LEAST = 10**15, 10**12  # strings as long as those of the data; of longer ones, which none of those is
WORDS, HOLDERS = 10, 5  # a part of at most so many different words, each in so many identifiers, keeps them
RUNS = re.compile(r"(?P<digit>[0-9]+)|(?P<upper>[A-Z]+)|(?P<lower>[a-z]+)|(?P<mark>[^0-9A-Za-z]+)")
MIXED = re.compile(r"(?P<mixed>[0-9A-Za-z]+)|(?P<mark>[^0-9A-Za-z]+)")
Form = tuple[tuple[str, str], ...]  # (kind of each part, the text of a mark)


def code_pattern(identifiers: Iterable[str]) -> str | None:
    """A regular expression (pattern.py) of texts like these; None where they have no form or do not count."""
    texts = sorted({text for text in identifiers if text})
    codes = [text for text in texts if len(text) <= LONGEST and text.isascii()]
    for parts in (RUNS, MIXED):
        rows: dict[Form, list[list[str]]] = {}
        for text in codes:
            found = list(parts.finditer(text))
            form = tuple((str(m.lastgroup), m[0] if m.lastgroup == "mark" else "") for m in found)
            rows.setdefault(form, []).append([m[0] for m in found])
        form, alike = max(rows.items(), key=lambda item: (len(item[1]), item[0]), default=((), []))
        if FEWEST <= len(alike) >= ALIKE * len(texts) and (
            made := _pattern(form, list(zip(*alike, strict=True)))
        ):
            return made
    return None


def _pattern(form: Form, columns: Sequence[tuple[str, ...]]) -> str | None:
    alphabets = [_alphabet(column) for column in columns]
    counting = [i for i, alphabet in enumerate(alphabets) if "0-9" in alphabet and form[i][0] != "mark"]
    last = max(counting, key=lambda i: (len(set(columns[i])), i), default=None)
    if last is None:
        return None
    out, size = list[str](), 1
    for i, ((kind, text), column, alphabet) in enumerate(zip(form, columns, alphabets, strict=True)):
        words = Counter(column)
        if kind == "mark":
            out.append(_escaped(text))
        elif i == last:
            out.append("")
        elif len(words) <= WORDS and min(words.values()) >= HOLDERS:
            out.append(min(words) if len(words) == 1 else f"({'|'.join(sorted(words))})")
            size *= len(words)
        else:
            short, long = min(map(len, column)), max(map(len, column))
            out.append(f"[{alphabet}]{{{short if short == long else f'{short},{long}'}}}")
            size *= _letters(alphabet) ** short
    out[last] = _counted(columns[last], alphabets[last], size)
    return "".join(out)


def _counted(column: Sequence[str], alphabet: str, others: int) -> str:
    """The part that tells most apart, longer than it is unless nobody would meet one of the data."""
    length, base = max(map(len, column)), _letters(alphabet)
    if min(map(len, column)) < length or others * base**length < ENOUGH:
        length += 1
        while others * base ** (length - 1) < LEAST:
            length += 1
    if alphabet == "0-9" and not any(text[0] == "0" and len(text) > 1 for text in column):
        return f"[1-9][0-9]{{{length - 1}}}"
    return f"[{alphabet}]{{{length}}}"


def _escaped(text: str) -> str:
    return re.sub(r"[.^$*+?{}\[\]\\|()]", r"\\\g<0>", text)


def _alphabet(column: Sequence[str]) -> str:
    """The characters of a part as a class: hexadecimal digits where there are no other letters."""
    seen = set("".join(column))
    out = "0-9" if any(c.isdigit() for c in seen) else ""
    for first, sixth, last in ("AFZ", "afz"):
        letters = {c for c in seen if first <= c <= last}
        if letters:
            out += (
                f"{first}-{sixth}" if out.startswith("0-9") and max(letters) <= sixth else f"{first}-{last}"
            )
    return out


def _letters(alphabet: str) -> int:
    return sum(ord(last) - ord(first) + 1 for first, last in re.findall("(.)-(.)", alphabet))
