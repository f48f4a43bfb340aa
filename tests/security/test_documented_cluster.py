"""The cluster as infra/compose.yaml starts it: a stranger on its network is refused, its owner is served."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import time
from pathlib import Path

import pytest
import yaml
from small_dataset import small_dataset
from test_listeners import CALLS, RAYS, REFUSED, UNKNOWN_CALL
from town import HOUSE, Town

from genpipe import store

ROOT = Path(__file__).parents[2]
START_SECONDS, TRAIN_SECONDS = 180, 400
TRAIN = """
import sys
from genpipe.verbs import train
recipe = {"base": "tabular_vae", "training": {"steps": 20, "evaluate_every": 20}}
print("model", train(sys.argv[1], recipe=recipe, workers=2), flush=True)
"""


def documented(service: str, token: str) -> tuple[list[str], dict[str, str]]:
    """Command and Ray's part of the environment of a compose service."""
    part = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"][service]
    told = {k: v for k, v in part["environment"].items() if k.startswith("RAY_AUTH")}
    assert told["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray if word == "ray" else word for word in shlex.split(part["command"])]
    return [word.replace("--num-cpus=1", "--num-cpus=2") for word in command], told | {
        "RAY_AUTH_TOKEN": token
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_documented_cluster_refuses_a_stranger_and_serves_its_owner(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, environment = documented("ray-head", secrets.token_hex(32))
    temporary = town.folder / "ray"  # a container has a /tmp of its own
    head = town.start([*command, f"--temp-dir={temporary}"], environment, log="head.log")
    end = time.monotonic() + START_SECONDS
    while not {"gcs_server", "raylet"} <= {x.process for x in town.listeners()}:
        assert head.poll() is None and time.monotonic() < end, (town.folder / "head.log").read_text()[-2000:]
        time.sleep(0.5)
    address = f"{HOUSE}:6379"
    open_ports = [x for x in town.listeners() if not x.on_loopback]
    assert 6379 in {x.port for x in open_ports}  # this one is meant to be reached, by who has the token
    # without the token, from another machine
    cluster = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    assert town.tries([["join", address]], nobody=False, given=cluster) == ["ConnectionError"]
    rays = [x for x in open_ports if x.process.startswith(RAYS)]
    calls = [["grpc", HOUSE, x.port, call] for x in rays for call in CALLS]
    got = town.tries(calls, nobody=False)
    assert (
        REFUSED in got
        and {g for g in got if g.isdigit()} <= {REFUSED, UNKNOWN_CALL}
        and "answered" not in got
    )
    # with it
    home = town.folder / "home"
    monkeypatch.setenv("GENPIPE_HOME", str(home))
    dataset = small_dataset(str(home / "store" / "datasets" / "people"))
    owner = environment | {"GENPIPE_HOME": str(home), "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    run = town.start([sys.executable, "-c", TRAIN, dataset.uri], owner)
    assert run.wait(TRAIN_SECONDS) == 0, (town.folder / "run.log").read_text()[-3000:]
    assert store.exists(store.join(str(next((home / "store" / "runs").iterdir())), "result.json"))
    assert os.environ.get("RAY_AUTH_TOKEN") != environment["RAY_AUTH_TOKEN"]
