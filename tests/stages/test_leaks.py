"""Generators that know their training rows are called leaks and refused; those that do not are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genpipe.bundle import Bundle
from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.errors import PrivacyError
from genpipe.evaluation import Report
from genpipe.evaluation.privacy.inference import read_off
from genpipe.fields import Category, Identifier, Integer, Series, Text
from genpipe.schema import Schema
from genpipe.stages.evaluate.read_off import COLUMNS, TRIED
from genpipe.stages.rows.likelihoods import evidence
from genpipe.stages.train.process import TrainedModel
from genpipe.verbs import evaluate, register, train

DIAGNOSES = ("flu", "asthma", "HIV", "none", "cough", "gout")
PATIENTS = Schema(
    kind="tabular",
    fields=(
        Integer(name="age"),
        Category(name="job"),
        Category(name="town"),
        Category(name="diagnosis"),
        Category(name="ward"),
    ),
    target="ward",
)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("leaks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        patch.delenv("GENPIPE_STORE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


def patients(rows: int, seed: int) -> pa.Table:
    """The diagnosis says nothing about the rest, so it can only be known by heart."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(18, 90, rows),
        np.array([f"job {k}" for k in range(9)])[rng.integers(0, 9, rows)],
        np.array([f"town {k}" for k in range(7)])[rng.integers(0, 7, rows)],
        np.array(DIAGNOSES)[rng.integers(0, 6, rows)],
        np.array(["north", "south"])[rng.integers(0, 2, rows)],
    ]
    return pa.table([pa.array(c) for c in columns], schema=PATIENTS.arrow())


def committed(folder: Path, schema: Schema, train_rows: pa.Table, holdout: pa.Table) -> Dataset:
    attempt, name = new_attempt(), folder.name
    parts = [
        write_part(str(folder), rows, split=split, name=f"{split}-00000", attempt=attempt)
        for split, rows in (("train", train_rows), ("holdout", holdout))
    ]
    return commit(str(folder), name=name, schema=schema, parts=parts, origin={})


@pytest.fixture(scope="module")
def dataset(home: Path) -> Dataset:
    return committed(home / "store/datasets/patients", PATIENTS, patients(500, 0), patients(300, 1))


@pytest.fixture(scope="module")
def by_heart(dataset: Dataset) -> TrainedModel:
    """Trees with ten rows in a leaf that lean on nothing."""
    family = {
        "family": "trees",
        "leaf_minimum": 10,
        "smoothing": 0.0,
        "leaves": 512,
        "code_minimum": 1,
        "prune": False,
    }
    return train(dataset, recipe={"base": "tabular_trees", "family": family}, name="by-heart")


@pytest.fixture(scope="module")
def report(by_heart: TrainedModel) -> Report:
    return evaluate(by_heart)


def test_values_known_by_heart_are_read_off_and_refused(report: Report, by_heart: TrainedModel) -> None:
    assert report.verdict == "leaks"
    assert "values to whoever knows the others" in report.headline and "job" in report.headline
    told = report.score("read_off")
    assert told.value is not None and told.ceiling is not None and told.value > told.ceiling + 0.2
    with pytest.raises(PrivacyError, match=r"tries all: .*ward") as caught:
        register(by_heart, report=report)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("recipe", ["tabular_autoregressive", "tabular_any_order"])
def test_a_generator_that_has_learnt_nobody_is_not_refused(dataset: Dataset, recipe: str) -> None:
    few = {"base": recipe, "training": {"steps": 20, "batch_size": 64}}
    found = evidence(Bundle.open(train(dataset, recipe=few, name=f"few-{recipe}").uri), dataset, 0)
    assert found.guesses is not None
    assert [g.column for g in found.guesses] == ["job", "town", "diagnosis", "ward"]
    told = read_off(list(found.guesses))
    assert not told.leak
    # six values that nothing tells: one in six is right, of whomever
    one = next(g for g in found.guesses if g.column == "diagnosis")
    assert abs(one.unseen.mean() - 1 / 6) < 0.08 and abs(one.train.mean() - 1 / 6) < 0.12


