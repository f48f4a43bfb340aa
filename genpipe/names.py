"""The one rule for names of datasets, runs and models: they become folders, URLs and registry keys."""

from __future__ import annotations

import re
import unicodedata

from genpipe.errors import UsageError

RESERVED, LONGEST_NAME = ("latest", "con", "nul"), 63  # bytes, since file systems count these


def check_name(name: str, *, what: str = "name") -> str:
    """The name, or a UsageError that tells an allowed one."""
    if is_name(name):
        return name
    taken = " or ".join(RESERVED)
    raise UsageError(
        "NAME",
        where=what,
        found=repr(name[:80]),
        expected=f"small letters, digits and . _ -, beginning with a letter or digit, at most {LONGEST_NAME}"
        f" bytes, and not {taken}",
        fix=f"for example {plain_name(name)!r}",
    )


def is_name(text: str) -> bool:
    """Letters of any script are allowed, in the one spelling (NFC) that every file system gives back."""
    return (
        0 < len(text.encode(errors="replace")) <= LONGEST_NAME
        and all(_in_name(c) for c in text)
        and text[0] not in "._-"
        and not unicodedata.category(text[0]).startswith("M")
        and text == unicodedata.normalize("NFC", text.lower())
        and text not in RESERVED
    )


def _in_name(character: str) -> bool:
    """Letters, the marks that belong to them, decimal digits, and . _ -"""
    return character in "._-" or unicodedata.category(character) in ("Ll", "Lo", "Lm", "Mn", "Mc", "Nd")


def plain_name(text: str) -> str:
    """The nearest allowed name: People 2024 -> people-2024, Größe -> größe, latest -> data-latest."""
    spelt = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    plain = re.sub("-{2,}", "-", "".join(c if _in_name(c) else "-" for c in spelt)).strip("-._")
    while plain and unicodedata.category(plain[0]).startswith("M"):
        plain = plain[1:]
    plain = plain.encode(errors="ignore")[:LONGEST_NAME].decode(errors="ignore").rstrip("-._")
    return f"data-{plain}".rstrip("-") if plain in ("", *RESERVED) else plain


def earlier_name(text: str) -> str:
    """The name that versions before letters of any script were kept gave: Größe -> gr-e."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63]
