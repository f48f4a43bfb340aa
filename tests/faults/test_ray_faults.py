"""Parts of Ray killed or stopped under each stage: noticed soon, said in one line with exit code 4 where work
cannot go on, gone on with where it can; always the bytes of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from small_dataset import small_dataset
from test_train_faults import same, weights

import genpipe
from genpipe.progress import Event
from genpipe.stages import heartbeat
from genpipe.stages.ray_internals import orphaned_groups
from genpipe.stages.train.workers import release_orphans

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes by name"),
]
ROOT = Path(genpipe.__file__).parent.parent
RECIPE = {"base": "tabular_vae", "training": {"steps": 400, "evaluate_every": 100, "checkpoint_every": 20}}
LONG = {"base": "tabular_vae", "training": {"steps": 10**5, "evaluate_every": 100, "checkpoint_every": 100}}
DRIVER = """
import json, sys
import genpipe
verb, data, recipe = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
def say(event):
    print("at", event.stage, event.done, event.note, flush=True)
try:
    if verb == "train":
        genpipe.train(data, recipe=recipe, workers=1, progress=say)
    elif verb == "tune":
        search = {"recipes": ["tabular_vae"], "vary": {"steps": [10000, 20000]}, "trials": 2}
        genpipe.tune(data, progress=say, **search)
    else:
        model = genpipe.train(data, recipe={"base": "tabular_vae", "training": {"steps": 20}})
        genpipe.generate(model, rows=5 * 10**7, workers=1, progress=say)
except genpipe.errors.GenpipeError as error:
    print("said", error.exit_code, error.code, error, flush=True)
    sys.exit(error.exit_code)
"""
UNDER_WAY = {"train": "at train 1", "tune": " %", "generate": "at generate 1"}


def children(of: int, words: str) -> list[psutil.Process]:
    """Processes below one whose command line has these words, the oldest first."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        with suppress(psutil.Error):
            if words in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return sorted(found, key=lambda p: p.create_time())


@pytest.mark.parametrize("verb", ["train", "tune", "generate"])
@pytest.mark.parametrize("part", ["gcs/gcs_server", "raylet/raylet ", "ray::DashboardAgent"])
def test_a_killed_part_of_ray_ends_the_command_soon_and_with_words(
    part: str, verb: str, home: Path, tmp_path: Path
) -> None:
    data = small_dataset(str(home / "store/datasets/people")).uri
    command = [sys.executable, "-c", DRIVER, verb, data, json.dumps(LONG)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = tmp_path / "driver.log"
    with open(log, "w") as out:
        driver = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )
    try:
        end = time.monotonic() + 200
        while UNDER_WAY[verb] not in log.read_text():
            assert driver.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.1)
        children(driver.pid, part)[-1].kill()
        began = time.monotonic()
        assert driver.wait(timeout=60) == 4, log.read_text()[-3000:]
        seconds = time.monotonic() - began
    finally:
        with suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
    said = log.read_text()
    assert "said 4 RAY" in said and "run the same command again" in said
    assert seconds < 45, f"noticed after {seconds:.0f} s"


def test_only_groups_whose_maker_is_dead_are_orphans(ray_cluster: dict[str, float]) -> None:
    import ray

    class Maker:
        def make(self) -> tuple[int, str]:
            self.group = ray.util.placement_group([{"CPU": 0.1}])
            ray.get(self.group.ready())
            return os.getpid(), self.group.id.hex()

    def known() -> list[str]:
        return [group.id.hex() for group in orphaned_groups()]

    own = ray.util.placement_group([{"CPU": 0.1}])
    ray.get(own.ready())
    living, dying = (ray.remote(num_cpus=0)(Maker).remote() for _ in range(2))
    pid, orphan = ray.get(dying.make.remote())
    ray.get(living.make.remote())
    assert known() == []
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while not known() and time.monotonic() < end:
        time.sleep(0.1)
    assert known() == [orphan]
    release_orphans()
    assert known() == []
    ray.util.remove_placement_group(own)
    ray.kill(living)
    release_orphans()


