"""One JSON array of objects, as `to_json(orient="records")` writes it, as the lines that jsonl.py reads."""

from __future__ import annotations

import json
import re

from genpipe.errors import DataError
from genpipe.sources.base import Options
from genpipe.sources.limits import beyond
from genpipe.sources.stream import Checked

BLANK = re.compile(r"[ \t\r\n]*")
BREAKS = str.maketrans("\r\n", "  ")  # between the parts of an object: texts hold none as they are


class Lines:
    """Reads as `Checked` does: JSON Lines as they are, an array's objects one a line, `row` their number."""

    def __init__(self, checked: Checked, options: Options) -> None:
        self.checked, self.options, self.decode = checked, options, json.JSONDecoder().raw_decode
        self.rest, self.row, self.done = "", 1, False
        self.begin = checked.read(options.block)
        self.array = self.begin.lstrip().startswith(b"[")
        self.bytes = b""  # of a character that is not whole yet

    @property
    def total(self) -> int:
        return self.checked.total

    def read(self, size: int) -> bytes:
        """Some bytes; none at the end."""
        begin, self.begin = self.begin, b""
        if not self.array:
            return begin or self.checked.read(size)
        while not self.done:
            more = begin or self.checked.read(size)
            begin = b""
            if lines := self._lines(self._text(more), last=not more):
                return "".join(lines).encode()
        return b""

    def _text(self, more: bytes) -> str:
        data = self.bytes + more
        try:
            text, self.bytes = data.decode(), b""
        except UnicodeDecodeError as error:
            if not more or len(data) - error.start > 3:
                byte = f"the byte 0x{data[error.start]:02x} in or behind it"
                raise DataError("ENCODING", where=self._where, found=byte, expected="UTF-8 text") from None
            text, self.bytes = data[: error.start].decode(), data[error.start :]
        return text

    @property
    def _where(self) -> str:
        return f"{self.checked.file.uri}:row {self.row}"

    def _lines(self, text: str, *, last: bool) -> list[str]:
        """The objects that are whole by now."""
        text, at, lines = self.rest + text, 0, list[str]()
        while True:
            start = BLANK.match(text, at).end()  # type: ignore[union-attr]
            if text[start : start + 1] in ("[", ",") and (text[start : start + 1] == ",") == (self.row > 1):
                start = BLANK.match(text, start + 1).end()  # type: ignore[union-attr]
            elif text[start : start + 1] != "]" and start < len(text):
                raise self._broken(text[start : start + 20])
            if text[start : start + 1] == "]":
                self.done = True
                return lines
            try:
                end = self.decode(text, start)[1]
                whole = end < len(text)
            except RecursionError:
                raise beyond(self._where, "objects nested too deep", "64", "flatten them") from None
            except ValueError:
                whole = False
            if not whole:
                break
            lines.append(text[start:end].translate(BREAKS) + "\n")
            at, self.row = end, self.row + 1
        self.rest = text[at:]
        if last:
            raise self._broken(self.rest[:20])
        if len(self.rest) > self.options.longest:
            found, fix = (
                f"an object of more than {self.options.longest} bytes",
                "raise memory=, or correct it",
            )
            raise beyond(self._where, found, str(self.options.longest), fix)
        return lines

    def _broken(self, found: str) -> DataError:
        fix = "write one object a line, or all in one array: pandas: to_json(orient='records', lines=True)"
        return DataError(
            "JSON", where=self._where, found=f"{found!r}, no whole object", expected="JSON objects", fix=fix
        )
