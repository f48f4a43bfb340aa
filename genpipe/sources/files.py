"""Listing raw input (file, folder, glob, s3://) and opening it as a checked, decompressed stream.

Nothing is opened that is not a regular file inside the folder it was found in: links that lead elsewhere,
pipes and devices are refused by name.
"""

from __future__ import annotations

import fnmatch
import glob as globbing
import itertools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from genpipe import store
from genpipe.errors import DataError, closest
from genpipe.sources.archive import UNPACK, Member, members, unzipped
from genpipe.sources.limits import MAX_FILES, beyond

CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
LISTED = 20  # bad files that a message names
ARCHIVES = (".tar", ".tgz", ".7z", ".rar")


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was listed. stamp: mtime in ns, or the S3 ETag. root: the folder it was found under, or
    the archive that it is a `member` of.
    """

    uri: str
    size: int
    stamp: str
    root: str
    member: str = ""

    @property
    def suffix(self) -> str:
        """`.csv` of `a.CSV.gz`."""
        return suffix_of(self.uri)

    @property
    def compressed(self) -> bool:
        return bool(self.member) or os.path.splitext(self.uri)[1].lower() in CODECS

    @property
    def relative(self) -> str:
        return self.uri[len(self.root) :].lstrip("/") if self.root else self.uri.rsplit("/", 1)[-1]

    @property
    def name(self) -> str:
        return self.uri.rsplit("/", 1)[-1]

    def now(self) -> File | None:
        """The same file as it is now; None = gone."""
        if self.member:
            whole = File(self.root, 0, "", "").now()
            return next((m for m in members(whole) if m.uri == self.uri), None) if whole else None
        try:
            return (
                _local(self.uri, self.root)
                if store.scheme_of(self.uri) == "file"
                else _remote(self.uri, self.root)
            )
        except (DataError, FileNotFoundError):
            return None

    def read(self, limit: int = 2**31) -> bytes:
        """The whole decompressed content, at most `limit` bytes."""
        with open_stream(self) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise DataError(
                "TOOLARGE", where=self.uri, found=f"more than {limit} bytes", fix="split the file"
            )
        return data


def suffix_of(path: str) -> str:
    stem, last = os.path.splitext(path.rsplit("/", 1)[-1])
    return (os.path.splitext(stem)[1] if last.lower() in CODECS else last).lower()


def list_files(source: str | Sequence[str]) -> tuple[File, ...]:
    """Every regular, visible file of the source in name order."""
    found: list[File] = []
    for item in [source] if isinstance(source, str | os.PathLike) else list(source):
        item = os.fspath(item)
        found += _list_remote(item) if store.scheme_of(item) == "s3" else _list_local(item)
    if not found:
        raise DataError("EMPTY", where=str(source), found="no files", expected="at least one file")
    once = {f.uri: f for f in reversed(found)}  # patterns may name a file twice, below different folders
    return tuple(sorted(once.values(), key=lambda f: f.uri))


def choose_files(
    source: str | Sequence[str], accept: Callable[[str], bool]
) -> tuple[tuple[File, ...], Counter[str]]:
    """The listed files whose names are accepted, and how many others there are of each suffix. A file named
    outright is taken whatever its name.
    """
    found = tuple(within for file in list_files(source) for within in unzipped(file))
    kept = tuple(f for f in found if not f.root or accept(f.name))
    if not kept:
        names = ", ".join(sorted({f.suffix or f.name for f in found})[:5])
        raise DataError(
            "EMPTY",
            where=str(source),
            found=f"{len(found)} files, none of a known type ({names})",
            expected="CSV, JSON Lines, Parquet, images, WAV or text files",
        )
    for file in kept:
        if file.name.lower().endswith(ARCHIVES):
            raise DataError("ARCHIVE", where=file.uri, found="an archive of many files", fix=UNPACK)
    taken = set(kept)
    return kept, Counter(f.suffix or "without a suffix" for f in found if f not in taken)


def _list_local(item: str) -> list[File]:
    path = Path(item).expanduser().absolute()
    if os.path.isdir(path):
        return _walk(path)
    if os.path.lexists(path):
        return [_local(str(path), "")]
    if globbing.has_magic(item):
        if files := _matching(path):
            return files
        raise DataError(
            "MISSING",
            where=item,
            found="no file matches",
            fix="check the pattern; quote it so that the shell does not expand it",
        )
    siblings = os.listdir(path.parent) if os.path.isdir(path.parent) else []
    raise DataError("MISSING", where=item, found="no such file or folder", fix=closest(path.name, siblings))


def _matching(pattern: Path) -> list[File]:
    """Files that match, and all below folders that do; what lies below a folder taken whole comes with it."""
    base, files, taken = str(Path(*_plain_parts(pattern.parts))), [], ""
    if base == pattern.anchor and "**" in pattern.parts:
        found, fix = "a pattern for every file of this machine", "begin it with the folder the data are in"
        raise DataError("PATTERN", where=str(pattern), found=found, fix=fix)
    hits = list(itertools.islice(globbing.iglob(str(pattern), recursive=True), MAX_FILES + 1))
    for hit in sorted(hits, key=lambda hit: hit.split("/")):
        if taken and hit.startswith(taken):
            continue
        if os.path.isdir(hit):
            taken = hit.rstrip("/") + "/"
            files += _walk(Path(hit))
        else:
            files.append(_local(hit, base))
        if max(len(files), len(hits)) > MAX_FILES:
            raise _too_many(str(pattern))
    return files


def _too_many(where: str) -> DataError:
    return beyond(where, f"more than {MAX_FILES} files", str(MAX_FILES), "pack them into larger files")


def _plain_parts(parts: Iterable[str]) -> list[str]:
    plain: list[str] = []
    for part in parts:
        if globbing.has_magic(part):
            break
        plain.append(part)
    return plain


def _walk(root: Path) -> list[File]:
    files, bad = list[File](), list[DataError]()
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in [*folders, *names]:
            inner = os.path.join(folder, name)
            if os.path.islink(inner) and not Path(os.path.realpath(inner)).is_relative_to(root.resolve()):
                raise DataError(
                    "PATH",
                    where=inner,
                    found=f"a link to {os.path.realpath(inner)}, outside the folder",
                    fix="copy the file or remove the link",
                )
        for name in sorted(n for n in names if not n.startswith((".", "Thumbs.db"))):
            try:
                files.append(_local(os.path.join(folder, name), str(root)))
            except DataError as error:
                bad.append(error)
        if len(files) > MAX_FILES:
            raise _too_many(str(root))
    if bad:
        raise bad[0] if len(bad) == 1 else bad_files(bad, len(files) + len(bad), "repair or remove them")
    return files


def bad_files(bad: Sequence[DataError], total: int, fix: str) -> DataError:
    """The first of them and how many there are; the error itself, where there is one file."""
    if total == 1:
        return bad[0]
    lines = [str(error) for error in bad[:LISTED]]
    lines += [f"... and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
    return DataError("BADFILES", found=f"{len(bad)} of {total} files cannot be used", fix=fix, lines=lines)


def _local(path: str, root: str) -> File:
    try:
        info = os.stat(path)
    except OSError as error:
        raise DataError(
            "MISSING",
            where=path,
            found=f"no file, or a link that leads to none ({error.strerror})",
            fix="repair or remove it, then ingest again",
        ) from None
    regular(path, info)
    if not os.access(path, os.R_OK):
        raise DataError(
            "PERM", where=path, found="no permission to read", fix="chmod +r, or run as its owner"
        )
    return File(path, info.st_size, str(info.st_mtime_ns), root)


def regular(path: str, info: os.stat_result | None = None) -> None:
    """Refuses what may never end or wait for ever. FileNotFoundError where there is nothing."""
    if not stat.S_ISREG((info or os.stat(path)).st_mode):
        raise DataError("NOTREGULAR", where=path, found="a pipe, device or socket", expected="a regular file")


def _remote(uri: str, root: str) -> File:
    with store.answering(uri):
        info = store.filesystem(uri).info(store.path_of(uri))
    return File(uri, int(info["size"]), str(info.get("ETag", "")).strip('"'), root)


def _list_remote(item: str) -> list[File]:
    fs, path = store.filesystem(item), store.path_of(item)
    try:
        with store.answering(item):
            if globbing.has_magic(path):
                found, root = fs.glob(path, detail=True), "s3://" + "/".join(_plain_parts(path.split("/")))
            elif fs.isfile(path):
                return [_remote(item, "")]
            else:
                found, root = fs.find(path, detail=True), item.rstrip("/")
    except FileNotFoundError:
        found, root = {}, ""
    entries: list[dict[str, Any]] = [info for info in found.values() if info["type"] == "file"]
    if not entries:
        raise DataError(
            "MISSING",
            where=item,
            found="no such object or prefix",
            fix="check the bucket, the prefix and AWS_ENDPOINT_URL",
        )
    visible = [i for i in entries if not fnmatch.fnmatch(i["name"].rsplit("/", 1)[-1], ".*")]
    return [
        File("s3://" + i["name"], int(i["size"]), str(i.get("ETag", "")).strip('"'), root) for i in visible
    ]


def changed(file: File, size: int | None) -> DataError:
    """size: its bytes now; None = it is gone."""
    found = (
        f"it changed while it was read ({file.size} then {size} bytes)" if size is not None else "it is gone"
    )
    return DataError("CHANGED", where=file.uri, found=found, fix="ingest again when nobody writes to it")


def check_same(file: File) -> None:
    """Raise DataError where a file is not what it was when it was listed."""
    now = file.now()
    if now is None or (now.size, now.stamp) != (file.size, file.stamp):
        raise changed(file, None if now is None else now.size)


def open_stream(file: File) -> pa.NativeFile:
    """The decompressed bytes of a file, for reading once, in order."""
    codec = CODECS.get(os.path.splitext(file.uri)[1].lower())
    try:
        if file.member:
            raw: Any = pa.PythonFile(Member(file), mode="r")
        elif store.scheme_of(file.uri) == "file":
            regular(file.uri)  # what was a file when it was listed may be a pipe by now
            raw = pa.OSFile(file.uri, "rb")
        else:
            raw = pa.PythonFile(store.filesystem(file.uri).open(store.path_of(file.uri)), mode="r")
    except FileNotFoundError:
        raise DataError("MISSING", where=file.uri, found="the file is gone", fix="ingest again") from None
    except PermissionError:
        raise DataError(
            "PERM", where=file.uri, found="no permission to read", fix="chmod +r, or run as its owner"
        ) from None
    return pa.CompressedInputStream(raw, codec) if codec else raw
