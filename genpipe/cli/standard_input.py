"""What is piped into a command, as a file for as long as it is read: `zcat x.csv.gz | genpipe ingest -`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from genpipe.errors import DataError, InfrastructureError, UsageError
from genpipe.settings import make_folder, read_settings

MARK, BLOCK = "-", 2**20
BEGINNINGS = {
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\x1f\x8b": ".csv.gz",
    b"\x28\xb5\x2f\xfd": ".csv.zst",
    b"BZh": ".csv.bz2",
}


@contextmanager
def standard_input(source: Sequence[str], name: str | None, kind: str | None) -> Iterator[list[str]]:
    """The source, with a file in the place of `-`. It is called by its content and has no age, so the same
    bytes are the same dataset; it is gone when the command ends.
    """
    if MARK not in source:
        yield list(source)
        return
    if len(source) > 1:
        raise UsageError("SOURCE", found="- beside other sources", expected="- alone")
    if not name:
        raise UsageError(
            "NAME", found="no name for standard input", expected="one", fix="genpipe ingest - --name people"
        )
    if sys.stdin.isatty():
        fix = "pipe a table into it: cat people.csv | genpipe ingest - --name people"
        raise UsageError("SOURCE", found="a terminal as standard input", expected="a table", fix=fix)
    file = _copied(sys.stdin.buffer, make_folder(Path(read_settings().home) / "stdin"), kind)
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        try:
            yield [str(file)]
        finally:
            _remove(file, held)


def _copied(stream: BinaryIO, folder: Path, kind: str | None) -> Path:
    with tempfile.NamedTemporaryFile(dir=folder) as out:
        digest = hashlib.sha256()
        try:
            while block := stream.read(BLOCK):
                out.write(block)
                digest.update(block)
            out.flush()
        except OSError as error:
            found = error.strerror or "no space"
            raise InfrastructureError("DISK", where=str(folder), found=found, fix="free some space") from None
        if not out.tell():
            raise DataError("EMPTY", where="standard input", found="0 bytes", expected="a table")
        suffix = ".txt" if kind == "text" else suffix_of(Path(out.name))
        os.utime(out.name, ns=(0, 0))
        named = folder / f"{digest.hexdigest()[:20]}{suffix}"
        named.unlink(missing_ok=True)
        os.link(out.name, named)
    return named


def _remove(file: Path, held: IO[bytes]) -> None:
    """Remove the file, unless another command reads the same content."""
    with suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(held.fileno()).st_ino == file.stat().st_ino:
            file.unlink()


def suffix_of(file: Path) -> str:
    """That of a file whose content begins so: a table's, of text where nothing else is known."""
    with file.open("rb") as data:
        head = data.read(BLOCK)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as packed:
            names = packed.namelist()
        return (
            ".xlsx" if any(n.startswith("xl/") for n in names) else ".ods" if "mimetype" in names else ".zip"
        )
    found = next((suffix for mark, suffix in BEGINNINGS.items() if head.startswith(mark)), None)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return found or {b"{": ".jsonl", b"[": ".json"}.get(first, ".csv")
