from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from small_dataset import small_dataset

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.errors import QualityError, UsageError
from genpipe.progress import Event
from genpipe.seeds import numpy_rng
from genpipe.stages.explain import explain
from genpipe.training.guard import Diverged, Guard
from genpipe.training.score import Scorer
from genpipe.verbs import train, tune

SHORT = {"base": "tabular_vae", "training": {"steps": 60, "evaluate_every": 20, "checkpoint_every": 20}}


@pytest.fixture
def dataset(home: Path) -> Dataset:
    return small_dataset(str(home / "store" / "datasets" / "people"))


def test_it_leaves_a_bundle_that_samples_and_a_result(dataset: Dataset) -> None:
    events: list[Event] = []
    model = train(dataset, recipe=SHORT, progress=events.append)
    bundle = Bundle.open(str(model))
    assert bundle.sample(50).schema.names == ["height", "weight", "colour", "group"]
    assert bundle.origin["dataset_fingerprint"] == dataset.fingerprint
    assert 0 < model.metrics["fidelity"] <= 1 and model.metrics["fidelity"] == bundle.metrics["fidelity"]
    assert events[-1].done == events[-1].total == 60 and events[-1].metrics["fidelity"]
    assert any("steps/s" in e.note for e in events if e.stage == "train")
    told = json.loads((Path(model.run) / "result.json").read_text())
    assert told["uri"] == model.uri and told["stopped"] == "steps"


SHORT_COLUMNS = {"base": "tabular_autoregressive", "training": {"steps": 30}}


def test_the_curves_of_training_are_kept(dataset: Dataset) -> None:
    model = train(dataset, recipe=SHORT)
    rows = json.loads(Path(model.run, "history.json").read_text())
    assert [row["step"] for row in rows] == [20, 40, 60]
    assert all({"fidelity", "loss"} <= set(row) for row in rows)


@pytest.mark.parametrize("recipe", [SHORT, SHORT_COLUMNS, "tabular_trees"], ids=["vae", "columns", "trees"])
def test_the_metrics_are_those_of_what_is_published(dataset: Dataset, recipe: Any) -> None:
    bundle = Bundle.open(str(train(dataset, recipe=recipe, seed=5)))
    layout = bundle.recipe.layout
    scorer = Scorer(bundle.family, dataset, bundle.codec, layout, seed=5)
    arrays = scorer.sample(bundle.nets)
    batch = bundle.codec.decode(arrays, layout, numpy_rng(5, "score", "decode"))
    assert scorer.fidelity.score(pa.Table.from_batches([batch])) == bundle.metrics["fidelity"]


def test_weights_that_are_not_finite_are_for_the_guard(dataset: Dataset) -> None:
    bundle = Bundle.open(str(train(dataset, recipe=SHORT_COLUMNS)))
    scorer = Scorer(bundle.family, dataset, bundle.codec, bundle.recipe.layout, seed=5)
    for parameter in bundle.nets["model"].parameters():
        parameter.fill_(float("nan"))
    with pytest.raises(Diverged, match="fidelity = nan: not a finite number"):
        Guard().check_samples(scorer(bundle.nets, 0))


def test_trees_are_fitted_without_a_step_and_scored_after_it(dataset: Dataset) -> None:
    events: list[Event] = []
    model = train(dataset, recipe="tabular_trees", progress=events.append)
    told = json.loads((Path(model.run) / "result.json").read_text())
    assert (told["steps_made"], told["stopped"]) == (0, "steps") and model.seconds > 0
    # leaves of a hundred rows, since smaller ones of so few rows know who is there
    assert events[-1].done == events[-1].total == 1 and events[-1].metrics["fidelity"] > 0.7
    stump = {"base": "tabular_trees", "family": {"leaf_minimum": 1000}}  # more than there are rows: no split
    assert model.metrics["loss"] < train(dataset, recipe=stump).metrics["loss"] - 0.5
    again = train(dataset, recipe="tabular_trees", tag="again")
    assert again.uri.rsplit("/", 1)[1] == model.uri.rsplit("/", 1)[1]  # the same content, bit for bit


def test_the_same_request_is_the_same_run_and_others_are_not(dataset: Dataset) -> None:
    first = train(dataset, recipe=SHORT)
    events: list[Event] = []
    assert train(str(dataset), recipe=SHORT, progress=events.append) == first
    assert [e.note for e in events] == ["already trained"]
    assert train(dataset, recipe=SHORT, tag="again").run != first.run
    assert train(dataset, recipe=SHORT, seed=1).run != first.run
    again = train(dataset, recipe=SHORT, tag="again")
    assert again.uri.rsplit("/", 1)[1] == first.uri.rsplit("/", 1)[1]  # the same content, bit for bit


