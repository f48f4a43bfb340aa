"""Nobody gets in: every port and socket of a run, tried without credentials from outside and from beside."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest
from pyarrow import csv
from small_dataset import small_dataset, small_table
from town import HOUSE, Listener, Town

ROOT = Path(__file__).parents[2]
READY_SECONDS, STARTS = 240, 3  # generous: on an idle machine some 15 s, once
CANARY = "height"  # a column of the training data
# a call of each of Ray's servers; the first of a kind runs code, or reads what others store
CALLS = [
    "/ray.rpc.InternalKVGcsService/InternalKVPut",
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.ObjectManagerService/Push",
    "/ray.rpc.CoreWorkerService/PushTask",
]
RAYS = ("gcs_server", "raylet", "ray::")
REFUSED, UNKNOWN_CALL = "16", "12"
TRAIN = """
import sys
from pathlib import Path
from genpipe.flows.embedded import prefect_api
from genpipe.stages.cluster import connect
from genpipe.verbs import train
def follow(event):
    if event.stage == "train":
        Path(sys.argv[2]).write_text(str(int(event.done)))
steps = {"steps": 10**7, "evaluate_every": 10**6, "checkpoint_every": 500}
recipe = {"base": "tabular_vae", "training": steps}
connect()
with prefect_api():
    train(sys.argv[1], recipe=recipe, workers=2, progress=follow)
"""
GENERATE = """
import sys
from pathlib import Path
from genpipe.verbs import generate
from genpipe.verbs import train
recipe = {"base": "tabular_vae", "training": {"steps": 20, "evaluate_every": 20}}
model = train(sys.argv[1], recipe=recipe)
def follow(event):
    if event.stage == "generate":
        Path(sys.argv[2]).write_text(str(int(event.done)))
generate(model.uri, rows=10**9, rows_per_part=20_000, workers=2, progress=follow)
"""
TUNE = """
import sys
from pathlib import Path
from genpipe.verbs import tune
def follow(event):
    Path(sys.argv[2]).write_text("1")
tune(sys.argv[1], recipes=["tabular_vae"], trials=4, workers=WORKERS, progress=follow)
"""
FLOW = """
import sys
from pathlib import Path
from genpipe.flows.run import run
def follow(event):
    if event.stage == "train":
        Path(sys.argv[2]).write_text(str(int(event.done)))
spec = {
    "name": "folk",
    "source": {"path": sys.argv[3], "target": "group"},
    "recipe": {"base": "tabular_vae", "training": {"steps": 10**6, "evaluate_every": 10**5}},
    "train": {"workers": 2},
}
run(spec, progress=follow)
"""


def begin(town: Town, monkeypatch: pytest.MonkeyPatch, script: str) -> tuple[Path, Path]:
    """Start a run in the house and wait until it works; (home, a file that counts its steps)."""
    home, count = town.folder / "home", town.folder / "count"
    monkeypatch.setenv("GENPIPE_HOME", str(home))
    before = os.umask(0)  # a careless user's
    try:
        dataset = small_dataset(str(home / "store" / "datasets" / "people"))
        table = home / "people.csv"
        csv.write_csv(small_table(400), table)
        environment = {"GENPIPE_HOME": str(home), "GENPIPE_CPUS": "2", "PYTHONPATH": str(ROOT)}
        for _ in range(STARTS):  # Ray gives up its own start after 30 s, which a busy machine may take
            words = [script, dataset.uri, str(count), str(table)]
            run = town.start([sys.executable, "-c", *words], environment)
            end = time.monotonic() + READY_SECONDS
            while run.poll() is None and time.monotonic() < end:
                if steps(count) > 0:
                    return home, count
                time.sleep(0.2)
            town.end()
    finally:
        os.umask(before)
    pytest.fail(f"the run did not begin: {(town.folder / 'run.log').read_text()[-3000:]}")


def steps(count: Path) -> int:
    try:
        return int(count.read_text() or 0)
    except FileNotFoundError:
        return 0


def environments(town: Town) -> dict[str, str]:
    """What the processes of the house are told, together."""
    told: dict[str, str] = {}
    for process in town.processes():
        try:
            told |= process.environ()
        except psutil.Error:
            continue
    return told


def open_to_others(folder: Path) -> list[str]:
    return [
        f"{path} {stat.S_IMODE(path.lstat().st_mode):o}"
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]


def from_outside(town: Town, listeners: list[Listener]) -> None:
    """No port can be reached from the network, while one that is meant to be can."""
    town.start([sys.executable, "-m", "http.server", "8099", "--directory", "/usr"], {}, log="control.log")
    end = time.monotonic() + 30
    while (control := town.tries([["connect", HOUSE, 8099]])) != ["open"] and time.monotonic() < end:
        time.sleep(0.2)
    assert control == ["open"], "the stranger's wire is cut: this test would see nothing"
    assert [x for x in listeners if not x.on_loopback] == []
    got = town.tries([["connect", HOUSE, x.port] for x in listeners if x.protocol == "tcp"])
    assert dict(zip(listeners, got, strict=True)) == dict.fromkeys(listeners, "ConnectionRefusedError")


def from_beside(town: Town, home: Path, listeners: list[Listener]) -> None:
    """Another user of the same machine, whom loopback lets in, is refused by what listens there."""
    told = environments(town)
    ports = sorted({x.port for x in listeners})
    paths = [("GET", "/"), ("GET", "/metrics"), ("POST", "/api/flows/filter"), ("GET", "/api/admin/settings")]
    asked = [["http", "127.0.0.1", port, *path] for port in ports for path in paths]
    for attempt, (status, body) in zip(asked, town.tries(asked, outside=False), strict=True):
        counters = body.startswith("# HELP autoscaler_")  # Ray's autoscaler tells its own to everybody
        assert status in (0, 401, 403, 404, 405) or counters, (attempt, status, body[:300])
        for secret in (CANARY, str(home), told.get("RAY_AUTH_TOKEN", "?" * 9)):
            assert secret not in body, attempt
    health = [["http", "127.0.0.1", port, "GET", "/api/health"] for port in ports]
    answers = town.tries(health, outside=False)
    prefect = [port for port, answer in zip(ports, answers, strict=True) if answer == [200, "true"]]
    assert len(prefect) == ("PREFECT_SERVER_API_AUTH_STRING" in told)  # health alone is told to everybody
    api = [["http", "127.0.0.1", port, "POST", "/api/flows/filter"] for port in prefect]
    assert [status for status, _ in town.tries(api, outside=False)] == [401] * len(api)
    rays = [x for x in listeners if x.process.startswith(RAYS) or x.process in ("python", "python3")]
    calls = [["grpc", "127.0.0.1", x.port, call] for x in rays for call in CALLS]
    got = town.tries(calls, outside=False, nobody=False)
    # others than Ray's servers do not speak gRPC and break off
    assert {g for g in got if g.isdigit() or g == "answered"} == {REFUSED, UNKNOWN_CALL}
    for server in ("gcs_server", "raylet", "ray::"):
        ports = [x.port for x in rays if x.process.startswith(server)]
        assert REFUSED in [g for c, g in zip(calls, got, strict=True) if c[2] in ports]
    gcs = next(x.port for x in listeners if x.process == "gcs_server")
    join = [["join", f"127.0.0.1:{gcs}"]]
    assert town.tries(join, outside=False, nobody=False) == ["ConnectionError"]
    # the token is what keeps them out: whoever had it would be in
    token = {name: told[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    assert town.tries(join, outside=False, nobody=False, given=token) == [f"ran as user {os.getuid()}"]


def among_files(town: Town, home: Path) -> None:
    """Another user of the same machine opens nothing of the run's: no file, folder or Unix socket."""
    sockets = [path for path in town.sockets() if "genpipe" in path or "ray" in path]
    assert any(path.endswith("sockets/raylet") for path in sockets)
    ray = Path(next(p for p in sockets if p.endswith("sockets/raylet"))).parents[3]
    data = next(home.rglob("*.parquet"))
    tried = [[verb, path] for path in sockets for verb in ("talk", "move")]
    tried += [
        ["read", str(p)] for p in (home, data, home / "prefect/prefect.db", home / "logs", ray, ray / "r")
    ]
    tried += [["move", str(p)] for p in (home, ray, data)]
    assert dict(zip(map(str, tried), town.tries(tried, outside=False), strict=True)) == dict.fromkeys(
        map(str, tried), "PermissionError"
    )
    assert open_to_others(home) == []
    assert stat.S_IMODE(ray.stat().st_mode) == 0o700


