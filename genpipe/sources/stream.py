"""The bytes of a text file as UTF-8, read once and in order; what Arrow would let pass stops here."""

from __future__ import annotations

import codecs
from typing import Annotated

import pyarrow as pa
from pydantic import AfterValidator

from genpipe.errors import DataError
from genpipe.sources.files import File, changed, open_stream
from genpipe.sources.limits import check_growth

SUSPECT, SUSPECT_RATIO = 8 * 2**20, 16  # from here on a compressed file is measured before it is read further
NO_TEXTS = ("idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape")
BOM = codecs.BOM_UTF8


class Checked:
    """Refuses NUL bytes, bytes that are not of the encoding, cut off and exploding compressed files.

    memory: decompressed bytes that need no justification.
    total: bytes read so far, before recoding. quotes: double quotes seen.
    """

    def __init__(self, file: File, *, memory: int, encoding: str = "utf-8") -> None:
        self.file, self.encoding, self.stream = file, encoding, open_stream(file)
        self.total = self.quotes = 0
        self.memory, self.measured = memory, False
        # UTF-8 is what everybody below reads and checks; only other encodings are decoded here
        self.decoder = None if is_utf8(encoding) else codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        """At most about `size` bytes of UTF-8 without a byte order mark; empty at the end."""
        while True:
            raw = self._raw(size)
            data = raw if self.decoder is None else self._recoded(raw)
            if data or not raw:
                break
        if b"\0" in data:
            raise self._nul(data)
        self.quotes += data.count(b'"')
        return data

    def _raw(self, size: int) -> bytes:
        data = _some(self.file, self.stream, size)
        first = self.total == 0
        self.total += len(data)
        if self.total > self.file.size and not self.file.compressed:
            raise changed(self.file, self.total)
        if self.total > max(SUSPECT, SUSPECT_RATIO * self.file.size) and not self.measured:
            self.measured = True
            self._measure()
        return data.removeprefix(BOM) if first and self.decoder is None and data != BOM else data

    def _measure(self) -> None:
        """Decompress to the end and keep nothing: that is a hundred times faster than parsing a bomb."""
        stream, grown = open_stream(self.file), 0
        with stream:
            while chunk := _some(self.file, stream, 2**20):
                grown += len(chunk)
                check_growth(self.file.uri, self.file.size, grown, self.memory // 2)

    def _recoded(self, raw: bytes) -> bytes:
        assert self.decoder is not None
        try:
            return self.decoder.decode(raw, final=not raw).removeprefix("\ufeff").encode()
        except UnicodeDecodeError as error:
            offset = self.total - len(error.object) + error.start
            raise wrong_byte(self.file, offset, error.object[error.start], self.encoding) from None
        except UnicodeError as error:  # utf-16 without its mark, and codecs that tell no offset
            raise DataError("ENCODING", where=self.file.uri, found=f"not {self.encoding}: {error}") from None

    def _nul(self, data: bytes) -> DataError:
        if self.total <= len(data) and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return DataError(
                "ENCODING",
                where=self.file.uri,
                found="UTF-16 text",
                expected="UTF-8",
                fix="pass encoding='utf-16'",
            )
        return DataError(
            "NUL",
            where=self.file.uri,
            found=f"a NUL byte at offset {self.total - len(data) + data.index(0)}",
            expected="text",
            fix="is it a binary file, or cut off by a crash?",
        )


def _some(file: File, stream: pa.NativeFile, size: int) -> bytes:
    try:
        return stream.read(size)
    except OSError as error:
        raise damaged(file, error) from error


def is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")


def text_encoding(name: str) -> str:
    """`name`, if it says how bytes are text; ValueError for others (rot13, base64, punycode)."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    known = found is not None and getattr(found, "_is_text_encoding", True) and found.incrementaldecoder
    if not known or name.lower().replace("-", "_") in NO_TEXTS:
        raise ValueError("the name of a text encoding, such as utf-8, latin-1, cp1252, utf-16")
    return name


Encoding = Annotated[str, AfterValidator(text_encoding)]


def damaged(file: File, error: OSError) -> DataError:
    return DataError(
        "TRUNCATED",
        where=file.uri,
        found=f"damaged or cut off compressed file ({str(error).splitlines()[0]})",
        fix="fetch it again",
    )


def wrong_byte(file: File, offset: int, byte: int, encoding: str) -> DataError:
    return DataError(
        "ENCODING",
        where=file.uri,
        found=f"byte 0x{byte:02x} at offset {offset} is not {encoding}",
        expected=f"{encoding} text",
        fix="pass encoding='latin-1', 'cp1252' or whatever wrote the file",
    )
