"""S3 with deadlines: an operation ends in time, whatever the server does or leaves undone.

The client tries again after resets and refusals, with growing pauses, and waits for each answer; what it does
not know is when to stop. So every operation has `GENPIPE_STORE_SECONDS` (120), and one second more for each
MiB it sends or asks for. Beyond that it is an InfrastructureError, as is everything else the client says of a
store that does not answer. Reads go in blocks, each an operation of its own. Only the removal of a tree,
which is many requests, has no deadline of its own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from genpipe.errors import GenpipeError, InfrastructureError, UsageError

SECONDS, BYTES_A_SECOND, BLOCK = 120.0, 2**20, 8 * 2**20
MAX_ATTEMPTS = 7  # with growing pauses: a server may be away for some 25 seconds
TIMED = {"cat_file", "find", "glob", "info", "isfile", "ls", "pipe_file", "size"}
_CLIENTS = ("botocore", "aiobotocore", "aiohttp")


def deadline(size: int = 0) -> float:
    """Seconds an operation on so many bytes may take."""
    told = os.environ.get("GENPIPE_STORE_SECONDS", "")
    try:
        seconds = float(told) if told else SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise UsageError(
            "SETTING", where="GENPIPE_STORE_SECONDS", found=repr(told), expected="seconds above 0"
        )
    return seconds + size / BYTES_A_SECOND


def unreachable(uri: str, error: Exception) -> InfrastructureError:
    late = isinstance(error, TimeoutError) and not str(error)
    said = f"no answer within {deadline():g} s (GENPIPE_STORE_SECONDS)" if late else str(error).split("\n")[0]
    found = f"{type(error).__name__}: {said or 'no answer'}"
    expected = "a store that answers, exists and may be written"
    fix = "check the bucket, AWS_ENDPOINT_URL and the keys, then run the same command again"
    if "://" not in uri:  # of this machine, where nobody has keys
        found, expected = getattr(error, "strerror", None) or found, "a folder that can be made and written"
        fix = "check the path, its rights and the disk, or choose another place"
    return InfrastructureError("STORE", where=uri, found=found, expected=expected, fix=fix)


def no_folder(folder: Path, error: OSError) -> GenpipeError:
    """The error of a folder that cannot be made: there is a file in its way, or the system refuses."""
    file = next((p for p in (folder, *folder.parents) if p.is_file()), None)
    if file is None:
        return unreachable(str(folder), error)
    expected, fix = "a folder, or nothing", "choose another place"
    return UsageError("FOLDER", where=str(file), found="a file", expected=expected, fix=fix)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """A store that does not answer, or refuses, is an InfrastructureError; absence and presence pass."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except NotADirectoryError as error:  # below a file there is nothing
        raise FileNotFoundError(*error.args) from error
    except OSError as error:
        raise unreachable(uri, error) from error
    except Exception as error:
        # s3fs lets its client's own errors through, and those are no OSError
        if type(error).__module__.split(".")[0] not in _CLIENTS:
            raise
        raise unreachable(uri, error) from error


class Remote:
    """The S3 file system, its operations timed. All else of it as it is."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in TIMED:
            return found

        def timed(*args: Any, **options: Any) -> Any:
            sent = max((memoryview(a).nbytes for a in args if isinstance(a, bytes | memoryview)), default=0)
            asked = (options.get("end") or 0) - (options.get("start") or 0)
            if name == "cat_file" and "end" not in options:  # as large as it is
                asked = int(self.info(args[0])["size"])
            return found(*args, timeout=deadline(max(sent, asked)), **options)

        return timed

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.BufferedReader:
        """An object for reading."""
        assert mode == "rb", "objects are written whole"
        return io.BufferedReader(Blocks(self, path), BLOCK)

    def rm(self, path: str, **options: Any) -> Any:
        """Several requests in one, so without a deadline of its own."""
        return self._inner.rm(path, **options)


class Blocks(io.RawIOBase):
    """The bytes of an object, asked for where they are read. Raises InfrastructureError where they do not
    come whole and in time.
    """

    def __init__(self, remote: Remote, path: str) -> None:
        self.remote, self.path, self.at = remote, path, 0
        with answering(f"s3://{path}"):
            self.length = int(remote.info(path)["size"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.length)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self.length - self.at)
        if wanted <= 0:
            return 0
        with answering(f"s3://{self.path}"):
            data = self.remote.cat_file(self.path, start=self.at, end=self.at + wanted)
            if len(data) < wanted:
                raise OSError(f"{len(data)} of {wanted} bytes at {self.at}")
        buffer[:wanted] = data[:wanted]
        self.at += wanted
        return wanted


@lru_cache(maxsize=4)
def s3(endpoint: str | None, key: str | None, pid: int) -> Remote:
    """endpoint, key, pid: what a client of its own is made for."""
    import s3fs

    return Remote(
        s3fs.S3FileSystem(
            endpoint_url=endpoint,
            use_listings_cache=False,  # what another worker committed a moment ago must be visible
            skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": 5,
                "read_timeout": 60,
                "retries": {"max_attempts": MAX_ATTEMPTS, "mode": "standard"},
            },
        )
    )
