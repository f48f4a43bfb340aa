"""The strings of a regular expression, each exactly once, by number: what made-up identifiers are taken from.

The expression becomes an automaton of character positions (Glushkov, "The abstract theory of automata", 1961)
and by subset construction a deterministic one, in which every string is one path: counting paths numbers the
strings without repeats, however ambiguous the expression ("a|a" has one string). Packages that enumerate
matches (sre_yield, exrex) count such a string twice, so numbers would not mean unique values.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache
from re import _parser as parser  # type: ignore[attr-defined]  # in no stub; there in Python 3.11 to 3.13
from typing import Any

PRINTABLE = frozenset(map(chr, range(32, 127)))  # what "." and negated classes stand for
CLASSES = {
    "CATEGORY_DIGIT": frozenset(string.digits),
    "CATEGORY_WORD": frozenset(string.ascii_letters + string.digits + "_"),
    "CATEGORY_SPACE": frozenset(" "),
}
CLASSES |= {name.replace("Y_", "Y_NOT_"): PRINTABLE - chars for name, chars in CLASSES.items()}
MOST_STATES, MOST_STEPS, MOST_CHARACTERS = 5_000, 1_000_000, 10_000
MOST_PATTERNS = 64  # of one schema; so many are kept at a time
Edges = list[tuple[str, int]]  # (characters, next state)


class Language:
    """`size` strings, all of them different; `language[i]` is the i-th, 0 <= i < size.

    Raises ValueError where the expression is none, has no end (`*`, `+`) or uses what only a matcher can
    (look-around, back-references, flags). ASCII alone: "." is any printable character.
    All work is counted, that on groups without a character too, and ends at MOST_STEPS: about a second.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern, self._steps = pattern, 0
        self._next = list[list[tuple[frozenset[str], int]]]([[]])
        if len(pattern) > MOST_CHARACTERS:
            raise ValueError(f"a pattern of {len(pattern)} characters; at most {MOST_CHARACTERS} are allowed")
        try:
            bare = pattern.removeprefix("^")
            parsed = parser.parse(bare if bare.endswith(r"\$") else bare.removesuffix("$"))
        except (re.error, OverflowError) as error:
            raise ValueError(f"{_short(pattern)} is no regular expression: {error}") from None
        except RecursionError:
            raise self._too_long() from None
        self._num_edges = 0
        self._determine(self._walk(parsed, frozenset([0])))
        self.size = self._counts[0]
        if self.size == 0:
            raise ValueError(f"pattern {_short(pattern)} matches nothing")

    def _step(self, number: int) -> None:
        self._steps += number
        if self._steps > MOST_STEPS:
            raise self._too_long()

    def _too_long(self) -> ValueError:
        return ValueError(f"pattern {_short(self.pattern)} is too long or too ambiguous; make it simpler")

    def _walk(self, items: Any, at: frozenset[int]) -> frozenset[int]:
        """Add the items after the states `at`; returns the states in which they may end."""
        for operation, argument in items:
            name = str(operation)
            self._step(1 + len(at))
            if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
                at = self._character(self._characters(name, argument), at)
            elif name == "SUBPATTERN" and not argument[1] and not argument[2]:
                at = self._walk(argument[3], at)
            elif name == "BRANCH":
                at = frozenset[int]().union(*(self._walk(branch, at) for branch in argument[1]))
            elif name in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] <= MOST_STATES:
                least, most, inner = argument
                ends = at if least == 0 else frozenset[int]()
                for nth in range(1, most + 1):
                    self._step(1 + len(ends))
                    at = self._walk(inner, at)
                    ends |= at if nth >= least else ends
                at = ends
            else:
                endless = name in ("MAX_REPEAT", "MIN_REPEAT")
                fix = "say how often, such as {1,8}" if endless else "leave it out"
                what = "a repeat without end" if endless else name.lower().replace("_", " ")
                raise ValueError(f"pattern {_short(self.pattern)} has {what}; {fix}")
        return at

    def _character(self, chars: frozenset[str], at: frozenset[int]) -> frozenset[int]:
        new = len(self._next)
        self._num_edges += len(at)
        if new > MOST_STATES or self._num_edges > 40 * MOST_STATES:
            raise self._too_long()
        self._next.append([])
        for state in at:
            self._next[state].append((chars, new))
        return frozenset([new])

    def _characters(self, name: str, argument: Any) -> frozenset[str]:
        """What one place of a string may hold."""
        if name == "ANY":
            return PRINTABLE
        if name in ("LITERAL", "NOT_LITERAL"):
            one = frozenset(self._span(argument, argument))
            return one if name == "LITERAL" else PRINTABLE - one
        chars: set[str] = set()
        for operation, value in argument:
            if str(operation) == "LITERAL":
                chars |= self._span(value, value)
            elif str(operation) == "RANGE":
                chars |= self._span(*value)
            elif str(operation) == "CATEGORY":
                chars |= CLASSES[str(value)]
        return PRINTABLE - chars if str(argument[0][0]) == "NEGATE" else frozenset(chars)

    def _span(self, first: int, last: int) -> set[str]:
        self._step(last - first + 1)
        if last >= 0xD800 and first <= 0xDFFF:
            found = f"U+{max(first, 0xD800):04X}, half a character"
            raise ValueError(f"pattern {_short(self.pattern)} has {found}; leave it out")
        return set(map(chr, range(first, last + 1)))

    def _determine(self, accepting: frozenset[int]) -> None:
        """Subsets of states, numbered as they are found; how many strings go on from each."""
        alike = self._alike()
        found = {frozenset([0]): 0}
        order = [frozenset([0])]
        self._edges: list[Edges] = []
        for subset in order:  # grows
            to: dict[str, set[int]] = {}
            for chars, new in (edge for state in subset for edge in self._next[state]):
                self._step(len(alike[chars]))
                for together in alike[chars]:
                    to.setdefault(together, set()).add(new)
            groups: dict[frozenset[int], list[str]] = {}
            for together, targets in to.items():
                self._step(len(together) + len(targets))
                groups.setdefault(frozenset(targets), []).extend(together)
            edges = sorted(("".join(sorted(chars)), target) for target, chars in groups.items())
            for _, target in edges:
                if target not in found:
                    found[target] = len(order)
                    order.append(target)
            if len(order) > MOST_STATES:
                raise self._too_long()
            self._edges.append([(chars, found[target]) for chars, target in edges])
        self._ends = [bool(subset & accepting) for subset in order]
        self._counts = [0] * len(order)
        # states are numbered along every path, so the least one of a subset grows along every edge
        for k in sorted(range(len(order)), key=lambda k: -min(order[k])):
            onward = sum(len(chars) * self._counts[to] for chars, to in self._edges[k])
            self._counts[k] = self._ends[k] + onward

    def _alike(self) -> dict[frozenset[str], list[str]]:
        """Each set of characters in parts that no edge tells apart: "." is one step, not 95."""
        sets = {chars for edges in self._next for chars, _ in edges}
        where: dict[str, list[int]] = {}
        for number, chars in enumerate(sets):
            self._step(len(chars))
            for char in chars:
                where.setdefault(char, []).append(number)
        parts: dict[tuple[int, ...], list[str]] = {}
        for char, holders in where.items():
            parts.setdefault(tuple(holders), []).append(char)
        out: list[list[str]] = [[] for _ in sets]
        for numbers, together in parts.items():
            for number in numbers:
                out[number].append("".join(together))
        return dict(zip(sets, out, strict=True))

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < self.size:
            raise IndexError(f"string {number} of {self.size}")
        state, out = 0, []
        while not (self._ends[state] and number == 0):
            number -= self._ends[state]
            for chars, to in self._edges[state]:
                block = len(chars) * self._counts[to]
                if number < block:
                    char, number = divmod(number, self._counts[to])
                    out.append(chars[char])
                    state = to
                    break
                number -= block
        return "".join(out)


def _short(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 80 else pattern[:77] + "...")


@lru_cache(maxsize=MOST_PATTERNS)
def language(pattern: str) -> Language:
    """The strings of a pattern; counted once a process."""
    return Language(pattern)
