"""Columns that name people: found by what their values look like, or by what the column is called.

By value (nine tenths of those looked at): e-mail, URL, IPv4 and IPv6, telephone, US social security number,
IBAN (ISO 13616 checksum) and payment card (Luhn, ISO/IEC 7812-1). By name: persons, street addresses and
telephones. It looks at the first values of every batch: free text that mentions an address now and then is
not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

FIRST, LOOKED_AT = 8, 64  # different values of a batch: the first, and as many where one of those is a hit
LONGEST = 2048  # characters that are looked at
MOST_OF, FEWEST = 0.9, 5  # of so many values at least
WORDS = {
    "email": "e-mail addresses",
    "url": "web addresses",
    "ipv4": "IPv4 addresses",
    "ipv6": "IPv6 addresses",
    "ssn": "US social security numbers",
    "iban": "bank accounts (IBAN, checksums right)",
    "card": "payment cards (check digits right)",
    "phone": "telephone numbers",
    "name": "names of persons",
    "address": "street addresses",
}
PERSON = re.compile(
    r"((first|last|full|given|family|middle|maiden|customer|patient|client|contact|employee|person)[ ]?name"
    r"|surname|forename)$"
)
STREET = re.compile(r"(?<!email )(?<!mail )(?<!ip )(?<!mac )(?<!web )\b(address|street)( line)?( ?\d)?$")
TELEPHONE = re.compile(r"\b(phone|telephone|mobile|cell|fax)( ?(number|no))?$")


def _ip(version: int) -> Callable[[str], bool]:
    mark, times = {4: (".", 3), 6: (":", 2)}[version]  # most texts are told apart by what every address has

    def check(text: str) -> bool:
        if text.count(mark) < times:
            return False
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False

    return check


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def is_iban(text: str) -> bool:
    bare = text.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", bare, re.ASCII):
        return False
    return int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1


def is_card(text: str) -> bool:
    if not re.fullmatch(r"\d{4}([ -]?\d){9,15}", text, re.ASCII):
        return False
    digits = [int(c) for c in reversed(text) if c.isdigit()]
    return (sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0


CHECKS: dict[str, Callable[[str], bool]] = {
    "email": _matches(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}"),
    "url": _matches(r"((https?|ftp)://|www\.)\S+"),
    "ipv4": _ip(4),
    "ipv6": _ip(6),
    "ssn": _matches(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}"),
    "iban": is_iban,
    "card": is_card,
    "phone": _matches(r"\+\d[\d ().-]{6,18}|\(\d{2,5}\)[ .-]?\d{3,4}[ .-]?\d{3,4}|\d{3}[ .-]\d{3}[ .-]\d{4}"),
    "digits": _matches(r"[+(]?\d([ ().-]*\d){6,14}"),
    "people": _matches(r"[^\W\d_][\w'’.-]*( [^\W\d_][\w'’.-]*){1,3}"),
    "letters": lambda text: any(map(str.isalpha, text)),
    "words": _matches(r"(?=.*[^\W\d_]).*[\s\d].*"),  # a house has a number, or a name of two words
}


def look(values: pa.Array) -> Counter[str]:
    """How many of the first different values pass each check; "" counts those looked at."""
    if not (pa.types.is_string(values.type) or pa.types.is_integer(values.type)):
        return Counter()
    texts = pc.unique(values.slice(0, 4 * LOOKED_AT)).drop_null().slice(0, LOOKED_AT)
    found: Counter[str] = Counter()
    for nth, text in enumerate(texts.cast(pa.string()).to_pylist()):
        text = text[:LONGEST]
        if nth == FIRST and not found.keys() & WORDS.keys():
            break
        found[""] += 1
        found.update(kind for kind, check in CHECKS.items() if check(text.strip()))
    return found


def find(name: str, looked: Counter[str]) -> tuple[str, str] | None:
    """(kind, why), where most values look like it or the name and the values go together."""
    total = looked[""]
    often = {k for k in CHECKS if total and looked[k] >= MOST_OF * total}
    for kind in WORDS:
        if kind in often and total >= FEWEST:
            return kind, f"{looked[kind]} of the {total} values looked at are {WORDS[kind]}"
    called = re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()).strip()
    person = PERSON.search(called) or (called == "name" and "people" in often)
    if person and "letters" in often:
        return "name", f"the column's name says {WORDS['name']}"
    if STREET.search(called) and "words" in often:
        return "address", f"the column's name says {WORDS['address']}"
    if TELEPHONE.search(called) and "digits" in often:
        return "phone", f"the column's name says {WORDS['phone']}"
    return None