def test_a_time_budget_ends_it_with_what_it_has(dataset: Dataset) -> None:
    training = {"steps": 1_000_000, "evaluate_every": 1_000_000, "checkpoint_every": 1_000_000}
    model = train(dataset, recipe=SHORT | {"training": training}, minutes=0.02)
    told = store.read_json(store.join(model.run, "result.json"))
    assert told["stopped"] == "asked" and told["steps_made"] < 1_000_000 and model.metrics["fidelity"] > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": -1}, "workers: -1; expected a whole number from 0"),
        ({"seed": -1}, "seed: -1; expected a whole number"),
        ({"minutes": 0}, "minutes: 0; expected a number above 0"),
        ({"recipe": "tabular_vea"}, "did you mean 'tabular_vae'"),
        ({"recipe": "image_gan"}, "is for image data, the dataset is tabular"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_spent(
    dataset: Dataset, options: dict, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        train(dataset, **options)
    assert not (Path(dataset.uri).parent.parent / "runs").exists()


def test_divergence_never_leaves_a_bundle(dataset: Dataset) -> None:
    training = {"steps": 400, "learning_rate": 9.9, "checkpoint_every": 1, "evaluate_every": 400}
    wild = {"base": "tabular_vae", "training": training}
    with pytest.raises(QualityError, match=r"step \d+: .* = .*again after 3 returns") as caught:
        train(dataset, recipe=wild)
    assert caught.value.exit_code == 7
    (run,) = (Path(dataset.uri).parent.parent / "runs").iterdir()
    assert {path.name for path in run.iterdir()} == {"checkpoints", "request.json"}


def test_more_workers_than_cpus_are_refused_not_waited_for(
    dataset: Dataset, ray_cluster: dict[str, float]
) -> None:
    with pytest.raises(
        UsageError, match="3 workers, one CPU each, on a cluster of 2 CPUs; expected at most 2"
    ):
        train(dataset, recipe=SHORT, workers=3)


def test_ray_workers_agree_with_this_process(dataset: Dataset, ray_cluster: dict[str, float]) -> None:
    events: list[Event] = []
    alone = train(dataset, recipe=SHORT)
    both = train(dataset, recipe=SHORT, workers=2, tag="ray", progress=events.append)
    assert both.metrics["loss"] == pytest.approx(alone.metrics["loss"], rel=1e-2)
    assert both.metrics["fidelity"] == pytest.approx(alone.metrics["fidelity"], abs=0.02)
    assert any(0 < e.done < 60 for e in events)
    assert not list((Path(dataset.uri).parent.parent.parent / "ray").iterdir())  # no scratch is left


def test_trees_are_the_same_on_ray_workers(dataset: Dataset, ray_cluster: dict[str, float]) -> None:
    alone = train(dataset, recipe="tabular_trees")
    both = train(dataset, recipe="tabular_trees", workers=2, tag="ray")
    assert both.metrics == alone.metrics
    assert both.uri.rsplit("/", 1)[1] == alone.uri.rsplit("/", 1)[1]


def test_what_a_ray_worker_refuses_is_raised_here(dataset: Dataset, ray_cluster: dict[str, float]) -> None:
    huge = SHORT | {"training": {**SHORT["training"], "batch_size": 1}}  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="1 rows for 2 workers; expected at least 2"):
        train(dataset, recipe=huge, workers=2)


@pytest.mark.parametrize("name", ["../elsewhere", "Über", "a" * 64])
def test_a_name_that_is_no_folder_is_refused_before_anything_is_written(dataset: Dataset, name: str) -> None:
    before = sorted(Path(dataset.uri).parent.parent.parent.rglob("*"))
    with pytest.raises(UsageError, match=r"small letters, digits and \. _ -, .* at most 63 bytes"):
        train(dataset, recipe=SHORT, name=name)
    with pytest.raises(UsageError, match=r"small letters, digits and \. _ -, .* at most 63 bytes"):
        tune(dataset, trials=1, name=name)
    assert sorted(Path(dataset.uri).parent.parent.parent.rglob("*")) == before


def test_protected_values_are_counted_in_the_bundle_and_named_beside_the_data_alone(dataset: Dataset) -> None:
    events: list[Event] = []
    short = {**SHORT, "training": {"steps": 4, "evaluate_every": 4}}
    model = train(
        dataset, recipe={**short, "codec": {"rare": "protect", "rare_below": 3}}, progress=events.append
    )
    told = explain(model).get("protected", {})
    assert all(n % 3 == 0 for counts in told.values() for n in counts.values())
    assert any(e.note.startswith("protected height: ") for e in events)
    (listed,) = Path(dataset.uri, "codecs").glob("*.protected.json")
    tallest = max(json.loads(listed.read_text())["height"], key=float)
    assert float(tallest) == max(dataset.table("train")["height"].to_pylist())
    assert all(tallest not in f.read_text(errors="replace") for f in Path(model.uri).iterdir())
    with pytest.raises(UsageError, match="codec: rare: protect with rare_below: 0; set it to 2 or more"):
        train(dataset, recipe={**short, "codec": {"rare_below": 0}})
