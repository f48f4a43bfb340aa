"""Local folders and s3:// prefixes behind one handful of verbs; the only file that talks to storage.

The rule every output follows (docs/architecture.md, "commit protocol"): data objects first, uniquely
named and immutable, then one *conditional create* of a manifest. `create` is that step: on S3 a put with
``If-None-Match: *``, on disk a finished temporary file linked into place; both fail if the name is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from genpipe.errors import ConflictError, DataError, InfrastructureError, UsageError, refuse_keys
from genpipe.remote import answering, s3, unreachable
from genpipe.settings import make_folder

SCHEMES = ("file", "s3")
NAME, RESERVED = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}"), ("latest", "con", "nul")


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def check_name(name: str, *, what: str = "name") -> str:
    """The one rule for names of datasets, runs and models: they become folders, URLs and registry keys."""
    if NAME.fullmatch(name) and name not in RESERVED:
        return name
    taken = " or ".join(RESERVED)
    raise UsageError(
        "NAME",
        where=what,
        found=repr(name[:80]),
        expected=f"at most 63 of a-z 0-9 . _ -, beginning with a letter or digit, and not {taken}",
        fix=f"for example {plain_name(name)!r}",
    )


def plain_name(text: str) -> str:
    """The nearest allowed name: People 2024 -> people-2024, latest -> data-latest."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63]
    return f"data-{plain}".rstrip("-") if plain in ("", *RESERVED) else plain


def scheme_of(uri: str) -> str:
    refuse_keys(uri)
    scheme = uri.split("://", 1)[0] if "://" in uri else "file"
    if scheme not in SCHEMES:
        raise UsageError(
            "PATH", where=uri, found=f"scheme {scheme}://", expected="a local path or s3://bucket/prefix"
        )
    return scheme


def filesystem(uri: str) -> Any:
    """The fsspec file system of a URI. S3 takes AWS_* variables, and its operations have deadlines."""
    scheme = scheme_of(uri)
    if scheme == "file":
        return fsspec.filesystem("file")
    return s3(os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_ACCESS_KEY_ID"), os.getpid())


def path_of(uri: str) -> str:
    """The path the file system of `uri` understands."""
    return uri.split("://", 1)[1] if "://" in uri else uri


def read_bytes(uri: str) -> bytes:
    with answering(uri):
        return filesystem(uri).cat_file(path_of(uri))


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def read_limited(uri: str, most: int) -> bytes:
    """An object that a stranger may have made: its size is asked first, and more than `most` bytes are a
    DataError. So is on disk what is no regular file: a link leads elsewhere, a pipe or device has no end.
    """
    found = size(uri)
    if found is None:
        raise FileNotFoundError(uri)
    if found > most:
        raise DataError("LIMIT", where=uri, found=f"{found} bytes", expected=f"at most {most}")
    if scheme_of(uri) == "s3":
        return read_bytes(uri)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with answering(uri), open(os.open(path_of(uri), flags), "rb") as file:
        return file.read(found)


def exists(uri: str) -> bool:
    try:
        with answering(uri):
            filesystem(uri).info(path_of(uri))
        return True
    except FileNotFoundError:
        return False


def size(uri: str) -> int | None:
    """Bytes of an object; None if it is not there. On disk only a regular file is one, see `read_limited`."""
    try:
        with answering(uri):
            if scheme_of(uri) == "s3":
                return int(filesystem(uri).size(path_of(uri)))
            told = os.lstat(path_of(uri))
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(told.st_mode):
        found = "a link" if stat.S_ISLNK(told.st_mode) else "a folder, pipe or device"
        raise DataError(
            "FILE", where=uri, found=found, expected="a regular file", fix="copy the whole folder"
        )
    return told.st_size


def occupied(uri: str) -> bool:
    """Whether anything lies at or below `uri`; for refusals, never for finding data."""
    try:
        with answering(uri):
            return bool(filesystem(uri).ls(path_of(uri), detail=False))
    except FileNotFoundError:
        return False


def write_bytes(uri: str, data: bytes | memoryview) -> None:
    """Write a data object under a name nobody else uses; whole or not at all."""
    with answering(uri):
        if scheme_of(uri) == "s3":
            filesystem(uri).pipe_file(path_of(uri), data)
        else:
            _replace(Path(path_of(uri)), data)


def _replace(target: Path, data: bytes | memoryview) -> None:
    with _scratch(target, data) as scratch:
        os.replace(scratch, target)


@contextmanager
def _scratch(target: Path, data: bytes | memoryview) -> Iterator[Path]:
    """`data`, safely on disk under a hidden name beside `target`, until the caller has moved or linked it."""
    _make_folder(target.parent)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with open(scratch, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:  # FileExistsError too: a file where a folder should be
        raise unreachable(str(folder), error) from error


def create(uri: str, data: bytes) -> bool:
    """Create `uri` with `data`; True if this call made it, False if the same bytes were there already.

    Raises ConflictError when the name holds other bytes.
    """
    made = _create_s3(uri, data) if scheme_of(uri) == "s3" else _create_local(Path(path_of(uri)), data)
    if made:
        return True
    if read_bytes(uri) == data:
        return False
    raise ConflictError(
        "TAKEN", where=uri, found="another result under this name", fix="choose another name or tag"
    )


def _create_s3(uri: str, data: bytes) -> bool:
    try:
        with answering(uri):
            filesystem(uri).pipe_file(path_of(uri), data, mode="create")
        return True
    except FileExistsError:
        return False
    except InfrastructureError as error:
        # a lost reply leaves the outcome unknown, and a refused precondition comes as a plain OSError:
        # the object itself tells which it was
        if exists(uri):
            return read_bytes(uri) == data and "precondition" not in str(error).lower().replace("-", "")
        raise


def _create_local(target: Path, data: bytes) -> bool:
    try:
        with answering(str(target)), _scratch(target, data) as scratch:
            os.link(scratch, target)
    except FileExistsError:
        return False
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


class Entry(NamedTuple):
    """An object, as a listing tells it. written: seconds since 1970, by the store's clock."""

    written: float
    bytes: int


def entries(uri: str) -> dict[str, Entry]:
    """Every object below a prefix by relative path.

    For janitors and checkpoints; readers of data follow a manifest and never list.
    """
    fs, root = filesystem(uri), path_of(uri).rstrip("/")
    try:
        with answering(uri):
            found = fs.find(root, detail=True)
    except FileNotFoundError:
        return {}
    made = {}
    for name, info in found.items():
        if info.get("type") == "directory":  # one of which all was removed is still listed by some servers
            continue
        when = info.get("mtime", info.get("LastModified"))
        seconds = when.timestamp() if hasattr(when, "timestamp") else float(when)
        made[name.removeprefix(f"{root}/")] = Entry(seconds, int(info.get("size") or 0))
    return made


def listing(uri: str) -> dict[str, float]:
    """Relative path -> when it was written, see `entries`."""
    return {name: entry.written for name, entry in entries(uri).items()}


def remove(uri: str) -> None:
    """Delete an object or a tree that no manifest names."""
    with answering(uri), suppress(FileNotFoundError):
        filesystem(uri).rm(path_of(uri), recursive=True)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks: equal values, equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.encode(errors="backslashreplace")  # a file name need not be UTF-8; in JSON this is an escape


def digest(value: Any) -> str:
    """A short content id (20 hex digits of sha256) of bytes or of any JSON value."""
    data = value if isinstance(value, bytes) else canonical(value)
    return hashlib.sha256(data).hexdigest()[:20]
