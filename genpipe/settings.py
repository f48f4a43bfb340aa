"""The environment as one frozen object, read when asked and never at import.

| variable | meaning | default |
|---|---|---|
| GENPIPE_HOME | folder of yours for all embedded: store, MLflow database, logs | .genpipe, here or above |
| GENPIPE_STORE | datasets, runs and generated data: a folder or s3://bucket/prefix | $GENPIPE_HOME/store |
| MLFLOW_TRACKING_URI | MLflow server or database | SQLite in $GENPIPE_HOME |
| RAY_ADDRESS | Ray cluster to join; `local` starts one for this process | local |
| GENPIPE_CPUS | CPUs the embedded Ray may use | all of this machine |
| GENPIPE_DEVICE | auto, cpu or cuda: of this machine, or of the workers of the cluster joined | auto |
| GENPIPE_SERVE_MAX_ROWS | rows a served model makes for one request, of all its tables together | 100000 |
| GENPIPE_SERVE_MAX_CELLS | rows x columns of one request; or rows x pixels, samples, tokens | 2000000 |
| GENPIPE_SERVE_MAX_BYTES | of one request to a served model | 4194304 |
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from genpipe.errors import UsageError, refuse_keys, unknown
from genpipe.private import close_home, make_home
from genpipe.redaction import link

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Settings:
    home: Path
    store: str
    tracking_uri: str
    ray_address: str
    cpus: int
    device: str

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def artifacts(self) -> str:
        """Where MLflow keeps bundles when it runs on its embedded database."""
        return str(self.home / "mlartifacts")


@dataclass(frozen=True)
class ServeLimits:
    """What one request to a served model may ask for."""

    rows: int
    cells: int
    bytes: int


def serve_limits() -> ServeLimits:
    """Read the environment now; a wrong value is a UsageError that names the variable."""
    return ServeLimits(
        rows=_count("GENPIPE_SERVE_MAX_ROWS", 100_000),
        cells=_count("GENPIPE_SERVE_MAX_CELLS", 2_000_000),
        bytes=_count("GENPIPE_SERVE_MAX_BYTES", 4 * 2**20),
    )


def _count(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 19) or int(text) < 1:
        raise UsageError(
            "LIMIT", where=variable, found=repr(text[:80]), expected="a whole number of at least 1"
        )
    return int(text)


def read_settings() -> Settings:
    """Read the environment now; a wrong value is a UsageError that names the variable.

    A home that is there is closed to other users; none is made, see `make_folder`.
    """
    env, home = os.environ, _home()
    if home.is_file():
        raise _no_home(home, "a file")
    close_home(home)
    device = env.get("GENPIPE_DEVICE", "auto")
    if device not in DEVICES:
        raise unknown("device", device, DEVICES, where="GENPIPE_DEVICE")
    cpus = env.get("GENPIPE_CPUS", str(_usable_cpus()))
    if not cpus.isdigit() or int(cpus) < 1:
        raise UsageError(
            "CPUS", where="GENPIPE_CPUS", found=repr(cpus), expected="a whole number of at least 1"
        )
    store = env.get("GENPIPE_STORE", str(home / "store")).rstrip("/")
    refuse_keys(store, where="GENPIPE_STORE")
    return Settings(
        home=home,
        store=store if "://" in store else str(Path(store).expanduser().absolute()),
        tracking_uri=env.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}"),
        ray_address=env.get("RAY_ADDRESS", "local"),
        cpus=int(cpus),
        device=device,
    )


def registry_variables() -> dict[str, str]:
    """What a shell sets so that `mlflow` and consumers find this registry. Passwords are not repeated."""
    settings = read_settings()
    return {
        "GENPIPE_HOME": str(settings.home),
        "MLFLOW_TRACKING_URI": link(settings.tracking_uri),
    }


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it; the home, where it is one of them, for this user alone."""
    home = _home()
    if home in (folder, *folder.parents):
        try:
            make_home(home)
            why = "" if home.is_dir() else "a file"
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            raise _no_home(home, why)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _no_home(home: Path, why: str) -> UsageError:
    fix, expected = "set GENPIPE_HOME to another, or unset it", "a folder that can be made and written"
    return UsageError("HOME", where=str(home), found=why, expected=expected, fix=fix)


def _home() -> Path:
    """What the variable says; else the nearest .genpipe, in this folder or one above it, as git finds .git.
    One that belongs to somebody else is passed over: who makes a folder in /tmp decides for nobody.
    """
    if named := os.environ.get("GENPIPE_HOME"):
        return Path(named).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        with suppress(OSError):
            found = (folder / ".genpipe").lstat()
            if stat.S_ISDIR(found.st_mode) and (folder == here or found.st_uid == os.geteuid()):
                return folder / ".genpipe"
    return here / ".genpipe"


def _usable_cpus() -> int:
    """The CPUs this process may run on, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
