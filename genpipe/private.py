"""Folders that are this user's alone, whatever the umask.

$GENPIPE_HOME holds training rows: it is 0700, and a default ACL makes every file and folder below it 0600
and 0700, whichever library writes it and from whichever process. Where the file system has no ACLs, the
home's own 0700 still keeps others out. What a user lets us write elsewhere (`--output`, GENPIPE_STORE) keeps
their umask.

`Scratch` is a folder in the temporary folder, for sockets and databases that end with the process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from genpipe.errors import InfrastructureError, UsageError

SHORT = Path("/tmp")  # leaves sockets room for their names
PREFIX = "genpipe-"
STARTING_SECONDS = 10  # in which a process has surely locked the folder it has made
SOCKET_PATH = 103  # bytes of a Unix socket's address: 107 on Linux, 103 on macOS
_OWNER, _GROUP, _OTHER, _NOBODY = 0x01, 0x04, 0x20, 0xFFFFFFFF  # tags of linux/posix_acl.h
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, _NOBODY) for tag, rights in ((_OWNER, 7), (_GROUP, 0), (_OTHER, 0))
)
log = logging.getLogger(__name__)


def make_home(home: Path) -> None:
    """Make the home, or close one that is there (`close_home`)."""
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            home.mkdir(mode=0o700)
    close_home(home)


def close_home(home: Path) -> None:
    """Take an existing home from everybody else; nothing to do where none is.

    Raises UsageError where it cannot be this user's alone: another's, shared like /tmp, or a link to a place
    where others may put what they like.
    """
    try:
        named, found = home.lstat(), home.stat()
    except OSError:
        return
    if not stat.S_ISDIR(found.st_mode):
        return  # writing will fail, and say so
    if found.st_uid != os.geteuid():
        raise _refused(home, f"a folder of {_name(found.st_uid)}")
    if stat.S_ISLNK(named.st_mode):
        if named.st_uid not in (0, os.geteuid()):
            raise _refused(home, f"a link made by {_name(named.st_uid)}")
        real = home.resolve()
        if found.st_mode & 0o002 or any(_open_to_all(folder) for folder in real.parents):
            raise _refused(home, f"a link to {real}, a place that others may write to")
    if found.st_mode & stat.S_ISVTX or home.resolve() in (Path("/"), Path(os.path.expanduser("~")).resolve()):
        raise _refused(home, "a folder that holds more than genpipe's files")
    if found.st_mode & 0o077:
        home.chmod(0o700)
        log.info("%s: closed to other users (it was %o)", home, stat.S_IMODE(found.st_mode))
    if hasattr(os, "setxattr"):
        with suppress(OSError):  # no ACLs here: the folder's own mode keeps others out
            if _acl(home) != _ACL:
                os.setxattr(home, "system.posix_acl_default", _ACL)


def close_tree(folder: Path) -> None:
    """Take a folder and all in it from everybody else, before a library copies it with its modes."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)


def _acl(home: Path) -> bytes | None:
    try:
        return os.getxattr(home, "system.posix_acl_default")
    except OSError:
        return None


def _open_to_all(folder: Path) -> bool:
    """Whether strangers may move or replace what lies in the folder."""
    return folder.stat().st_mode & 0o1002 == 0o002


def _name(user: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"


def _refused(home: Path, found: str) -> UsageError:
    return UsageError(
        "HOME",
        where=f"GENPIPE_HOME={home}",
        found=found,
        expected="a folder of your own, for genpipe alone",
        fix="set GENPIPE_HOME to another folder, for example ~/.genpipe",
    )


class Scratch:
    """A folder of mode 0700 in the temporary folder, whose name leaves `room` bytes for sockets below it.

    Nobody can have prepared its name, which is random and must be new. It is locked as long as this process
    lives, so that the next `Scratch` removes what a killed process left. Raises InfrastructureError where
    strangers may move what lies in the temporary folder.
    """

    def __init__(self, kind: str, *, room: int = 0) -> None:
        bases = [Path(tempfile.gettempdir()), SHORT]
        for base in bases:
            _sweep(base, kind)
        pick = [b for b in bases if b.is_dir() and not any(_open_to_all(f) for f in (b, *b.parents))]
        if not pick:
            raise InfrastructureError(
                "TMP",
                where=str(bases[0]),
                found="a temporary folder in which other users may move your files",
                expected="a folder of your own, or one with the sticky bit",
                fix="chmod +t it, or set TMPDIR",
            )
        length = len(f"/{PREFIX}{kind}-12345678") + room
        base = next((b for b in pick if len(os.fsencode(b)) + length <= SOCKET_PATH), pick[-1])
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=base))
        self._lock = open(self.path / "lock", "w")  # noqa: SIM115 - held as long as this process lives
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def abandoned(kind: str) -> Iterator[Path]:
    """Folders of this user's `Scratch(kind)` whose process is gone; each is locked while it is looked at."""
    for base in {Path(tempfile.gettempdir()), SHORT}:
        yield from _abandoned(base, kind)


def _abandoned(base: Path, kind: str) -> Iterator[Path]:
    for folder in base.glob(f"{PREFIX}{kind}-*"):
        with suppress(OSError):
            found = folder.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if not ours or time.time() - found.st_mtime < STARTING_SECONDS:
                continue
            with open(folder / "lock", "a") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield folder


def _sweep(base: Path, kind: str) -> None:
    """Remove our own folders whose process is gone."""
    for folder in _abandoned(base, kind):
        shutil.rmtree(folder, ignore_errors=True)