def test_the_guess_is_the_likeliest_value_as_score_tells_it(by_heart: TrainedModel, dataset: Dataset) -> None:
    """Against `genpipe score` itself, asked row by row; also for the target, which is no token."""
    from genpipe.bundle.complete import explain_rows

    bundle = Bundle.open(by_heart.uri)
    found = evidence(bundle, dataset, 0).guesses
    assert found is not None
    rows = dataset.table("train").combine_chunks().to_batches()[0]
    for name, values in (("diagnosis", DIAGNOSES), ("ward", ("north", "south"))):
        place = rows.schema.get_field_index(name)
        nats = []
        for value in values:
            asked = rows.set_column(place, name, pa.array([value] * rows.num_rows))
            nats.append(np.sum([c.to_numpy() for c in explain_rows(bundle, asked).columns], axis=0))
        best = np.stack(nats) >= np.max(nats, axis=0) - 1e-4
        true = [values.index(v) for v in rows.column(name).to_pylist()]
        right = best[true, np.arange(rows.num_rows)] / best.sum(0)
        guesses = next(g for g in found if g.column == name)
        assert np.mean(np.abs(guesses.train - right) < 1e-9) > 0.99


def test_rows_and_columns_that_are_tried_are_bounded(
    home: Path, by_heart: TrainedModel, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genpipe.stages.evaluate import read_off as stage

    assert COLUMNS * 64 * 2 * stage.ROWS > TRIED  # a wide table gives up columns, not rows
    monkeypatch.setattr(stage, "TRIED", 9_600)  # (9 + 7) values of two columns, 300 rows of either side
    found = evidence(Bundle.open(by_heart.uri), dataset, 0).guesses
    assert found is not None
    assert [(g.column, len(g.train), len(g.unseen)) for g in found] == [("job", 300, 300), ("town", 300, 300)]


def test_documents_have_a_likelihood_by_character(home: Path) -> None:
    schema = Schema(kind="text", fields=(Text(name="text"),))
    words = ["cough", "knee", "rest", "scan", "week", "sleep"]

    def letters(rows: int, seed: int) -> pa.Table:
        rng = np.random.default_rng(seed)
        return pa.table({"text": [" ".join(rng.choice(words, rng.integers(2, 5))) for _ in range(rows)]})

    data = committed(home / "store/datasets/letters", schema, letters(120, 0), letters(60, 1))
    training = {"steps": 10, "batch_size": 16}
    model = train(data, recipe={"base": "text_lstm", "training": training}, name="letters")
    found = evidence(Bundle.open(model.uri), data, 0).likelihoods
    assert found is not None and (len(found.train), len(found.unseen)) == (120, 60)
    assert (found.train < 0).all() and -5 < found.train.mean() < -1  # nats a character
    assert abs(found.train.mean() - found.unseen.mean()) < 0.2


def test_series_have_a_likelihood_where_a_column_tells_them_apart(home: Path) -> None:
    rng = np.random.default_rng(0)

    def walks(people: int, first: int) -> pa.Table:
        values = np.cumsum(rng.normal(0, 1, (people * 3, 12)), 1)
        return pa.table({"pulse": values.tolist(), "who": [f"p{first + i // 3}" for i in range(people * 3)]})

    fields = (Series(name="pulse", length=12), Identifier(name="who"))
    rows = walks(40, 0), walks(25, 40)
    for key, wanted in ((("who",), [40, 25]), ((), None)):
        schema = Schema(kind="series", fields=fields, key=key)
        data = committed(home / f"store/datasets/pulse-{len(key)}", schema, *rows)
        training = {"steps": 10, "batch_size": 16}
        model = train(data, recipe={"base": "series_recurrent", "training": training}, name="pulse")
        found = evidence(Bundle.open(model.uri), data, 0).likelihoods
        if wanted is None:
            assert found is None
        else:
            assert (
                found is not None and found.train_entities is not None and found.unseen_entities is not None
            )
            assert [len(set(e.tolist())) for e in (found.train_entities, found.unseen_entities)] == wanted
            assert np.isfinite(found.train).all() and len(found.train) == 120


def test_a_report_of_the_version_before_opens_and_is_drawn() -> None:
    from genpipe.evaluation.page.page import fill

    path = Path(__file__).parents[1] / "fixtures/reports/table-format-3.json"
    old = Report.model_validate_json(path.read_bytes())
    assert {s.name for s in old.scores} >= {"fidelity", "privacy", "copies", "membership"}
    assert old.metrics["membership"] == old.score("membership").value and len(old.table()) == 6
    old.check()
    page = fill(old, {"kind": "text", "documents": []}, title="old")
    assert "Membership" in page
