"""Local folders and s3:// prefixes behind one handful of verbs; the only file that talks to storage.

The rule every output follows (docs/architecture.md, "commit protocol"): data objects first, uniquely
named and immutable, then one *conditional create* of a manifest. `create` is that step: on S3 a put with
``If-None-Match: *``, on disk a finished temporary file linked into place; both fail if the name is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from genpipe import names
from genpipe.errors import ConflictError, DataError, InfrastructureError, UsageError, refuse_keys
from genpipe.remote import answering, no_folder, s3
from genpipe.settings import make_folder

SCHEMES = ("file", "s3")
check_name, is_name, plain_name = names.check_name, names.is_name, names.plain_name


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def names_in(uri: str) -> list[str]:
    """What lies directly below a prefix, by name: for words that people type, never for finding data."""
    try:
        with answering(uri):
            found = filesystem(uri).ls(path_of(uri), detail=False)
    except FileNotFoundError:
        return []
    return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)


def written(uri: str) -> float | None:
    """When an object was written, in seconds since 1970 by the store's clock; None if it is not there."""
    try:
        with answering(uri):
            return _when(filesystem(uri).info(path_of(uri)))
    except FileNotFoundError:
        return None


def _when(info: Any) -> float:
    when = info.get("mtime", info.get("LastModified"))
    return float(when.timestamp() if hasattr(when, "timestamp") else when or 0)


def scheme_of(uri: str) -> str:
    refuse_keys(uri)
    scheme = uri.split("://", 1)[0] if "://" in uri else "file"
    if scheme not in SCHEMES:
        expected = "a local path or s3://bucket/prefix"
        raise UsageError("PATH", where=uri, found=f"scheme {scheme}://", expected=expected)
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
    return written(uri) is not None


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
        fix = "copy the whole folder"
        raise DataError("FILE", where=uri, found=found, expected="a regular file", fix=fix)
    return told.st_size


def occupied(uri: str) -> bool:
    """Whether anything lies at or below `uri`."""
    return bool(names_in(uri))


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
    make_folder_for(target.parent)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with open(scratch, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def make_folder_for(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:  # FileExistsError too: a file where a folder should be
        raise no_folder(folder, error) from error


def create(uri: str, data: bytes) -> bool:
    """Create `uri` with `data`; True if this call made it, False if the same bytes were there already.

    Raises ConflictError when the name holds other bytes.
    """
    made = _create_s3(uri, data) if scheme_of(uri) == "s3" else _create_local(Path(path_of(uri)), data)
    if made:
        return True
    if read_bytes(uri) == data:
        return False
    found, fix = "another result under this name", "choose another name or tag"
    raise ConflictError("TAKEN", where=uri, found=found, fix=fix)


def create_file(uri: str, made: Path) -> None:
    """`create` of a file that is on this disk already: on disk, beside its place, and it stays there, too."""
    try:
        with answering(uri):
            if scheme_of(uri) == "s3":
                filesystem(uri).put_file(str(made), path_of(uri), mode="create")
            else:
                os.link(made, path_of(uri))
    except FileExistsError:
        with filesystem(uri).open(path_of(uri), "rb") as theirs, open(made, "rb") as ours:
            if hashlib.file_digest(theirs, "sha256").digest() == hashlib.file_digest(ours, "sha256").digest():
                return
        fix = "choose another name, or move it away"
        raise ConflictError("TAKEN", where=uri, found="another file of this name", fix=fix) from None


def place(source: str, target: str) -> None:
    """Have a data object under a second name: a link on disk, a copy that the server makes on S3."""
    with answering(target):
        if scheme_of(target) == "s3":
            filesystem(target).copy(path_of(source), path_of(target))
        else:
            make_folder_for(Path(path_of(target)).parent)
            with suppress(FileExistsError):
                os.link(path_of(source), path_of(target))


def move_folder(source: str, target: str) -> bool:
    """Give a local folder its name, at once with all in it; False if there is another with anything in it."""
    make_folder_for(Path(path_of(target)).absolute().parent)
    try:
        os.rename(path_of(source), path_of(target))
    except OSError as error:
        if isinstance(error, FileNotFoundError) or not Path(path_of(target)).exists():
            raise
        return False
    _sync(Path(path_of(target)).absolute().parent)
    return True


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
    _sync(target.parent)
    return True


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


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
        made[name.removeprefix(f"{root}/")] = Entry(_when(info), int(info.get("size") or 0))
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
