"""Zip archives: tables of text in them are files like others, read as streams and never unpacked on disk."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from genpipe import store
from genpipe.errors import DataError
from genpipe.sources.limits import beyond

TEXTS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson")
MOST_MEMBERS = 1_000
UNPACK = "unpack it and name the folder"
_WRONG = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


def unzipped(file: Any) -> list[Any]:
    """The file, or what is in it."""
    return members(file) if file.uri.lower().endswith(".zip") else [file]


def members(file: Any) -> list[Any]:
    """The tables of text in an archive, as files whose place is `archive.zip/name`, in the order of names.

    Raises DataError where there are none, too many, or it is none.
    """
    with _opened(file.uri) as archive:
        listed = archive.infolist()
    if len(listed) > MOST_MEMBERS:
        raise beyond(file.uri, f"{len(listed)} files in one archive", str(MOST_MEMBERS), UNPACK)
    names = [i for i in listed if not i.is_dir() and _is_text(i.filename)]
    found = [
        replace(
            file,
            uri=f"{file.uri}/{each.filename}",
            size=max(1, each.compress_size),
            stamp=f"{file.stamp}:{each.CRC:08x}",
            root=file.uri,
            member=each.filename,
        )
        for each in names
    ]
    if not found:
        ends = ", ".join(sorted({os.path.splitext(i.filename)[1] for i in listed})[:5])
        told = f"no CSV or JSON in an archive of many files ({ends})"
        raise DataError("ARCHIVE", where=file.uri, found=told, fix=UNPACK)
    return sorted(found, key=lambda f: f.uri)


def _is_text(name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    return not hidden and name.isprintable() and os.path.splitext(name)[1].lower() in TEXTS


@contextmanager
def _opened(uri: str) -> Iterator[zipfile.ZipFile]:
    raw: Any = None
    try:
        if store.scheme_of(uri) != "file":
            raw = store.filesystem(uri).open(store.path_of(uri), "rb")
        with zipfile.ZipFile(raw or uri) as archive:
            yield archive
    except _WRONG as error:
        found = f"a damaged or cut off archive ({str(error)[:100]})"
        raise DataError("ARCHIVE", where=uri, found=found, fix="fetch it again") from None
    finally:
        if raw is not None:
            raw.close()


class Member(io.RawIOBase):
    """The bytes of one file of an archive; what is wrong with it is an OSError, as of other files."""

    def __init__(self, file: Any) -> None:
        place = file.uri.removesuffix(f"/{file.member}")
        self.raw = store.filesystem(place).open(store.path_of(place), "rb")
        try:
            self.archive = zipfile.ZipFile(self.raw)
            self.inner = self.archive.open(file.member)
        except (*_WRONG, KeyError) as error:
            self.raw.close()
            password = "encrypted" in str(error)
            found = "a file with a password" if password else f"a damaged archive ({str(error)[:100]})"
            raise DataError("ARCHIVE", where=file.uri, found=found, fix=UNPACK) from None

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        try:
            return self.inner.read(-1 if size is None else size)
        except _WRONG as error:
            raise OSError(str(error)) from None

    def close(self) -> None:
        if not self.closed:
            self.raw.close()
        super().close()
