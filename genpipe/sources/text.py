"""Text files -> records: runs of characters between blanks, lines, or whole documents, with the class from
the folder; or a column of tables, a record a row (text_table.py).

Of many files each is a document, and what is cut from it goes to one split: its runs are not independent. The
text of a few files is one long text whose runs are dealt to both.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from genpipe.errors import DataError
from genpipe.fields import AnyField, Category, Text
from genpipe.keys import row_keys
from genpipe.schema import Schema
from genpipe.sources.base import Observed, Options, Reject, Rows, Source, attempt, unset
from genpipe.sources.files import File
from genpipe.sources.labelled import Labelled
from genpipe.sources.stream import Checked, Encoding, wrong_byte
from genpipe.sources.tabular.source import SUFFIXES as TABLES
from genpipe.sources.text_table import TextTable

TEXTS = SUFFIXES = (".txt", ".md", ".rst", ".text")
LABEL = "label"
BATCH = 4096
DOCUMENTS = 20  # files from which each is a document of its own
BLANKS = (" ", "\n", "\t")
SHORT = 32  # runs; what is left at the end of a document of fewer is a record, too
BINARY = (b"%PDF-", b"\x7fELF", b"\x1f\x8b", b"PK\x03\x04")


class TextOptions(Options):
    """record: chars = runs of at most `length` characters, cut after a blank if there is one in their second
    half, lines = non-empty lines, document = whole files. What is
    left at the end of a short file is a run, too; of a long one it is dropped. label: whether folders are
    classes; auto: where every file is in one of several. field: the column of tables (JSON Lines, CSV,
    Parquet) whose texts are the records; by default `text`, or the only column of texts.

    max_characters: longest line or document taken.
    """

    field: str | None = Field(default=None, exclude_if=unset)
    label: Literal["auto", "folder", "none"] | None = Field(default=None, exclude_if=unset)
    record: Literal["chars", "lines", "document"] = "chars"
    length: int = Field(default=128, ge=1, le=2**24)
    encoding: Encoding = "utf-8"
    max_characters: int = Field(default=2**20, ge=1)


@dataclass
class TextStats(Observed):
    characters: int = 0

    def merge(self, other: TextStats) -> TextStats:
        return TextStats(self.rejects + other.rejects, self.characters + other.characters)


class TextSource(Labelled):
    kind = "text"
    sheets = ()
    more = "a smaller length= makes more records; "
    options: TextOptions

    @classmethod
    def of(cls, files: tuple[File, ...], options: TextOptions) -> Source:
        """Tables have texts in a column."""
        if any(f.suffix in TEXTS for f in files) or not any(f.suffix in TABLES for f in files):
            return cls(files, options)
        return TextTable(
            files,
            options,
            field=options.field,
            encoding=options.encoding,
            longest=options.max_characters,
        )

    @property
    def identity(self) -> list[Any]:
        return [*super().identity, f"documents from {DOCUMENTS}, tails below {SHORT}, cut after blanks"]

    @cached_property
    def labelled(self) -> bool:
        """Whether folders are classes."""
        if self.options.label in ("folder", "none"):
            return self.options.label == "folder"
        found = Counter(self.folder_of(f) for f in self.files)
        return "" not in found and 1 < len(found) <= len(self.files) / 2

    def observe(self, unit: int) -> TextStats:
        total = TextStats()
        for file in self.units[unit]:
            seen = attempt(self._count, file, total.rejects)
            total.characters += seen or 0
        return total

    def _count(self, file: File) -> int:
        total, blank = 0, True
        for piece in self.pieces(file):
            total += len(piece)
            blank = blank and not piece.strip()
        if blank:
            raise DataError("EMPTY", where=file.uri, found=f"{total} characters, all blank", expected="text")
        return total

    def schema(self, stats: TextStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        if self.options.record == "chars" and stats.characters < self.options.length:
            raise DataError(
                "FEWROWS",
                found=f"{stats.characters} characters in all",
                expected=f"more than one record of length={self.options.length}",
                fix="add text or lower length=",
            )
        shape = {
            "chars": f"runs of at most {self.options.length} characters, between blanks",
            "lines": "one line a record",
            "document": "one file a record",
        }
        runs = self.options.record == "chars"
        fields: tuple[AnyField, ...] = (Text(name="text", runs=runs, reason=shape[self.options.record]),)
        if self.labelled:
            fields += (Category(name=LABEL, reason="the folder"),)
            target = target or LABEL
        return Schema(kind="text", fields=fields, target=target, key=key)

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        held, keys, of = list[str](), list[int](), list[File]()
        documents = len(self.files) >= DOCUMENTS and self.options.record != "document"
        for file in self.units[unit]:
            key = 0
            for nth, record in enumerate(self.records(file) if file.uri not in skip else ()):
                # wherever it lies and whatever it is called: a document that is there twice is in one split
                key = key if nth else _key(file, record)
                held.append(record)
                keys.append(key)
                of.append(file)
                if len(held) == BATCH or self.options.record == "document":
                    yield self._rows(held, of, schema, keys if documents else None)
                    held, keys, of = [], [], []
        if held:
            yield self._rows(held, of, schema, keys if documents else None)

    def _rows(self, records: list[str], of: list[File], schema: Schema, keys: list[int] | None) -> Rows:
        made = {schema.of_kind("text")[0].name: pa.array(records, pa.string())}
        for told in schema.of_kind("category"):
            made[told.name] = pa.array([self.folder_of(f) for f in of], pa.string())
        batch = pa.RecordBatch.from_arrays([made[n] for n in schema.names], schema=schema.arrow())
        return Rows(batch, None if keys is None else np.array(keys, np.uint64), self.held(of))

    def records(self, file: File) -> Iterator[str]:
        rest, length, runs = "", self.options.length, 0
        for piece in self.pieces(file):
            rest += piece
            if self.options.record == "chars":
                begin = 0
                while len(rest) - begin > length:
                    end = cut(rest, begin, begin + length)
                    yield rest[begin:end]
                    begin, runs = end, runs + 1
                rest = rest[begin:]
            elif self.options.record == "lines":
                *lines, rest = rest.split("\n")
                yield from (line for line in lines if line.strip())
            if len(rest) > self.options.max_characters:
                raise DataError(
                    "LINESIZE",
                    where=file.uri,
                    found=f"a record of more than {self.options.max_characters} characters",
                    fix="use record='chars', or raise max_characters=",
                )
        if rest.strip() and (self.options.record != "chars" or runs < SHORT):
            yield rest

    def pieces(self, file: File) -> Iterator[str]:
        """Decoded text with \\n line ends and without a byte order mark."""
        checked, decoder = (
            Checked(file, encoding=self.options.encoding, memory=self.options.memory),
            codecs.getincrementaldecoder("utf-8")(),
        )
        start, ended = True, ""
        while True:
            chunk = checked.read(self.options.block)
            if start and chunk.startswith(BINARY):
                raise DataError(
                    "MAGIC",
                    where=file.uri,
                    found="a binary file with a text name",
                    expected="plain text",
                    fix="extract its text first",
                )
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                offset = checked.total - len(error.object) + error.start
                raise wrong_byte(file, offset, error.object[error.start], self.options.encoding) from None
            text, start = ended + text, start and not text
            ended = "\r" if text.endswith("\r") and chunk else ""  # its \n may come with the next chunk
            yield text[: len(text) - len(ended)].replace("\r\n", "\n").replace("\r", "\n")
            if not chunk:
                return


def cut(text: str, begin: int, end: int) -> int:
    """Where a run that may go from `begin` to `end` ends: after the last blank in its second half, if any."""
    middle = (begin + end) // 2
    blank = max(text.rfind(mark, middle, end) for mark in BLANKS)
    return end if blank < 0 else blank + 1


def _key(file: File, record: str) -> int:
    batch = pa.RecordBatch.from_arrays([pa.array([f"{file.size} {record}"], pa.string())], names=["text"])
    return int(row_keys(batch)[0])
