"""An attack in a process of its own, with limits of memory and time: one that works takes nothing with it."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.errors import GenpipeError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "bundles"
KINDS = ("table", "vector", "trees", "image", "series", "text", "audio")


def contained(attack: Callable[[], Any], *, megabytes: int = 1500, seconds: int = 30) -> str:
    """What became of a call in a fork of this process that may take so much more memory, and so long:
    "fine", "E-CODE exit: message", or the traceback of what no user should see.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        told = "fine"
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + megabytes * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            attack()
        except GenpipeError as error:
            told = f"E-{error.code} {error.exit_code}: {error}"
        except BaseException:
            told = traceback.format_exc()
        finally:
            os.write(writer, told.encode(errors="replace")[-60_000:])
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return told if os.WIFEXITED(status) else f"killed by signal {os.WTERMSIG(status)}"


def copied(kind: str, folder: Path) -> Path:
    """A bundle of tests/fixtures to alter."""
    return Path(shutil.copytree(FIXTURES / kind, folder / kind))


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Change a file and the manifest with it, as the maker of a bundle can."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(store.canonical(manifest))


def put(folder: Path, name: str, path: str, value: Any) -> None:
    """One value of a document, at a path such as `columns.age.shares.0`; with `*`, the first key there is."""
    document = json.loads((folder / name).read_bytes())
    *steps, last = path.split(".")
    at = document
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[next(iter(at)) if step == "*" else step]
    at[int(last) if isinstance(at, list) else last] = value
    rewrite(folder, name, json.dumps(document).encode())
