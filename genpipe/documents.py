"""JSON that a stranger may have written: bounded and plain before anything is made of it."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic import ValidationError

from genpipe.errors import DataError

MAX_DOCUMENT = 64 * 2**20
MOST_ITEMS = 2**23  # of all lists and objects together: half a GB at worst
DEEPEST = 32  # lists and objects inside one another
LARGEST_WHOLE = 2**64
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
AGAIN = "make it again, or copy the whole folder"


def parse_json(data: bytes, *, where: str, most: int = MAX_DOCUMENT) -> Any:
    """JSON of limited size and depth in which no key occurs twice (parsers disagree on which one counts) and
    every number is finite.
    """

    def refuse(code: str, found: str, expected: str) -> DataError:
        return DataError(code, where=where, found=found, expected=expected, fix=AGAIN)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            raise DataError("JSON", where=where, found="a key that occurs twice", fix=AGAIN)
        return result

    def real(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise refuse("NONFINITE", f"the number {text[:40]}", "finite numbers")
        return value

    def whole(text: str) -> int:
        if len(text) > 21 or abs(value := int(text)) > LARGEST_WHOLE:
            raise refuse("NONFINITE", f"the number {text[:40]}", "whole numbers of 64 bits")
        return value

    if len(data) > most:
        raise DataError("LIMIT", where=where, found=f"{len(data)} bytes", expected=f"at most {most}")
    items = data.count(b",") + data.count(b"[") + data.count(b"{")
    if items > MOST_ITEMS:
        raise refuse("LIMIT", f"some {items} items", f"at most {MOST_ITEMS}")
    try:
        told = json.loads(
            data.decode(), object_pairs_hook=pairs, parse_float=real, parse_int=whole, parse_constant=real
        )
        depth = depth_of(told)
        if SURROGATE.search(data):
            json.dumps(told, ensure_ascii=False).encode()  # half a character is no text
    except (ValueError, RecursionError) as error:
        raise DataError("JSON", where=where, found=first_line(error), expected="JSON") from error
    if depth > DEEPEST:
        raise refuse("LIMIT", f"{depth} lists and objects inside one another", f"at most {DEEPEST}")
    return told


def depth_of(value: Any) -> int:
    """Lists and objects inside one another, level by level: of very many there is no stack."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [v for held in level for v in (held.values() if isinstance(held, dict) else held)]
    return depth


def first_line(error: Exception) -> str:
    """What an error says, short enough for one line; of pydantic's where and what is wrong first."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:80] for part in first["loc"])
        text = f"{where}: {first['msg']}" if where else first["msg"]
    else:
        lines = str(error).splitlines()
        text = lines[0] if lines and lines[0].strip() else type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."
