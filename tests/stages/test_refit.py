"""final: all: a twin is judged, then all rows are learnt; what learnt the holdout is never judged by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from small_dataset import small_dataset

import genpipe
from benchmarks import people
from genpipe.bundle import Bundle, save_bundle
from genpipe.bundle.held import ORIGIN
from genpipe.dataset import Dataset
from genpipe.errors import DataError, UsageError
from genpipe.registry import resolve
from genpipe.registry.tracking import client
from genpipe.requests import Evaluate, Train
from genpipe.stages.evaluate.verb import fidelity
from genpipe.stages.train.process import TrainedModel
from genpipe.stages.train.refit import whole
from genpipe.verbs import evaluate, generate, register, train

TRAINING = {"epochs": 4, "batch_size": 64}
RECIPE: dict[str, Any] = {"base": "tabular_autoregressive", "training": TRAINING}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("refit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        patch.delenv("GENPIPE_STORE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


@pytest.fixture(scope="module")
def dataset(place: Path) -> Dataset:
    return small_dataset(str(place / "store/datasets/people/0123456789abcdef0123"))


@pytest.fixture(scope="module")
def twin(dataset: Dataset) -> TrainedModel:
    return train(dataset, recipe=RECIPE)


@pytest.fixture(scope="module")
def last(dataset: Dataset, twin: TrainedModel) -> TrainedModel:
    return train(dataset, recipe=RECIPE, final="all")


def test_all_rows_are_learnt_as_the_twin_was(
    dataset: Dataset, twin: TrainedModel, last: TrainedModel
) -> None:
    mine, theirs = Bundle.open(last.uri), Bundle.open(twin.uri)
    assert mine.origin["rows"] == dataset.rows() and theirs.origin["rows"] == dataset.rows("train")
    assert (mine.origin["final"], mine.origin["twin"]) == ("all", theirs.origin["run_id"])
    assert mine.origin["twin_uri"] == twin.uri, "the twin is the run that `final: train` makes"
    more = dataset.rows() / dataset.rows("train")
    assert mine.origin["step"] == round(more * theirs.origin["step"])
    settled = mine.recipe.training.model_dump(exclude={"steps"})
    assert settled == theirs.recipe.training.model_dump(exclude={"steps"})
    assert dict(last.metrics) == dict(twin.metrics) == mine.metrics, "its own rows say nothing of it"
    assert mine.learnt and not theirs.learnt and set(mine.origin) <= ORIGIN


def test_the_rows_are_those_of_both_sides(dataset: Dataset, last: TrainedModel) -> None:
    every = whole(dataset)
    assert every.rows("holdout") == 0 and every.uri == f"{dataset.uri}/whole"
    both = pa.concat_tables([dataset.table("train"), dataset.table("holdout")])
    assert every.table("train").equals(both.combine_chunks())
    assert Bundle.open(last.uri).origin["dataset_fingerprint"] == every.fingerprint
    every.verify()


def test_an_equal_request_is_made_once_and_without_it_nothing_changes(
    dataset: Dataset, twin: TrainedModel, last: TrainedModel
) -> None:
    assert train(dataset, recipe=RECIPE, final="all") == last
    assert train(dataset, recipe=RECIPE, final="train") == twin
    assert "final" not in Train.of(dataset="x").identity(), "runs of before are found by their ids"


def test_a_recipe_without_epochs_makes_as_many_steps(dataset: Dataset) -> None:
    recipe = {"base": "tabular_vae", "training": {"steps": 40, "evaluate_every": 20}}
    twin, last = (train(dataset, recipe=recipe, final=final) for final in ("train", "all"))
    assert Bundle.open(last.uri).recipe.training.steps == 40
    assert last.steps == twin.steps and last.uri != twin.uri


def test_trees_too(dataset: Dataset) -> None:
    last = train(dataset, recipe="tabular_trees", final="all")
    assert Bundle.open(last.uri).sample(50).num_rows == 50


def test_it_is_judged_by_its_twin_and_attacked_itself(
    dataset: Dataset, twin: TrainedModel, last: TrainedModel
) -> None:
    of_twin, told = evaluate(twin), evaluate(last)
    for name in ("fidelity", "usefulness", "coverage", "reader", "rules"):
        assert told.score(name) == of_twin.score(name), "what learnt the holdout is not judged by it"
    assert told.warnings[0].startswith("it learnt all rows")
    assert told.headline == f"By its twin: {of_twin.headline}" and told.verdict == of_twin.verdict
    assert (
        told.lineage["learnt"] == "all rows"
        and told.lineage["model fingerprint"] != (of_twin.lineage["model fingerprint"])
    )
    assert told.score("membership").value != of_twin.score("membership").value
    for given in (dataset, whole(dataset)):  # however its rows are named
        assert evaluate(last, dataset=given).scores == told.scores
    assert fidelity(Evaluate.of(model=last.uri, dataset=dataset.uri)) == of_twin.metrics["fidelity"]
    assert "all rows" in Path(told.page).read_text()


def test_other_rows_are_for_its_twin_too(place: Path, twin: TrainedModel, last: TrainedModel) -> None:
    other = small_dataset(str(place / "store/datasets/others"), rows=300, holdout=60)
    told, of_twin = evaluate(last, dataset=other), evaluate(twin, dataset=other)
    assert told.scores == of_twin.scores and any("judged against" in w for w in told.warnings)


def test_without_its_twin_it_is_not_judged(place: Path, dataset: Dataset, last: TrainedModel) -> None:
    bundle = Bundle.open(last.uri)
    weights = {f"{r}.{k}": v for r, net in bundle.nets.items() for k, v in net.state_dict().items()}

    def telling(number: int, **story: str) -> str:
        where = str(place / f"store/runs/liar-{number}/bundle")
        return save_bundle(
            where, recipe=bundle.recipe, codec=bundle.codec, weights=weights, metrics={},
            origin=bundle.origin | story,
        ).uri  # fmt: skip

    gone = telling(1, twin_uri=f"{place}/store/runs/gone/bundle")
    itself = telling(2, twin_uri=last.uri, twin=str(bundle.origin["run_id"]))
    another = telling(3, twin="0" * 20)
    for model in (gone, itself, another):
        with pytest.raises(DataError, match="learnt all rows") as error:
            evaluate(model, dataset=dataset)
        assert error.value.code == "NOTWIN"


def test_what_is_delivered_says_so(last: TrainedModel, twin: TrainedModel) -> None:
    made, other = generate(last, rows=50), generate(twin, rows=50)
    assert made.manifest.origin["learnt"] == "all rows" and "learnt" not in other.manifest.origin
    with made.reading(made.manifest.parts[0]) as file:
        assert file.schema_arrow.metadata[b"genpipe.learnt"] == b"all rows"


def test_a_champion_that_learnt_the_holdout_has_its_twins_score_there(
    dataset: Dataset, twin: TrainedModel, last: TrainedModel
) -> None:
    first = register(last, name="whole")
    tags = client().get_model_version("whole", str(first.version)).tags
    assert (tags["final"], tags["twin"]) == ("all", Bundle.open(twin.uri).origin["run_id"])
    assert float(tags["fidelity"]) == evaluate(twin).metrics["fidelity"]
    assert tags["holdout"] == dataset.fingerprint and str(dataset.uri) not in tags["judged_uri"]
    second = register(twin, name="whole")
    assert second.alias == "challenger" and "on the same holdout" in second.reason
    published = resolve(first.uri)  # its twin is found from the store, too
    assert evaluate(published.uri).metrics["fidelity"] == float(tags["fidelity"])


def test_tables_learnt_by_entity_are_refused(place: Path) -> None:
    people.care(40, 0).to_csv(place / "care.csv", index=False)
    care = genpipe.ingest(str(place / "care.csv"), name="care", holdout=0.3)
    with pytest.raises(UsageError, match="learnt by entity") as error:
        train(care, final="all")
    assert "by: row" in str(error.value)
