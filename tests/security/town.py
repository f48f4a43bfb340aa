"""Two network namespaces on one wire: a house in which a run works, and a stranger outside of it.

Whatever listens in the house belongs to the run, so no listener can be overlooked. Nothing of the machine's
own network is touched. The addresses are of the range for documentation, 198.51.100.0/24.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

HOUSE, STRANGER = "198.51.100.11", "198.51.100.12"
NOBODY = 65534
PROGRAM = (Path(__file__).parent / "stranger.py").read_text()
# without these Ray's client would look at the outward address, and try it twenty times
STRANGERS_RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
LOOPBACK = ("127.", "[::1]", "::1", "[::ffff:127.")


@dataclass(frozen=True)
class Listener:
    protocol: str
    host: str
    port: int
    process: str

    @property
    def on_loopback(self) -> bool:
        return self.host.startswith(LOOPBACK)


@dataclass
class Town:
    """The house and the stranger; `folder` may be entered by everybody, as a folder in /home may."""

    house: str
    outside: str
    folder: Path
    running: list[subprocess.Popen] = field(default_factory=list)

    def start(
        self, command: list[str], environment: Mapping[str, str], *, log: str = "run.log"
    ) -> subprocess.Popen:
        """A process in the house, in a session of its own."""
        names = ("RAY_", "PREFECT_", "GENPIPE_", "MLFLOW_", "AWS_", "GLOO_", "NCCL_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(names)}
        with open(self.folder / log, "ab") as out:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.house, *command],
                env=clean | {"OMP_NUM_THREADS": "1"} | dict(environment),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def listeners(self) -> list[Listener]:
        """All of TCP and UDP in the house."""
        command = ["ip", "netns", "exec", self.house, "ss", "-Hlntup"]
        found = []
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
            words = line.split()
            host, _, port = words[4].rpartition(":")
            named = re.search(r'"([^"]+)"', line)
            found.append(Listener(words[0], host, int(port), named[1] if named else "?"))
        return found

    def sockets(self) -> list[str]:
        """Paths of the Unix sockets in the house."""
        text = self.inside(["cat", "/proc/net/unix"])
        return sorted({p for line in text.splitlines() if (p := line.split()[-1]).startswith("/")})

    def inside(self, command: list[str]) -> str:
        command = ["ip", "netns", "exec", self.house, *command]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def processes(self) -> list[psutil.Process]:
        pids = subprocess.run(
            ["ip", "netns", "pids", self.house], check=True, capture_output=True, text=True
        ).stdout.split()
        return [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]

    def tries(
        self,
        attempts: list[list],
        *,
        outside: bool = True,
        nobody: bool = True,
        given: Mapping[str, str] | None = None,
    ) -> list:
        """What the stranger's attempts give. nobody: with that user's rights, else with ours but no token.
        given: what a stranger would have had to find out.
        """
        where = self.outside if outside else self.house
        python = [str(shutil.which("python3", path="/usr/bin:/bin")), "-I"] if nobody else [sys.executable]
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if nobody else []
        done = subprocess.run(
            ["ip", "netns", "exec", where, *user, *python, "-c", PROGRAM],
            input=json.dumps(attempts),
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **STRANGERS_RAY, **(given or {})},
            cwd="/",
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    def end(self) -> None:
        """Kill what runs in the house, hard, as a machine out of memory would."""
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        for child in self.running:
            child.wait(timeout=30)


@pytest.fixture
def town() -> Iterator[Town]:
    needed = ("ip", "ss", "setpriv")
    missing = [name for name in needed if shutil.which(name) is None]
    if os.geteuid() != 0 or missing or not shutil.which("python3", path="/usr/bin:/bin"):
        pytest.skip(f"network namespaces need root and the system's python3; missing: {missing or 'root'}")
    mark = uuid.uuid4().hex[:6]
    town = Town(f"house-{mark}", f"outside-{mark}", Path(tempfile.mkdtemp(prefix="town-")))
    town.folder.chmod(0o755)
    try:
        for name in (town.house, town.outside):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", f"h{mark}", "netns", town.house, "type", "veth",
            "peer", "name", f"o{mark}", "netns", town.outside)  # fmt: skip
        for name, link, address in ((town.house, f"h{mark}", HOUSE), (town.outside, f"o{mark}", STRANGER)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
        # a way out, so that programs see an outward address, as they do on a real machine
        _ip("-n", town.house, "route", "add", "default", "via", STRANGER)
        yield town
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr}")
    finally:
        for name in (town.house, town.outside):
            if Path("/run/netns", name).exists():
                if name == town.house:
                    town.end()
                _ip("netns", "del", name)
        shutil.rmtree(town.folder, ignore_errors=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
