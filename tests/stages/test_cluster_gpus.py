"""A cluster whose nodes declare GPUs: the driver, on a node without any as a Prefect worker is, finds them;
workers are put there; where torch sees none the worker says so or, with `auto`, does without.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import genpipe

ROOT = Path(genpipe.__file__).parent.parent
RECIPE = {"base": "tabular_vae", "training": {"steps": 40, "evaluate_every": 20, "checkpoint_every": 20}}
DRIVER = """
import json, os, sys
from ray.cluster_utils import Cluster

def patiently(start):
    for last in (False, False, True):
        try:
            return start()
        except Exception:  # Ray gives a node 30 s to start, which a busy machine exceeds
            if last:
                raise

head = {"num_cpus": 0, "include_dashboard": False}
cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
patiently(lambda: cluster.add_node(num_cpus=2, num_gpus=1))  # declared; there need not be one
os.environ["RAY_ADDRESS"] = cluster.address
import genpipe
from genpipe.errors import GenpipeError
from genpipe.stages import cluster as ours
from small_dataset import small_dataset

data, recipe = small_dataset(sys.argv[1] + "/store/datasets/people"), json.loads(sys.argv[2])

def told(device, work):
    os.environ["GENPIPE_DEVICE"] = device
    try:
        print(json.dumps([device, None, str(work())]), flush=True)
    except GenpipeError as error:
        print(json.dumps([device, error.exit_code, f"{error.code} {error}"]), flush=True)

told("cpu", lambda: genpipe.train(data, recipe=recipe))
told("auto", lambda: genpipe.train(data, recipe=recipe, workers=1))
told("cuda", lambda: genpipe.train(data, recipe=recipe, workers=1, tag="cuda"))
told("cuda", lambda: genpipe.train(data, recipe=recipe, workers=2, tag="two"))
model = genpipe.train(data, recipe=recipe)  # trained before
told("cuda", lambda: genpipe.generate(model, rows=100))
told("cuda", lambda: genpipe.tune(data, recipes=["tabular_vae"], vary={"steps": [20, 30, 40, 50]}, trials=4))
told("auto", lambda: genpipe.generate(model, rows=100))
few = {"base": "tabular_any_order", "training": {"steps": 4, "evaluate_every": 4, "checkpoint_every": 4}}
with open(sys.argv[1] + "/rows.csv", "w") as file:
    file.write("height,sex\\n170.0,f\\n,m\\n")
told("cpu", lambda: genpipe.train(data, recipe=few))
filler = genpipe.train(data, recipe=few)
told("cuda", lambda: genpipe.impute(filler, sys.argv[1] + "/rows.csv"))
told("cuda", lambda: genpipe.likelihood(filler, sys.argv[1] + "/rows.csv"))
told("auto", lambda: genpipe.impute(filler, sys.argv[1] + "/rows.csv"))
ours.disconnect()
cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.is_available(), reason="its GPUs must be declared and not be there")
def test_gpus_that_a_cluster_declares_are_used_or_missed_by_name(tmp_path: Path) -> None:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "GENPIPE_"))},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "GENPIPE_HOME": str(tmp_path / "home"),
        "GENPIPE_CPUS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    }
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "home"), json.dumps(RECIPE)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=580, check=False
    )
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(said) == 11, done.stderr[-3000:]
    here, auto, trained, two, generated, tuned, made, _, imputed, judged, filled = said
    assert here[1] is None and auto[1] is None and made[1] is None and filled[1] is None, said
    assert here[2].rsplit("/", 1)[1] == auto[2].rsplit("/", 1)[1]  # the content's hash: the same weights
    assert "nodes declare GPUs, and torch sees none on them: working on CPUs" in done.stderr
    on_gpu = (trained, generated, imputed, judged)  # Ray put these on the node that declares GPU 0
    for _, code, text in on_gpu:
        assert code == 4 and text.startswith("GPU ") and "CUDA_VISIBLE_DEVICES: 0" in text
    assert two[1] == 2 and "2 workers, one GPU each, on a cluster of 1 GPUs" in two[2]
    assert tuned[1] == 4 and tuned[2].startswith("TRIALS ") and "a GPU was promised" in tuned[2]
    assert "2 trials ended" in tuned[2]  # of four: two are enough to know
