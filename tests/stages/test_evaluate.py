"""Evaluating a trained model: what is written, once, and which holdouts are refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from small_dataset import SCHEMA, small_dataset, small_table

from genpipe.bundle import Bundle, save_bundle
from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.errors import DataError, PrivacyError, UsageError
from genpipe.evaluation import Report
from genpipe.fields import Number
from genpipe.progress import Event
from genpipe.requests import Evaluate
from genpipe.schema import Schema
from genpipe.stages.evaluate import verb as stage
from genpipe.stages.train.process import TrainedModel
from genpipe.verbs import evaluate, train


@pytest.fixture(scope="module", autouse=True)
def evaluation_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        patch.delenv("GENPIPE_STORE", raising=False)
        yield folder


@pytest.fixture(scope="module")
def dataset(evaluation_home: Path) -> Dataset:
    return small_dataset(str(evaluation_home / "store/datasets/people"), rows=400, holdout=120)


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> TrainedModel:
    training = {"steps": 300, "batch_size": 64, "evaluate_every": 100}
    return train(dataset, recipe={"base": "tabular_autoregressive", "training": training})


@pytest.fixture(scope="module")
def report(model: TrainedModel) -> Report:
    return evaluate(model)


def about(
    dataset: Dataset | None, model: TrainedModel, folder: Path, *, fingerprint: str | None = None
) -> str:
    """The same generator, telling another story of its dataset."""
    bundle = Bundle.open(model.uri)
    origin = {k: v for k, v in bundle.origin.items() if k != "dataset_uri"}
    origin |= {"dataset_uri": dataset.uri} if dataset else {}
    origin |= {"dataset_fingerprint": fingerprint} if fingerprint else {}
    weights = {f"{r}.{k}": v for r, net in bundle.nets.items() for k, v in net.state_dict().items()}
    return save_bundle(
        str(folder / "run/bundle"),
        recipe=bundle.recipe,
        codec=bundle.codec,
        weights=weights,
        metrics={},
        origin=origin,
    ).uri


def test_it_writes_a_report_a_page_and_a_picture_beside_the_run(report: Report, model: TrainedModel) -> None:
    folder = Path(report.uri).parent
    assert folder.parent == Path(model.run) / "evaluation"
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "report.json", "samples.png"]
    assert Path(report.picture).read_bytes().startswith(b"\x89PNG")
    assert report.rows == 400 and report.holdout_rows == 120
    assert report.lineage["dataset"] == "people"
    written = Report.model_validate_json(Path(report.uri).read_bytes())
    assert written == report.model_copy(update={"uri": "", "page": "", "picture": ""})


def test_a_trained_model_beats_the_shuffled_floor_by_far(report: Report) -> None:
    assert report.score("fidelity").position > 0.4, report.table()
    assert report.score("usefulness").position > 0.5, report.table()
    assert report.verdict not in ("collapsed", "copies")


def test_the_page_needs_nothing_from_outside(report: Report) -> None:
    page = Path(report.page).read_text()
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", page) == []
    assert "<script" not in page and "@import" not in page and "url(" not in page
    assert report.lineage["dataset fingerprint"] in page
    assert page.count("<svg") >= len(SCHEMA.fields) + 3


def test_no_real_row_is_on_the_page_of_a_table(report: Report, model: TrainedModel, dataset: Dataset) -> None:
    cells = set(re.findall(r"<td>([^<]*)</td>", Path(report.page).read_text()))
    made = Bundle.open(model.uri).sample(8).column("height").to_pylist()
    assert {f"{value:,.6g}" for value in made} <= cells  # the generated rows are there, in this form
    for split in ("train", "holdout"):
        real = {f"{value:,.6g}" for value in dataset.table(split).column("height").to_pylist()}
        assert not real & (cells - {f"{value:,.6g}" for value in made})


def test_the_second_time_nothing_is_done_and_elsewhere_the_bytes_are_the_same(
    report: Report, model: TrainedModel, tmp_path: Path
) -> None:
    seen: list[Event] = []
    before = {p.name: p.stat().st_mtime_ns for p in Path(report.uri).parent.iterdir()}
    assert evaluate(model, progress=seen.append) == report
    assert [e.note for e in seen] == ["already evaluated"]
    assert before == {p.name: p.stat().st_mtime_ns for p in Path(report.uri).parent.iterdir()}
    shutil.copytree(model.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    again = evaluate(str(tmp_path / "run" / Path(model.uri).name))
    for name in ("uri", "page", "picture"):
        assert Path(getattr(again, name)).read_bytes() == Path(getattr(report, name)).read_bytes()


def test_an_evaluation_cut_short_is_done_again(model: TrainedModel) -> None:
    whole = evaluate(model, rows=130)
    Path(whole.uri).unlink()
    Path(whole.page).write_text("half")
    assert evaluate(model, rows=130) == whole
    assert "</html>" in Path(whole.page).read_text()


def test_a_dataset_changed_under_the_model_is_refused(
    model: TrainedModel, dataset: Dataset, tmp_path: Path
) -> None:
    other = about(dataset, model, tmp_path, fingerprint="0" * 20)
    with pytest.raises(
        PrivacyError, match=f"fingerprint {dataset.fingerprint}, so its holdout may hold rows"
    ):
        evaluate(other)


def test_swapped_split_files_are_refused(model: TrainedModel, dataset: Dataset, tmp_path: Path) -> None:
    where = tmp_path / "people"
    shutil.copytree(dataset.uri, where)
    train_file, holdout_file = (next(where.glob(f"data/*/{s}-*.parquet")) for s in ("train", "holdout"))
    data = train_file.read_bytes()
    train_file.write_bytes(holdout_file.read_bytes())
    holdout_file.write_bytes(data)
    with pytest.raises(DataError, match="content changed since it was written"):
        evaluate(about(Dataset(str(where)), model, tmp_path), str(where))


@pytest.mark.parametrize("place", ["/etc", "s3://elsewhere/data", "../../../etc"])
def test_a_bundle_of_a_stranger_does_not_say_what_is_opened(
    model: TrainedModel, tmp_path: Path, place: str
) -> None:
    with pytest.raises(UsageError, match=r"names a dataset outside this store.*pass dataset="):
        evaluate(about(Dataset(place), model, tmp_path))


def test_another_dataset_may_be_given_if_it_has_the_same_columns_and_the_report_says_so(
    model: TrainedModel, tmp_path: Path
) -> None:
    other = small_dataset(str(tmp_path / "other"), rows=300, holdout=80)
    found = evaluate(model, other, rows=150)
    assert found.warnings[0].startswith(f"judged against {other.fingerprint}, not the dataset trained on")
    assert "not the dataset trained on" in Path(found.page).read_text()


def test_another_dataset_with_other_columns_is_refused(model: TrainedModel, tmp_path: Path) -> None:
    schema = Schema(kind="tabular", fields=(Number(name="height"), Number(name="width")))
    table = pa.table({"height": [1.0] * 60, "width": [2.0] * 60}, schema=schema.arrow())
    uri = str(tmp_path / "odd")
    parts = [write_part(uri, table, split=s, name=s, attempt=new_attempt()) for s in ("train", "holdout")]
    odd = commit(uri, name="odd", schema=schema, parts=parts, origin={})
    with pytest.raises(DataError, match="another schema"):
        evaluate(model, odd)


def test_fifty_holdout_rows_are_the_least(model: TrainedModel, tmp_path: Path) -> None:
    few = small_dataset(str(tmp_path / "few"), rows=300, holdout=49)
    with pytest.raises(PrivacyError, match="not enough hold-out rows for the privacy test: 49"):
        evaluate(model, few)


def test_a_model_without_a_dataset_asks_for_one(model: TrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass dataset="):
        evaluate(about(None, model, tmp_path))


def test_training_curves_are_drawn_where_the_run_left_them(model: TrainedModel) -> None:
    history = [{"step": step, "fidelity": step / 400, "loss": 2.0 - step / 300} for step in (100, 200, 300)]
    (Path(model.run) / "history.json").write_text(json.dumps(history))
    page = Path(evaluate(model, rows=120).page).read_text()
    assert "<h2>Training</h2>" in page and 'aria-label="fidelity"' in page


def test_hostile_values_are_escaped(tmp_path: Path, model: TrainedModel) -> None:
    from genpipe.evaluation import evaluate_tables, write_report

    evil = "<script>alert(1)</script>"

    def spoilt(seed: int) -> pa.Table:
        table = small_table(200, seed=seed)
        names = [evil if v == "red" else v for v in table.column("colour").to_pylist()]
        return table.set_column(2, SCHEMA.arrow().field("colour"), pa.array(names))

    train_rows, holdout, made = (spoilt(seed) for seed in (1, 2, 3))
    report = evaluate_tables(train_rows, holdout, made, SCHEMA, lineage={"dataset": evil})
    where = write_report(
        report, str(tmp_path / "page.html"), holdout=holdout, synthetic=made, schema=SCHEMA, title=evil
    )
    page = Path(where).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_of_many_training_rows_all_are_looked_through_for_copies_and_near_copies(
    noise: float, dataset: Dataset, model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows are held in memory, and few asked for their nearest; which hides no copy."""

    def copied(bundle: Bundle, rows: int, seed: int) -> pa.Table:
        found = dataset.table("train").slice(0, rows)
        moved = pa.array(found["height"].to_numpy() + noise)
        return found.set_column(0, found.schema.field(0), moved)

    monkeypatch.setattr(stage, "SIDE_ROWS", 120)
    monkeypatch.setattr(stage, "MAX_ROWS", 120)
    monkeypatch.setattr(stage, "PIECE_VALUES", 100)
    fair = evaluate(model, rows=120, seed=77)
    monkeypatch.setattr(Bundle, "sample", copied)
    found = evaluate(model, rows=120, seed=79 if noise else 78)
    assert found.train_rows == fair.train_rows == 400 and found.rows == 120
    assert fair.score("copies").value < 0.1
    assert found.score("copies").value == (0.0 if noise else 1.0)
    for report in (found, fair):  # the floor is what training rows themselves score
        assert report.score("privacy").floor > 0.9
    assert found.score("privacy").value > 0.9 > 0.75 > fair.score("privacy").value
    assert found.verdict == "copies" != fair.verdict


def test_fidelity_alone_is_that_of_the_report_and_writes_nothing(model: TrainedModel) -> None:
    """By which a champion is measured again where its rival is registered."""
    asked = Evaluate.of(model=model.uri, seed=7)
    before = set(Path(model.uri).parent.rglob("*"))
    alone = stage.fidelity(asked)
    assert set(Path(model.uri).parent.rglob("*")) == before
    assert alone == evaluate(model, seed=7).metrics["fidelity"]
