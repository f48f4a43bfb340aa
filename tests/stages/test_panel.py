"""A flat table of several rows a person down the road: learnt by entity, and the same flat table again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

import genpipe
from benchmarks import people
from benchmarks.panels import constant, counts_apart, told_apart
from genpipe.dataset import Dataset
from genpipe.errors import DataError, PrivacyError, UsageError
from genpipe.progress import Event
from genpipe.registry import resolve
from genpipe.related.train import TrainedTables, open_tables
from genpipe.stages.explain import explain
from genpipe.stages.train.process import TrainedModel
from tests.ports import free_ports
from tests.stages.test_register import ask, clean_environment

# fitted in a second, and knows nobody
SHORT = {"base": "tabular_trees", "family": {"leaf_minimum": 150, "smoothing": 300.0}}
HELD = ["birth_date", "sex", "diagnosis"]


@pytest.fixture(scope="module", autouse=True)
def panel_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home with its MLflow database for the file."""
    folder = tmp_path_factory.mktemp("panel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        for name in ("GENPIPE_STORE", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="module")
def dataset(panel_home: Path) -> Dataset:
    people.care(200, 0).to_csv(panel_home / "care.csv", index=False)
    return genpipe.ingest(str(panel_home / "care.csv"), name="care", holdout=0.3)


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> TrainedTables:
    made = genpipe.train(dataset, recipe=SHORT)
    assert isinstance(made, TrainedTables)
    return made


def rows_of(made: Any) -> pd.DataFrame:
    assert isinstance(made, Dataset)
    return made.table("generated").to_pandas()


def test_the_entity_that_was_found_is_learnt_with_its_rows(dataset: Dataset, model: TrainedTables) -> None:
    assert dataset.schema.entity == ("patient",)
    assert model.panel is not None and model.panel.schema_ == dataset.schema
    assert [n.name for n in model.nodes] == ["entity", "rows"]
    assert genpipe.train(dataset, recipe=SHORT) == model == open_tables(model.uri)  # done once
    entity, rows = model.nodes
    assert sum(n.rows for n in (entity,)) == 200 and rows.rows == dataset.rows()
    assert explain(model.uri)["rows"] == {"entity": 200, "rows": dataset.rows()}


def test_it_is_delivered_flat_exactly_so_many_rows_of_new_persons(
    dataset: Dataset, model: TrainedTables, tmp_path: Path
) -> None:
    made = genpipe.generate(model, rows=700, seed=3, workers=0)
    assert isinstance(made, Dataset) and made.schema == dataset.schema
    rows, real = rows_of(made), pd.concat([dataset.table(s).to_pandas() for s in ("train", "holdout")])
    assert len(rows) == 700 and [*rows.columns] == [*real.columns]
    assert constant(rows, "patient", HELD) == 1.0
    whole = rows[rows.patient != rows.patient.iloc[-1]]  # the last is cut where there are rows enough
    assert counts_apart(real, whole, "patient") < 0.25
    assert (
        rows.patient.nunique() == (rows.patient != rows.patient.shift()).sum()
    )  # rows of one stand together
    assert not set(rows.patient) & set(real.patient)
    assert (whole.groupby("patient").date.apply(lambda d: d.is_monotonic_increasing)).all()
    assert (rows.groupby("ward").floor.nunique() == 1).all()  # the one follows from the other
    again = genpipe.generate(model, rows=700, seed=3, output=str(tmp_path / "a"), rows_per_part=300)
    assert [p.rows for p in again.parts("generated")] == [300, 300, 100]
    pd.testing.assert_frame_equal(rows_of(again), rows)
    assert genpipe.generate(model, rows=700, seed=3, workers=0).uri == made.uri
    part = f"{again.uri}/{again.parts('generated')[0].path}"
    assert "model" in explain(part) and "NOTHING" not in explain(part)["check"]


def test_few_entities_are_judged_by_cross_fitting(panel_home: Path) -> None:
    """Of 120 persons 24 are held out; and together they are as sure as 120."""
    people.care(120, 4).to_csv(panel_home / "few.csv", index=False)
    few = genpipe.ingest(str(panel_home / "few.csv"), name="few", holdout=0.2)
    seen: list[Event] = []
    model = genpipe.train(few, recipe=SHORT, progress=seen.append)
    assert isinstance(model, TrainedTables) and model.note.startswith("NOT CHECKED YET")
    with pytest.raises(PrivacyError, match=r"hold-out entities .*folds=5"):
        genpipe.evaluate(model, folds=0)
    report = genpipe.evaluate(model, folds=3, progress=seen.append)
    assert any("3 more trainings of 2 tables, about" in e.note for e in seen)
    assert report.lineage["cross-fitting"].startswith("3 models") and report.verdict != "collapsed"
    assert {*report.tables} == {"entity", "rows", "entity with rows"}
    assert report.tables["entity"].holdout_rows == 120
    told = report.tables["entity"].score("membership")
    assert told.value is not None and told.error is not None and told.error < 0.05  # of 24 alone: .06
    before, where = Path(report.uri).read_bytes(), Path(report.uri)
    where.unlink()
    seen.clear()
    assert genpipe.evaluate(model, few, folds=3, progress=seen.append) == report
    assert where.read_bytes() == before and not any(
        " steps" in e.note for e in seen
    )  # nothing is learnt again
    made = genpipe.register(model, name="few", report=report, despite="a quick model of a test")
    with pytest.raises(PrivacyError, match="name the dataset"):
        genpipe.evaluate(made.uri, folds=3)
    assert genpipe.evaluate(made.uri, few, folds=3).scores == report.scores


def test_from_the_registry_it_is_delivered_and_served_flat(
    dataset: Dataset, model: TrainedTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = genpipe.register(model, name="care", despite="a quick model of a test")
    assert made.uri == "models:/care/1" and made.alias == "champion"
    assert resolve("models:/care@champion").tables
    here = rows_of(genpipe.generate(model, rows=300, seed=5, workers=0))
    monkeypatch.setenv("GENPIPE_STORE", str(tmp_path / "other"))  # another machine has the registry alone
    there = genpipe.generate("models:/care@champion", rows=300, seed=5, workers=0)
    assert isinstance(there, Dataset) and there.schema == dataset.schema
    pd.testing.assert_frame_equal(rows_of(there), here)
    assert there.uri.startswith(f"{tmp_path}/other/generated/care/")
    served = mlflow.pyfunc.load_model("models:/care@champion")
    assert [c.name for c in served.metadata.signature.outputs] == [*here.columns]
    answer = served.predict(pd.DataFrame(), params={"rows": 300, "seed": 5})
    pd.testing.assert_frame_equal(answer, here)
    for wrong in ({"rows": 0}, {"rows": 10**9}):
        with pytest.raises(mlflow.exceptions.MlflowException, match="rows"):
            served.predict(pd.DataFrame(), params=wrong)
    with pytest.raises(mlflow.exceptions.MlflowException, match="condition"):
        served.predict(pd.DataFrame({"sex": ["f"]}), params={"rows": 3})


@pytest.mark.slow
def test_mlflow_models_serve_answers_with_flat_rows(
    dataset: Dataset, model: TrainedTables, panel_home: Path, tmp_path: Path
) -> None:
    genpipe.register(model, name="served", despite="a quick model of a test")
    port = free_ports(1)[0]
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m"]
    command += ["models:/served@champion", "--env-manager", "local", "--host", "127.0.0.1"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            env=clean_environment(panel_home),
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        body = {"dataframe_split": {"columns": [], "data": []}, "params": {"rows": 30, "seed": 1}}
        rows = pd.DataFrame(ask(port, body, log=tmp_path / "log")["predictions"])
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert len(rows) == 30 and [*rows.columns] == list(dataset.schema.names)
    assert constant(rows, "patient", HELD) == 1.0 and rows.patient.nunique() > 1


@pytest.mark.slow
def test_it_is_judged_in_its_own_columns(dataset: Dataset, model: TrainedTables) -> None:
    report = genpipe.evaluate(model, dataset)
    assert [*report.tables] == ["entity", "entity with rows", "rows"]
    assert {s.name for s in report.scores} >= {"membership", "cardinality", "within", "families", "order"}
    assert report.score("order").value == 1.0 == report.score("integrity").value
    assert not any("usual" in what or "first " in what for what in report.parts)
    assert genpipe.evaluate(model) == report
    other = genpipe.ingest(str(dataset.manifest.origin["source"]), name="care", holdout=0.4)
    with pytest.raises(DataError, match="another table than was trained on"):
        genpipe.evaluate(model, other)


@pytest.mark.slow
def test_by_row_is_there_for_who_asks_and_where_nothing_else_is(dataset: Dataset, panel_home: Path) -> None:
    quick = {"base": "tabular_autoregressive", "training": {"steps": 5}}
    assert isinstance(genpipe.train(dataset, recipe=quick, by="row"), TrainedModel)
    gan = {"base": "tabular_gan", "training": {"steps": 2}}
    assert isinstance(genpipe.train(dataset, recipe=gan), TrainedModel)
    with pytest.raises(UsageError, match="draws all columns of a row at once"):
        genpipe.train(dataset, recipe=gan, by="entity")
    alone = people.patients(60, 0)
    alone.to_csv(panel_home / "alone.csv", index=False)
    nobody = genpipe.ingest(str(panel_home / "alone.csv"), name="alone", entity="none: a test")
    with pytest.raises(UsageError, match="knows of no entity"):
        genpipe.train(nobody, recipe=quick, by="entity")


def test_what_an_entity_cannot_be_asked_for(model: TrainedTables) -> None:
    with pytest.raises(UsageError, match="by='row'"):
        genpipe.generate(model, rows=10, conditions={"sex": "f"})
    with pytest.raises(UsageError, match="a number"):
        genpipe.generate(model)
    with pytest.raises(UsageError, match="by='row'"):
        genpipe.impute(model, "rows.csv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "who", "held"),
    [
        (people.visits, "insured", ["birth_date", "blood_group", "postcode", "diagnosis"]),
    ],
    ids=["visits"],
)
def test_entities_are_hard_to_tell_from_real_ones_and_none_is_known(
    panel_home: Path, make: Any, who: str, held: list[str]
) -> None:
    """Figures of docs/privacy.md with room for chance: half of 600 persons held out, default recipe."""
    name = make.__name__
    make(600, 0).to_csv(panel_home / f"{name}.csv", index=False)
    dataset = genpipe.ingest(str(panel_home / f"{name}.csv"), name=f"{name}-half", entity=who, holdout=0.5)
    model = genpipe.train(dataset)
    real = dataset.table("holdout").to_pandas()
    rows = rows_of(genpipe.generate(model, rows=len(real), workers=0))
    assert constant(rows, who, held) == 1.0
    assert counts_apart(real, rows, who) < 0.1
    assert told_apart(real, rows, who) < 0.7
    by_row = genpipe.train(dataset, by="row")
    alone = rows_of(genpipe.generate(by_row, rows=len(real), workers=0))
    assert told_apart(real, alone, who) > 0.95  # each row is somebody else's
    report = genpipe.evaluate(model)
    assert report.verdict not in ("leaks", "copies")
    assert float(report.score("membership").value or 0) < 0.66  # the worse of the two tables
