"""Every error genpipe raises on purpose, and the exit code the command line gives it.

    GenpipeError                 1   (never raised itself)
     ├─ UsageError               2   a wrong argument, spec key or combination
     │   └─ SpecError            2   every problem of one spec file, with line numbers
     ├─ DataError                3   the input, or a stored object, is not what it should be
     ├─ InfrastructureError      4   a store, server or cluster still fails after retries
     ├─ PrivacyError             5   the privacy gate refused
     ├─ ConflictError            6   somebody else owns that name
     └─ QualityError             7   the model diverged, collapsed or is not good enough

One line each: where (file:row:column or key), what was found, what is allowed, how to fix it. Their text
holds no secret and no control character, and says the length of what is too long to show.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from genpipe.redaction import holds_secret, shown

LONGEST_PLACE, LONGEST_PART, MOST_LINES = 240, 600, 100


class GenpipeError(Exception):
    """Base class. `code` is a short stable word such as ``RAGGED``, printed as ``[E-RAGGED]``.

    lines: several findings of one error, printed below it one a line.
    """

    exit_code = 1

    def __init__(
        self,
        code: str,
        *,
        where: str = "",
        found: str,
        expected: str = "",
        fix: str = "",
        lines: Sequence[str] = (),
    ) -> None:
        self.code, self.where = code, shown(where, LONGEST_PLACE)
        self.found, self.expected, self.fix = (shown(part, LONGEST_PART) for part in (found, expected, fix))
        more = len(lines) - MOST_LINES
        kept = [*lines[: MOST_LINES - 1], f"... and {more + 1:,} more"] if more > 0 else lines
        self.lines = tuple(shown(line, LONGEST_PART) for line in kept)
        text = self.found if not self.where else f"{self.where}: {self.found}"
        text += f"; expected {self.expected}" if self.expected else ""
        text += f"; {self.fix}" if self.fix else ""
        super().__init__("\n  ".join([text, *self.lines]))

    def __reduce__(self) -> tuple:
        # keyword-only constructors do not survive pickling on their own, and errors cross Ray processes
        return rebuild, (type(self), self.code, self.where, self.found, self.expected, self.fix, self.lines)


def rebuild(
    kind: type[GenpipeError],
    code: str,
    where: str,
    found: str,
    expected: str,
    fix: str,
    lines: Sequence[str] = (),
) -> GenpipeError:
    """An error from its parts, in another process than the one that raised it."""
    return kind(code, where=where, found=found, expected=expected, fix=fix, lines=lines)


class UsageError(GenpipeError):
    exit_code = 2


class SpecError(UsageError):
    """All problems of one spec file at once; `problems` holds one line each."""

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        many = "problem" if len(problems) == 1 else "problems"
        super().__init__("SPEC", where=path, found=f"{len(problems)} {many}", lines=problems)
        self.path, self.problems = path, self.lines

    def __reduce__(self) -> tuple:
        return SpecError, (self.path, self.problems)


class DataError(GenpipeError):
    exit_code = 3


class InfrastructureError(GenpipeError):
    exit_code = 4


class PrivacyError(GenpipeError):
    exit_code = 5


class ConflictError(GenpipeError):
    exit_code = 6


class QualityError(GenpipeError):
    exit_code = 7


def few(names: Iterable[str], most: int = 100) -> str:
    """`a, b, c`; of very many names the first ones, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def closest(word: str, allowed: Iterable[str]) -> str:
    """``did you mean 'hinge'?`` or an empty string: the hint every 'unknown name' error ends with."""
    # nobody mistypes a word so long, and comparing takes the product of the lengths
    if len(word) > 200:
        return ""
    # a name in another case is nearer than any other name; of two that differ in case, the first
    names = {name.casefold(): name for name in reversed(list(allowed))}
    match = difflib.get_close_matches(word.casefold(), list(names), n=1, cutoff=0.5)
    return f"did you mean {names[match[0]]!r}?" if match else ""


def unknown(what: str, word: str, allowed: Iterable[str], *, where: str = "") -> UsageError:
    """The error for a name no registry knows, listing the names it does know."""
    names = sorted(allowed)
    return UsageError(
        "UNKNOWN",
        where=where,
        found=f"unknown {what} {word[:200]!r}",
        expected="one of " + few(names),
        fix=closest(word, names),
    )


def rule_of(message: str) -> str:
    """What pydantic says a value should be, in our words: `a whole number`, `a list`."""
    rule = message.removeprefix("Value error, ").removeprefix("Input should be ")
    rule = re.sub(r", unable to .*|, got a number with a fractional part| or (an )?instance of \w+", "", rule)
    words = {"dictionary": "mapping", "integer": "whole number", "string": "text", "tuple": "list"}
    for theirs, ours in words.items():
        rule = rule.replace(f"a valid {theirs}", f"a {ours}")
    return rule.replace("a valid ", "a ")


def refuse_keys(uri: str, *, where: str = "") -> None:
    """Raise where a URI brings keys or a password of its own: what takes it would keep and show them."""
    if holds_secret(uri):
        raise keys_in_uri(where or uri)


def keys_in_uri(where: str) -> UsageError:
    return UsageError(
        "KEYS",
        where=where,
        found="a key or password in the URI",
        expected="a URI without them",
        fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another AWS_* variable, instead; for "
        "PostgreSQL PGPASSWORD, or a line of ~/.pgpass",
    )
