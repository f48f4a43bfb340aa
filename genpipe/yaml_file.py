"""YAML as strangers send it: one reader for every file of ours that is YAML (specs, recipes, schemas).

It builds values from the parser's events and stops at the first limit, so neither aliases (the stuff of YAML
bombs) nor depth nor length cost more than their bytes. Values are those of JSON: mappings with texts as keys,
lists, texts, numbers, true, false and null; a date stays the text that was written. Anchors, aliases, tags,
merge keys, directives, repeated keys and further documents are refused, each with its line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from genpipe.errors import MOST_LINES, SpecError

MOST_BYTES, MOST_VALUES, MOST_DEPTH = 1_000_000, 10_000, 20
MOST_PROBLEMS = MOST_LINES  # more than an error lists are not put in our words
Path_ = tuple[Any, ...]
Lines = dict[Path_, int]


def read_yaml(
    raw: bytes, where: str, *, most_bytes: int = MOST_BYTES, most_values: int = MOST_VALUES
) -> tuple[Any, Lines]:
    """The value of a YAML text, and the line of each of its parts by path.

    Raises SpecError with every problem found and its line. Time and memory grow with `raw` alone.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(raw) > most_bytes:
        raise SpecError(where, [f"more than {most_bytes} bytes; expected at most that many; split the file"])
    builder: _Builder | None = None
    try:
        builder = _Builder(raw.decode("utf-8-sig"), most_values)
        value = builder.document()
    except _Limit:
        value = None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise SpecError(where, [f"{line}not YAML: {error.problem or error.context}"]) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise SpecError(where, [f"not YAML: {str(error).splitlines()[0]}"]) from None
    if builder is None or builder.problems:
        raise SpecError(where, builder.problems if builder else [])
    return value, builder.lines


def line_of(path: Path_, lines: Lines) -> int:
    """The line of a part, or of the nearest part around it; 0 = unknown."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))


class _Limit(Exception):
    """Reading on would cost more than a file of this size is worth; `problems` says why."""


class _Builder:
    """Values out of events. lines: path -> line. problems: what is refused, in the order of the file."""

    def __init__(self, text: str, most_values: int) -> None:
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        self.events: Iterator[Any] = yaml.parse(text)
        self.resolve, self.construct = yaml.resolver.resolve, yaml.constructor.construct_object
        self.most_values, self.values = most_values, 0
        self.lines: Lines = {}
        self.problems: list[str] = []

    def document(self) -> Any:
        from ruamel.yaml import events as ev

        value, documents = None, 0
        for event in self.events:
            if isinstance(event, ev.DocumentStartEvent):
                documents += 1
                if event.version or event.tags:
                    self._refuse(event, (), "a directive", "a file without lines that begin with %")
                if documents > 1:
                    self._refuse(event, (), "a second document", "one document a file")
                    break
            elif isinstance(event, ev.NodeEvent):
                value = self._value(event, ())
        return value

    def _value(self, event: Any, path: Path_) -> Any:
        from ruamel.yaml import events as ev

        self.lines.setdefault(path, event.start_mark.line + 1)
        self.values += 1
        if self.values > self.most_values:
            self._stop(event, path, "a file too long", f"at most {self.most_values} values")
        if len(path) > MOST_DEPTH:
            self._stop(event, path, "very deep nesting", f"at most {MOST_DEPTH} levels")
        if isinstance(event, ev.AliasEvent):
            return self._refuse(event, path, "an alias", "plain values, written out")
        if event.anchor:
            self._refuse(event, path, "an anchor", "plain values, written out")
        if event.ctag is not None:
            self._refuse(event, path, f"tag {str(event.tag)[:60]}", "plain values without tags")
        if isinstance(event, ev.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, ev.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(self.events), ev.SequenceEndEvent):
                items.append(self._value(event, (*path, len(items))))
            return items
        return self._scalar(event, path)

    def _mapping(self, path: Path_) -> dict[str, Any]:
        from ruamel.yaml import events as ev

        out: dict[str, Any] = {}
        while not isinstance(event := next(self.events), ev.MappingEndEvent):
            if not isinstance(event, ev.ScalarEvent) or event.ctag is not None or event.anchor:
                self._refuse(event, path, "a key that is no plain text", "a text")
                self._value(event, (*path, "?"))
                self._value(next(self.events), (*path, "?"))
                continue
            name, line = event.value, event.start_mark.line + 1
            at = (*path, name)
            if name == "<<" and event.implicit[0]:
                self._refuse(event, at, "a merge key", "plain keys, written out")
            if name in out:
                self._refuse(event, at, "key given twice", "", f", first in line {self.lines[at]}")
            else:
                self.lines[at] = line
            value = self._value(next(self.events), at)
            out.setdefault(name, value)
        return out

    def _scalar(self, event: Any, path: Path_) -> Any:
        from ruamel.yaml.nodes import ScalarNode

        tag = self.resolve(ScalarNode, event.value, event.implicit)
        kind = str(tag).rpartition(":")[2]
        if kind not in ("null", "bool", "int", "float"):
            return event.value
        try:
            value = self.construct(ScalarNode(tag, event.value))
        except (ValueError, OverflowError):
            value = math.inf  # a number no computer counts with, such as one of 5,000 digits
        if kind == "int" and not -(2**64) < value < 2**64:
            return self._refuse(event, path, "a whole number of too many digits", "one of 64 bits")
        return value

    def _refuse(self, event: Any, path: Path_, found: str, expected: str, more: str = "") -> None:
        place = f"{_short(dotted(path))}: " if path else ""
        text = found + more + (f"; expected {expected}" if expected else "")
        self.problems.append(f"line {event.start_mark.line + 1}: {place}{text}")

    def _stop(self, event: Any, path: Path_, found: str, expected: str) -> None:
        self._refuse(event, path, found, expected)
        raise _Limit


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."