@pytest.mark.parametrize("stopped", [False, True], ids=["killed", "stopped"])
def test_a_controller_that_ends_leaves_nothing_and_the_same_command_goes_on(
    stopped: bool,
    home: Path,
    ray_cluster: dict[str, float],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 20.0)
    dataset, killed, steps = small_dataset(str(home / "store/datasets/people")), [], []

    def kill_one(event: Event) -> None:
        steps.append(event.done)
        if not killed and 60 < event.done < 350:
            killed.extend(children(os.getpid(), "TrainController"))
            killed[-1].suspend() if stopped else killed[-1].kill()

    # two workers of two CPUs: what the dead one held is needed
    model = genpipe.train(dataset, recipe=RECIPE, workers=2, progress=kill_one)
    assert killed and not killed[0].is_running() and steps[-1] == 400
    assert stopped or sum("attempt failed" in message for message in caplog.messages) == 1
    assert not stopped or sum("stood still" in message for message in caplog.messages) == 1
    assert orphaned_groups() == [] and not children(os.getpid(), "PlacementGroupCleaner")
    whole = genpipe.train(dataset, recipe=RECIPE, workers=2, tag="undisturbed")
    assert same(weights(model), weights(whole))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_worker_that_stands_still_is_replaced_within_two_minutes(
    workers: int, home: Path, ray_cluster: dict[str, float]
) -> None:
    dataset = small_dataset(str(home / "store/datasets/people"))
    stopped: list[float] = []
    after: list[float] = []

    def stop_one(event: Event) -> None:
        if stopped:
            after.append(time.monotonic())
        elif 60 < event.done < 350:
            children(os.getpid(), "RayTrainWorker")[-1].suspend()
            stopped.append(time.monotonic())

    model = genpipe.train(dataset, recipe=RECIPE, workers=workers, progress=stop_one)
    assert stopped
    waited = max(b - a for a, b in zip([*stopped, *after], after, strict=False))
    assert heartbeat.SILENT_SECONDS * 0.9 < waited < 120
    whole = genpipe.train(dataset, recipe=RECIPE, workers=workers, tag="undisturbed")
    assert same(weights(model), weights(whole))


def test_a_generating_worker_that_stands_still_is_replaced(
    home: Path,
    ray_cluster: dict[str, float],
    table_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 8.0)
    request = {"rows": 6000, "rows_per_part": 500, "seed": 5}
    undisturbed = genpipe.generate(table_bundle, output=str(tmp_path / "calm"), workers=0, **request)
    stopped: list[psutil.Process] = []

    def stop_one(event: Event) -> None:
        if not stopped and (found := children(os.getpid(), "ray::make_part")):
            found[0].suspend()
            stopped.append(found[0])

    made = genpipe.generate(
        table_bundle, output=str(tmp_path / "out"), workers=2, progress=stop_one, **request
    )
    assert stopped and not stopped[0].is_running()
    assert made.fingerprint == undisturbed.fingerprint


def test_a_trial_that_stands_still_is_tried_again(
    home: Path, ray_cluster: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 8.0)
    dataset = small_dataset(str(home / "store/datasets/people"))
    stopped: list[psutil.Process] = []

    def stop_one(event: Event) -> None:
        if not stopped and " %" in event.note and (found := children(os.getpid(), "ray::ResourceTrainable")):
            found[0].suspend()
            stopped.append(found[0])

    search = {"recipes": ["tabular_vae"], "vary": {"steps": [400, 500]}, "trials": 2}
    found = genpipe.tune(dataset, progress=stop_one, **search)
    assert stopped and not stopped[0].is_running()
    assert {"finished"} <= {t.state for t in found.trials} <= {"finished", "stopped"}  # ASHA stops a laggard


START = """
import os, sys, threading, time
import psutil
from genpipe.errors import GenpipeError
from genpipe.stages import cluster
kills = int(sys.argv[1])
def kill():
    seen = set()
    while len(seen) < kills:
        for p in psutil.Process().children(recursive=True):
            try:
                if p.pid not in seen and "gcs/gcs_server" in p.cmdline()[0]:
                    seen.add(p.pid)
                    p.kill()
            except (psutil.Error, IndexError):
                pass
        time.sleep(0.01)
threading.Thread(target=kill, daemon=True).start()
try:
    print("has", cluster.connect()["CPU"], flush=True)
    cluster.disconnect()
except GenpipeError as error:
    print("said", error.exit_code, error.code, error, flush=True)
"""


@pytest.mark.parametrize(("kills", "said"), [(1, "has 2.0"), (99, "said 4 RAY RAY_ADDRESS=local")])
def test_a_ray_that_dies_while_it_starts_is_started_once_more(kills: int, said: str, home: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", START, str(kills)],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert said in done.stdout, done.stdout + done.stderr[-3000:]
    assert "unset RAY_ADDRESS" not in done.stdout


def test_an_address_where_nobody_answers_is_named_within_a_minute(
    home: Path,
) -> None:
    code = "from genpipe.stages import cluster; cluster.connect()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "127.0.0.1:9"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "InfrastructureError: RAY_ADDRESS=127.0.0.1:9: nobody answers there" in done.stderr
    assert time.monotonic() - began < 60
