"""Too few to know: cross-fitted where that helps, else refused, or told in words that stay with the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import SCHEMA, small_dataset, small_table

import genpipe
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.errors import PrivacyError, UsageError
from genpipe.evaluation import Report
from genpipe.fields import Identifier
from genpipe.progress import Event
from genpipe.registry.tracking import client
from genpipe.schema import Schema
from genpipe.stages.checked import count_entities, few_held_out, tuning_note
from genpipe.stages.evaluate.crossfit import cut_into
from genpipe.stages.train.process import TrainedModel

QUICK = {"base": "tabular_autoregressive", "training": {"epochs": 12}}
WHY = "a rehearsal with the ward, agreed on 3 May"


@pytest.fixture(scope="module", autouse=True)
def unchecked_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home and MLflow database for the file."""
    folder = tmp_path_factory.mktemp("unchecked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        for name in ("GENPIPE_STORE", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="module")
def some(unchecked_home: Path) -> Dataset:
    """188 rows, 38 of them held out."""
    return small_dataset(f"{unchecked_home}/store/datasets/some/x", rows=150, holdout=38)


@pytest.fixture(scope="module")
def model(some: Dataset) -> TrainedModel:
    return genpipe.train(some, recipe=QUICK, name="some")


@pytest.fixture(scope="module")
def report(model: TrainedModel) -> Report:
    return genpipe.evaluate(model)


@pytest.fixture(scope="module")
def few(unchecked_home: Path) -> TrainedModel:
    """A model of 60 rows, 15 of them held out."""
    dataset = small_dataset(f"{unchecked_home}/store/datasets/few/x", rows=45, holdout=15)
    return genpipe.train(dataset, recipe=QUICK, name="few")


def footer(dataset: Dataset) -> dict[str, str]:
    part = dataset.manifest.parts[0]
    told = pq.read_metadata(f"{dataset.uri}/{part.path}").metadata
    return {k.decode(): v.decode() for k, v in told.items()}


def of_people(folder: Path, persons: int, held: int, *, each: int) -> Dataset:
    """`each` rows a person."""
    schema = Schema(kind="tabular", fields=(Identifier(name="who"), *SCHEMA.fields), entity=("who",))
    parts = []
    for split, first, number in (("train", 0, persons), ("holdout", persons, held)):
        who = [f"p{i:04d}" for i in np.repeat(np.arange(first, first + number), each)]
        table = small_table(number * each, seed=first).add_column(0, "who", pa.array(who))
        parts.append(write_part(str(folder), table, split=split, name=split, attempt=new_attempt()))
    return commit(str(folder), name="persons", schema=schema, parts=parts, origin={})


def test_entities_are_counted_and_not_rows(tmp_path: Path) -> None:
    dataset = of_people(tmp_path / "people", 80, 20, each=6)
    assert dataset.rows("holdout") == 120
    assert few_held_out(dataset) == 20
    assert count_entities(dataset, "train", "holdout", most=1000) == 100
    assert count_entities(dataset, "train", most=7) == 7


def test_a_search_says_that_it_compares_rows(tmp_path: Path, some: Dataset) -> None:
    assert "the rows of one who belong together" in tuning_note(
        of_people(tmp_path / "people", 80, 20, each=3)
    )
    assert tuning_note(some) == ""


def test_every_entity_is_in_one_fold_and_held_out_once(tmp_path: Path) -> None:
    dataset = of_people(tmp_path / "people", 80, 20, each=3)
    folds = cut_into(dataset, 5)
    held = [set(fold.table("holdout")["who"].to_pylist()) for fold in folds]
    assert [len(who) for who in held] == [20] * 5 and len(set().union(*held)) == 100
    for fold, who in zip(folds, held, strict=True):
        assert fold.rows() == 300 and not who & set(fold.table("train")["who"].to_pylist())
    assert [f.fingerprint for f in cut_into(dataset, 5)] == [f.fingerprint for f in folds]


def test_few_are_judged_by_cross_fitting_and_can_be_registered(
    model: TrainedModel, report: Report, some: Dataset
) -> None:
    assert report.verdict in ("good", "fair", "excellent"), report.headline
    assert report.lineage["cross-fitting"].startswith("5 models")
    assert "cross-fitting" in report.warnings[0] and "cross-fitting" in Path(report.page).read_text()
    assert report.holdout_rows == 188
    told = report.score("membership")
    assert told.value is not None and told.error is not None and told.error < 0.04  # of 38 alone: .05
    made = genpipe.register(model, name="some", report=report)
    assert made.alias == "champion"
    rows = genpipe.generate(made.uri, rows=50, workers=0)
    assert "genpipe.check" not in footer(rows) and "check" not in rows.manifest.origin
    assert "check" not in genpipe.generate(model, rows=50, workers=0).manifest.origin  # a report passed


def test_a_cross_fitting_that_was_killed_goes_on_and_ends_in_the_same_bytes(
    model: TrainedModel, report: Report
) -> None:
    before = Path(report.uri).read_bytes()
    seen: list[Event] = []
    Path(report.uri).unlink()
    assert genpipe.evaluate(model, progress=seen.append) == report
    assert Path(report.uri).read_bytes() == before
    notes = [e.note for e in seen]
    assert any("5 more trainings, about" in note for note in notes)
    assert any("fold 5 of 5: scoring" in note for note in notes)
    assert not any(e.stage == "train" for e in seen)


def test_a_model_that_knows_its_members_is_found_out_by_cross_fitting(
    unchecked_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "genpipe.stages.train.verb.fitted_to", lambda recipe, rows: recipe
    )  # which widens leaves
    dataset = of_people(unchecked_home / "store/datasets/known/x", 120, 30, each=2)
    leaves = {"base": "tabular_trees", "family": {"leaf_minimum": 2, "smoothing": 0.01, "prune": False}}
    entities = genpipe.train(dataset, recipe=leaves, name="known")
    with pytest.raises(PrivacyError, match=r"hold-out entities .*: 30; .*folds=5"):
        genpipe.evaluate(entities, folds=0)
    together = genpipe.evaluate(entities)
    assert together.verdict == "leaks" and together.lineage["cross-fitting"].startswith("5 models")
    assert (together.score("membership").value or 0) > 0.7
    model = genpipe.train(dataset, recipe=leaves, name="known", by="row")
    report = genpipe.evaluate(model)
    assert report.verdict == "leaks", report.headline
    with pytest.raises(PrivacyError, match=r"training entity is likelier.*allowed 60%"):
        genpipe.register(model, report=report)


def test_cross_fitting_can_be_refused(model: TrainedModel) -> None:
    with pytest.raises(PrivacyError, match=r"privacy test: 38; expected at least 50.*folds=5"):
        genpipe.evaluate(model, folds=0)


def test_of_fewer_still_nobody_can_know_and_training_and_registering_say_so(few: TrainedModel) -> None:
    seen: list[Event] = []
    genpipe.train(few.dataset_uri, recipe=QUICK, name="few", progress=seen.append)
    assert seen[-1].note.startswith("NOTHING WAS CHECKED, and nothing can be: 15 held-out")
    with pytest.raises(PrivacyError, match=r"privacy test: 15; .*collect more of them") as caught:
        genpipe.register(few)
    assert caught.value.exit_code == 5 and "holdout share" not in str(caught.value)
    with pytest.raises(UsageError, match="unchecked: 'why'; expected a reason"):
        genpipe.register(few, unchecked="why")


def test_the_reason_goes_with_all_that_is_made_of_an_unchecked_model(few: TrainedModel) -> None:
    seen: list[Event] = []
    plain = genpipe.generate(few, rows=20, workers=0, progress=seen.append)
    assert footer(plain)["genpipe.check"].startswith("nothing was checked: no evaluation")
    assert seen[-1].note.startswith("NOTHING WAS CHECKED")
    made = genpipe.register(few, name="rehearsed", unchecked=WHY)
    version = client().get_model_version("rehearsed", str(made.version))
    assert version.tags["unchecked"] == WHY and made.alias == "champion"
    rows = genpipe.generate("models:/rehearsed@champion", rows=20, workers=0, progress=seen.append)
    assert footer(rows)["genpipe.check"] == f"nothing was checked: {WHY}"
    assert genpipe.explain(f"{rows.uri}/{rows.manifest.parts[0].path}")["check"].endswith(WHY)
    assert WHY in seen[-1].note
    again = genpipe.generate("models:/rehearsed@champion", rows=20, workers=0, progress=seen.append)
    assert again.uri == rows.uri and WHY in seen[-1].note


def test_a_verdict_is_overridden_by_a_reason_that_stays(
    model: TrainedModel, report: Report, few: TrainedModel
) -> None:
    leaks = report.model_copy(update={"verdict": "leaks", "headline": "It tells: birth 31 % (others 2 %)."})
    with pytest.raises(PrivacyError, match=r"birth 31 % \(others 2 %\)") as caught:
        genpipe.register(model, name="despite", report=leaks)
    assert caught.value.exit_code == 5
    with pytest.raises(PrivacyError):
        genpipe.register(model, name="despite", report=leaks, unchecked=WHY)  # that is another matter
    genpipe.register(few, name="despite", unchecked=WHY)
    made = genpipe.register(model, name="despite", report=leaks, despite=WHY)
    tags = client().get_model_version("despite", str(made.version)).tags
    assert (tags["despite"], tags["verdict"]) == (WHY, "leaks")
    rows = genpipe.generate(made.uri, rows=20, workers=0)
    assert footer(rows)["genpipe.check"] == f"leaks, published despite: {WHY}"
    passed = genpipe.register(model, name="despite", report=report, despite=WHY)  # not needed, so not told
    assert passed.version != made.version and passed.alias == "champion", passed.reason
    tags = client().get_model_version("despite", str(passed.version)).tags
    assert not {"despite", "verdict", "unchecked"} & set(tags)
    worse = genpipe.register(model, name="despite", report=leaks, despite="another reason, no better")
    assert worse.alias == "challenger" and f"version {passed.version} was checked" in worse.reason
    collapsed = report.model_copy(update={"verdict": "collapsed"})
    with pytest.raises(Exception, match=r"way from"):
        genpipe.register(model, name="despite", report=collapsed, despite=WHY)


def test_the_untrained_say_that_nothing_was_checked(table_bundle: str) -> None:
    made = genpipe.generate(table_bundle, rows=5, workers=0)
    assert "nothing was checked" in made.manifest.origin["check"]
    assert Bundle.open(table_bundle).fingerprint == made.manifest.origin["bundle"]
