"""doctor: everything genpipe relies on, looked at once, each with what was found and what to do about it.

Nothing stays behind: the store is asked for its promise with an object of its own, which is removed again.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request as Ask
from urllib.request import urlopen

from genpipe import store
from genpipe.errors import ConflictError, GenpipeError, InfrastructureError
from genpipe.private import Scratch
from genpipe.progress import Event, Progress, silent
from genpipe.redaction import link, shown
from genpipe.requests import Doctor
from genpipe.settings import Settings, make_folder, read_settings
from genpipe.version import __version__

SECONDS = 20  # for a server that does not answer
CLOCK_SECONDS = 300  # S3 refuses requests that are 15 minutes off
DISK_BYTES, MEMORY_BYTES, SHARED_BYTES = 2 * 2**30, 2 * 2**30, 300 * 2**20
PYTHON = ((3, 11), (3, 14))
CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


@dataclass(frozen=True)
class Finding:
    """name: what was looked at. ok, found: how it is. fix: what to do where it is not well."""

    name: str
    ok: bool
    found: str
    fix: str = ""


Look = Callable[[Settings], Iterator[Finding]]


def doctor(asked: Doctor, *, progress: Progress = silent) -> tuple[Finding, ...]:
    """Look at all of it. What cannot be looked at is a finding, too: the other lines are worth having."""
    settings, found = read_settings(), list[Finding]()
    for done, look in enumerate(LOOKS):
        name = look.__name__.strip("_")
        progress(Event("doctor", done, len(LOOKS), "looks", note=name))
        try:
            found += (replace(each, found=shown(each.found)) for each in look(settings))
        except GenpipeError as error:
            where = f"{error.where}: " if error.where else ""
            found.append(Finding(name, False, f"{where}{error.found}", error.fix))
        except Exception as error:  # whatever a library says
            told = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            found.append(Finding(name, False, shown(told, 300), "if this says nothing to you, report it"))
    return tuple(found)


def _versions(settings: Settings) -> Iterator[Finding]:
    (least, most), found = PYTHON, f"{platform.python_version()}, genpipe {__version__}"
    fix = "use Python 3.11, 3.12 or 3.13: make setup PYTHON=python3.12"
    yield Finding("python", least <= sys.version_info[:2] < most, found, fix)
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("genpipe") or ()]
    except PackageNotFoundError:
        yield Finding("packages", False, "genpipe is not installed", "make setup")
        return
    wrong = list[str]()
    needed = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    for need in needed:
        try:
            have = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"no {need.name}")
        else:
            if not need.specifier.contains(have, prereleases=True):
                wrong.append(f"{need.name} {have}, wanted {need.specifier}")
    yield Finding("packages", not wrong, "; ".join(wrong) or f"{len(needed)} as wanted", "make setup")


def _home(settings: Settings) -> Iterator[Finding]:
    home = make_folder(settings.home)
    private = not home.stat().st_mode & 0o077
    yield Finding("home", private, f"{home}{'' if private else ', open to others'}", f"chmod 700 {home}")
    places = {"home": home, "temporary folder": Path(tempfile.gettempdir())}
    if store.scheme_of(settings.store) == "file":
        places["store"] = make_folder(Path(settings.store))
    for name, folder in places.items():
        free = shutil.disk_usage(folder).free
        fix = f"free some space in {folder} (genpipe clean), or use another place"
        yield Finding(f"disk of the {name}", free >= DISK_BYTES, f"{free / 1e9:.1f} GB free", fix)
    Scratch("doctor").remove()  # raises where strangers may move what lies in the temporary folder


def _memory(settings: Settings) -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available
    for limit, used in CGROUPS:  # of a container
        with suppress(OSError, ValueError):
            root = Path("/sys/fs/cgroup")
            free = min(free, int((root / limit).read_text()) - int((root / used).read_text()))
    found = f"{free / 1e9:.1f} GB free, {settings.cpus} CPUs to be used"
    fix = "end other work, or give the container more: an embedded Ray alone takes 1.5 GB"
    yield Finding("memory", free >= MEMORY_BYTES, found, fix)
    shared = Path("/dev/shm")
    if settings.ray_address == "local" and shared.is_dir():
        free = shutil.disk_usage(shared).free
        fix = "docker run --shm-size=1g, or an emptyDir with medium: Memory"
        yield Finding("shared memory", free >= SHARED_BYTES, f"{free / 1e9:.1f} GB free in {shared}", fix)


def _store(settings: Settings) -> Iterator[Finding]:
    """Whether the second create of a name is refused, on which commits rest; and what time it is there."""
    folder = store.join(settings.store, f".doctor-{uuid.uuid4().hex}")
    probe, began = store.join(folder, "probe"), time.time()
    try:
        store.create(probe, b"first")
        try:
            store.create(probe, b"second")
            refused = False
        except ConflictError:
            refused = store.read_bytes(probe) == b"first"
        seconds = time.time() - began
        off = store.listing(folder).get("probe", began) - began
    finally:
        with suppress(InfrastructureError):  # a role that may not remove
            store.remove(folder)
    how = "reads, writes, refuses a second create" if refused else "makes a name twice"
    fix = (
        "use a store that honours If-None-Match: * (on this one, two writers may both believe they published)"
    )
    yield Finding("store", refused, f"{settings.store}: {how}; {seconds:.2f} s", fix)
    fix = "set this machine's clock (timedatectl set-ntp true): S3 refuses at 15 minutes"
    yield Finding("clock", abs(off) < CLOCK_SECONDS, f"{abs(off):.0f} s off the store's", fix)


def _mlflow(settings: Settings) -> Iterator[Finding]:
    from genpipe.registry.tracking import client, reaching

    where = link(settings.tracking_uri)
    try:
        with reaching():
            seen = len(client().search_registered_models(max_results=100))
    except InfrastructureError as error:
        fix, refused = error.fix, any(word in error.found for word in ("401", "403", "not authenticated"))
        if refused:
            fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user that the server knows"
        yield Finding("mlflow", False, f"{where}: {error.found}", fix)
        return
    yield Finding("mlflow", True, f"{where}: answers, {seen} models to be seen")
    if where.startswith("http"):
        told, status = _get(f"{where.rstrip('/')}/version", "")
        mine = version("mlflow")
        fix = "have the server and its clients of one version"
        yield Finding("mlflow version", status != 200 or told == mine, f"{told} there, {mine} here", fix)


def _prefect(settings: Settings) -> Iterator[Finding]:
    api, mine = os.environ.get("PREFECT_API_URL", "").rstrip("/"), version("prefect")
    if not api:
        yield Finding("prefect", True, "embedded, a server for each run: PREFECT_API_URL is not set")
        return
    told, status = _get(f"{api}/admin/version", os.environ.get("PREFECT_API_AUTH_STRING", ""))
    fix = "see that the server runs and PREFECT_API_URL is right"
    if status in (401, 403):
        fix = "set PREFECT_API_AUTH_STRING=name:password as the server has it"
    if status != 200:
        yield Finding("prefect", False, f"{link(api)}: {told or 'no answer'} ({status})", fix)
        return
    theirs, fix = json.loads(told), "have the server and its workers of one version"
    yield Finding("prefect", theirs == mine, f"{link(api)}: answers; {theirs} there, {mine} here", fix)


def _get(url: str, credentials: str) -> tuple[str, int]:
    """(text, status); of a server that does not answer why, and 0."""
    ask = Ask(url)
    if credentials:
        ask.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    try:
        with urlopen(ask, timeout=SECONDS) as answer:
            return answer.read(10_000).decode(errors="replace").strip(), answer.status
    except HTTPError as error:
        return str(error.reason), error.code
    except (URLError, OSError, ValueError) as error:
        return str(error), 0


def _databases(settings: Settings) -> Iterator[Finding]:
    """The embedded ones, page by page."""
    for path in (settings.home / "mlflow.db", settings.home / "prefect/prefect.db"):
        if not path.exists():
            continue
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=SECONDS)) as database:
                (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            said = str(error)
        kept = sorted(p.name for p in path.parent.glob(f"{path.name}.before-*"))
        fix = f"move it away, and put {kept[-1] if kept else 'a copy'} in its place or begin anew without"
        yield Finding(path.name, said == "ok", f"{said}, {path.stat().st_size / 1e6:.1f} MB", fix)


def _ray(settings: Settings) -> Iterator[Finding]:
    from genpipe.stages.cluster import connect

    resources = connect(settings)
    import ray

    asked, has = ray.remote(num_cpus=1)(_there).remote(), f"{resources.get('CPU', 0):g} CPUs"
    has += f", {resources.get('GPU', 0):g} GPUs"
    try:
        there, here = ray.get(asked, timeout=3 * SECONDS), _there()
    except ray.exceptions.GetTimeoutError:
        found = f"no task was run within {3 * SECONDS} s; {has}"
        yield Finding("ray", False, found, "see what holds its CPUs (ray status), or wait")
        return
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    where = "embedded" if settings.ray_address == "local" else f"{settings.ray_address}, {nodes} nodes"
    yield Finding("ray", True, f"{where}: {has}; a task was run")
    found = f"{', '.join(there)} there, {', '.join(here)} here"
    yield Finding("ray versions", there == here, found, "use the same image on all nodes")


def _there() -> tuple[str, ...]:
    """What a process runs on."""
    own = ".".join(platform.python_version_tuple()[:2])
    return f"python {own}", f"genpipe {__version__}", f"ray {version('ray')}"


def _gpu(settings: Settings) -> Iterator[Finding]:
    import torch

    build = f"torch {torch.__version__}, GENPIPE_DEVICE={settings.device}"
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Finding("gpu", True, f"{names}; {build}")
    elif shutil.which("nvidia-smi"):
        fix = "make setup DEVICE=cuda (this torch cannot use the GPU that is here), or GENPIPE_DEVICE=cpu"
        yield Finding("gpu", settings.device == "cpu", f"not to be used; {build}", fix)
    else:  # the workers of a cluster may have what this machine has not
        ok = settings.device != "cuda" or settings.ray_address != "local"
        yield Finding("gpu", ok, f"none here; {build}", "GENPIPE_DEVICE=auto, or a machine with a GPU")


LOOKS: tuple[Look, ...] = (_versions, _home, _memory, _store, _mlflow, _prefect, _databases, _ray, _gpu)
