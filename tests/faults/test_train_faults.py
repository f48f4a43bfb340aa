"""Real kills: what was trained is not lost, and the resumed run is the uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from small_dataset import small_dataset

from genpipe.progress import Event
from genpipe.stages.train.process import TrainedModel
from genpipe.verbs import train

pytestmark = pytest.mark.faults
RECIPE = {"base": "tabular_vae", "training": {"steps": 400, "evaluate_every": 100, "checkpoint_every": 20}}
DRIVER = """
import json, sys
from genpipe.verbs import train
train(sys.argv[1], recipe=json.loads(sys.argv[2]), workers=int(sys.argv[3]), final=sys.argv[4])
"""


def start_driver(dataset: str, workers: int, final: str = "train") -> subprocess.Popen:
    import json

    command = [sys.executable, "-c", DRIVER, dataset, json.dumps(RECIPE), str(workers), final]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def wait_for_checkpoint(home: Path, process: subprocess.Popen, step: int, *, done: str = "") -> None:
    """done: a run that does not count."""
    end = time.monotonic() + 120
    while not [
        p
        for p in home.glob("store/runs/*/checkpoints/*.json")
        if int(p.name[:8]) >= step and str(p.parent.parent) != done
    ]:
        assert process.poll() is None, "the driver ended before it was killed"
        assert time.monotonic() < end, "no checkpoint in 120 s"
        time.sleep(0.01)


def weights(model: TrainedModel) -> dict:
    return load_file(Path(model.uri) / "weights.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a)


def test_a_killed_driver_resumes_bit_for_bit(home: Path) -> None:
    dataset = small_dataset(str(home / "store" / "datasets" / "people"))
    driver = start_driver(dataset.uri, workers=0)
    wait_for_checkpoint(home, driver, 40)
    driver.kill()
    driver.wait()
    assert not list(home.glob("store/runs/*/result.json")), "it was killed too late to show anything"
    steps: list[float] = []
    resumed = train(dataset, recipe=RECIPE, progress=lambda e: steps.append(e.done))
    assert min(s for s in steps if s) > 40
    whole = train(dataset, recipe=RECIPE, tag="undisturbed")
    assert same(weights(resumed), weights(whole))
    assert resumed.metrics == whole.metrics


def test_learning_all_rows_that_was_killed_goes_on_with_the_second_training(home: Path) -> None:
    dataset = small_dataset(str(home / "store" / "datasets" / "people"))
    twin = train(dataset, recipe=RECIPE)
    driver = start_driver(dataset.uri, workers=0, final="all")
    wait_for_checkpoint(home, driver, 40, done=twin.run)
    driver.kill()
    driver.wait()
    assert len(list(home.glob("store/runs/*/result.json"))) == 1, "it was killed too late to show anything"
    steps: list[float] = []
    told = {"progress": lambda e: steps.append(e.done) if e.stage == "train" else None}
    resumed = train(dataset, recipe=RECIPE, final="all", **told)
    assert min(s for s in steps if s) > 40
    whole = train(dataset, recipe=RECIPE, final="all", tag="undisturbed")
    assert same(weights(resumed), weights(whole)) and resumed.metrics == whole.metrics
    assert not same(weights(resumed), weights(twin))


def ray_workers() -> list[psutil.Process]:
    """The training workers of the Ray this process started, not of any other on this machine."""
    return [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]


def test_a_killed_ray_worker_is_replaced_and_goes_on(home: Path, ray_cluster: dict[str, float]) -> None:
    dataset = small_dataset(str(home / "store" / "datasets" / "people"))
    killed: list[int] = []
    after: list[float] = []

    def kill_one(event: Event) -> None:
        if killed:
            after.append(event.done)
        elif 60 < event.done < 350:
            victim = ray_workers()[-1]
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(int(event.done))

    model = train(dataset, recipe=RECIPE, workers=2, progress=kill_one)
    assert killed, "nothing was killed"
    assert after[-1] == 400
    whole = train(dataset, recipe=RECIPE, tag="undisturbed")
    assert model.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=0.02)


@pytest.mark.slow
def test_a_killed_ray_driver_resumes_on_rerun(home: Path, ray_cluster: dict[str, float]) -> None:
    dataset = small_dataset(str(home / "store" / "datasets" / "people"))
    driver = start_driver(dataset.uri, workers=1)
    wait_for_checkpoint(home, driver, 40)
    os.killpg(driver.pid, signal.SIGKILL)  # Ray's daemons too: the machine is gone
    driver.wait()
    steps: list[float] = []
    resumed = train(dataset, recipe=RECIPE, workers=1, progress=lambda e: steps.append(e.done))
    assert min(s for s in steps if s) > 40
    whole = train(dataset, recipe=RECIPE, workers=1, tag="undisturbed")
    assert same(weights(resumed), weights(whole))
