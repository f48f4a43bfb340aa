"""Jobs on codes as flows: found by their entry points, the same parameters, done once, made again if gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_dataset import small_dataset

import genpipe
from genpipe.dataset import Dataset
from genpipe.requests import LATENT

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("job", LATENT, ids=lambda job: job.__name__)
def test_every_job_is_a_flow_that_asks_for_the_same(job: type, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    name = job.__name__.lower()
    flow = load_flow_from_entrypoint(f"flows/latent.py:{name}")
    fields = job.model_fields  # type: ignore[attr-defined]
    found = flow.parameters.properties
    assert flow.name == name and found.keys() - {"progress"} == fields.keys()
    for key, field in fields.items():
        assert found[key]["description"] == field.description
        assert (key in (flow.parameters.required or [])) == field.is_required(), key
    assert (flow.description or "").startswith(job.__doc__ or "-")


def test_groups_of_rows_on_a_schedule(api: Path, tmp_path: Path) -> None:
    from genpipe.flows.latent import cluster

    data = small_dataset(str(tmp_path / "people"))
    narrow = {"network": "mlp", "width": 16}
    family = {"latent": 2, "encoder": narrow, "decoder": narrow}
    recipe = {"base": "tabular_vae", "family": family, "training": {"steps": 20, "evaluate_every": 20}}
    model = genpipe.train(data, recipe=recipe, name="grouped").uri
    output = str(tmp_path / "groups")
    made = cluster(model, dataset=data.uri, clusters=3, output=output)
    assert made["generated"] == 500 and made["uri"] == output
    before = Dataset(output).fingerprint
    shutil.rmtree(output)
    cluster(model, dataset=data.uri, clusters=3, output=output)
    assert Dataset(output).fingerprint == before
