"""The bytes of a text file as UTF-8, read once and in order; what Arrow would let pass stops here."""

from __future__ import annotations

import codecs

from genpipe.errors import DataError
from genpipe.sources.files import File, open_stream

MAX_RATIO, MIN_SUSPECT = 400, 256 * 2**20
BOM = codecs.BOM_UTF8


class Checked:
    """Refuses NUL bytes, bytes that are not of the encoding, cut off and exploding compressed files.

    total: bytes read so far, before recoding. quotes: double quotes seen.
    """

    def __init__(self, file: File, *, encoding: str = "utf-8") -> None:
        self.file, self.encoding, self.stream = file, encoding, open_stream(file)
        self.total = self.quotes = 0
        # UTF-8 is what everybody below reads and checks; only other encodings are decoded here
        self.decoder = None if is_utf8(encoding) else decoder_of(file, encoding)

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
        try:
            data = self.stream.read(size)
        except OSError as error:
            raise damaged(self.file, error) from error
        first = self.total == 0
        self.total += len(data)
        if self.total > max(MIN_SUSPECT, MAX_RATIO * self.file.size):
            raise DataError(
                "EXPAND",
                where=self.file.uri,
                found=f"{self.file.size} bytes grow to more than {self.total}",
                expected=f"at most {MAX_RATIO} times the compressed size",
                fix="decompress it yourself if you trust it",
            )
        return data.removeprefix(BOM) if first and self.decoder is None and data != BOM else data

    def _recoded(self, raw: bytes) -> bytes:
        assert self.decoder is not None
        try:
            return self.decoder.decode(raw, final=not raw).removeprefix("\ufeff").encode()
        except UnicodeDecodeError as error:
            offset = self.total - len(error.object) + error.start
            raise wrong_byte(self.file, offset, error.object[error.start], self.encoding) from None

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


def is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")


def decoder_of(file: File, encoding: str) -> codecs.IncrementalDecoder:
    try:
        return codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError(
            "ENCODING",
            where=file.uri,
            found=f"unknown encoding {encoding!r}",
            expected="a name such as utf-8, latin-1, cp1252, utf-16",
        ) from None


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