def token_is_nowhere(town: Town, home: Path) -> None:
    """Tokens are in environments, which only their user may read, and nowhere else."""
    told = environments(town)
    names = ("RAY_AUTH_TOKEN", "PREFECT_SERVER_API_AUTH_STRING")
    tokens = [told[name].split(":")[-1].encode() for name in names if name in told]
    assert tokens and all(len(token) == 64 for token in tokens)
    for process in town.processes():
        words = Path(f"/proc/{process.pid}/cmdline")
        assert not any(token in words.read_bytes() for token in tokens if words.exists())
    ray = Path(next(p for p in town.sockets() if p.endswith("sockets/raylet"))).parents[3]
    for path in [*home.rglob("*"), *ray.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            assert not any(token in path.read_bytes() for token in tokens), path


def attack(town: Town, home: Path) -> None:
    listeners = town.listeners()
    assert {"gcs_server", "raylet"} <= {x.process for x in listeners}
    from_outside(town, listeners)
    from_beside(town, home, listeners)
    among_files(town, home)
    token_is_nowhere(town, home)


@pytest.mark.slow
def test_nobody_gets_into_training_on_ray_with_an_embedded_prefect(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, count = begin(town, monkeypatch, TRAIN)
    attack(town, home)
    # what the ports between training workers are told by a stranger does not stop the training
    ports = sorted({x.port for x in town.listeners() if x.port != 8099})
    town.tries([["garbage", "127.0.0.1", port] for port in ports], outside=False)
    reached, end = steps(count), time.monotonic() + 60
    while steps(count) <= reached + 5 and time.monotonic() < end:
        time.sleep(0.2)
    assert steps(count) > reached + 5
    # a killed run leaves nothing that others may read, and a later one takes its folder away
    ray = Path(next(p for p in town.sockets() if p.endswith("sockets/raylet"))).parents[3]
    town.end()
    assert open_to_others(home) == []
    assert ray.exists() and stat.S_IMODE(ray.stat().st_mode) == 0o700
    from genpipe.private import Scratch

    os.utime(ray, (0, 0))
    Scratch("ray").remove()
    assert not ray.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "script",
    [GENERATE, TUNE.replace("WORKERS", "0"), TUNE.replace("WORKERS", "2"), FLOW],
    ids=["generate", "tune", "tune with workers", "flow"],
)
def test_nobody_gets_into_any_embedded_mode(town: Town, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    home, _ = begin(town, monkeypatch, script)
    end = time.monotonic() + READY_SECONDS
    while not any(x.process.startswith("ray::") for x in town.listeners()) and time.monotonic() < end:
        time.sleep(0.5)
    time.sleep(10)  # until workers of the second level have started
    attack(town, home)
