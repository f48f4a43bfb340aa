"""A flat table of several rows a person as one flow, and by the command line."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import people
from benchmarks.panels import constant
from genpipe.dataset import Dataset
from genpipe.errors import PrivacyError
from genpipe.progress import Event

pytestmark = pytest.mark.slow
STEPS = ["ingest", "train", "evaluate", "register", "generate"]
HELD = ["birth_date", "blood_group", "postcode"]
RECIPE = {"base": "tabular_trees", "family": {"leaf_minimum": 150, "smoothing": 300.0}}  # knows nobody


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("visits") / "visits.csv"
    people.visits(300, 0).to_csv(file, index=False)
    return str(file)


def spec(name: str, source: str, **extra: Any) -> dict[str, Any]:
    given = {"path": source, "entity": "insured", "holdout": 0.3}
    more = {"recipe": RECIPE, "train": {"workers": 0}, "generate": {"rows": 400, "workers": 0}}
    return {"name": name, "source": given} | more | extra


def rows_of(uri: str) -> pd.DataFrame:
    return Dataset(uri).table("generated").to_pandas()


def test_the_whole_road_once_and_then_nothing(api: Path, visits: str) -> None:
    import genpipe
    from genpipe.flows.generate import generate
    from genpipe.flows.pipeline import run_spec
    from genpipe.flows.promote import promote
    from genpipe.flows.train import train
    from genpipe.pipeline import load_spec
    from genpipe.registry import resolve

    wanted, told = load_spec(spec("panel", visits)), list[Event]()
    summary = run_spec(wanted, progress=told.append)
    assert list(summary.seconds) == STEPS
    assert summary.registered is not None and summary.generated is not None
    assert summary.model["rows"] == {"entity": 300, "rows": len(pd.read_csv(visits))}
    found = resolve("models:/panel@champion")
    assert found.tables and found.reference == summary.registered["uri"]
    rows = rows_of(summary.generated["uri"])
    assert len(rows) == 400 == summary.generated["generated"]
    assert [*rows.columns] == [*pd.read_csv(visits).columns]
    assert constant(rows, "insured", HELD) == 1.0
    assert [e for e in told if e.stage == "train-tables"]

    told.clear()
    again = run_spec(wanted, progress=told.append)
    keep = {"seconds", "registered"}
    assert again.model_dump(exclude=keep) == summary.model_dump(exclude=keep)
    assert again.registered is not None and again.registered["version"] == summary.registered["version"]
    assert {e.stage for e in told if e.note == "already done"} == {"train", "evaluate", "generate"}

    made = generate("models:/panel@champion", rows=400, workers=0, progress=told.append)
    pd.testing.assert_frame_equal(rows_of(made["uri"]), rows)
    again = train(summary.dataset["uri"], recipe=RECIPE, name="panel", workers=0, progress=told.append)
    assert again["uri"] == summary.model["uri"]
    promoted = promote(summary.model["uri"], name="panel", progress=told.append)
    assert promoted["version"] == summary.registered["version"]
    assert genpipe.evaluate("models:/panel@champion").verdict == summary.report["verdict"]


def test_what_entities_do_not_have_is_learnt_by_row(api: Path, visits: str) -> None:
    from genpipe.flows.pipeline import run_spec
    from genpipe.pipeline import load_spec

    told = list[Event]()
    for name, extra in (
        ("by-row", {"train": {"workers": 0, "by": "row"}}),
        ("asked", {"generate": {"rows": 50, "workers": 0, "conditions": {"blood_group": "A+"}}}),
    ):
        try:
            summary = run_spec(load_spec(spec(name, visits, **extra)), progress=told.append)
        except PrivacyError:  # many rows a person are known by person
            continue
        assert summary.generated is not None and "rows" not in summary.model
    assert not [e for e in told if e.stage == "train-tables"]


def test_the_command_line_has_the_road(
    api: Path,
    visits: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from genpipe.cli import execute

    def said(*words: str, code: int = 0) -> str:
        assert execute([*words]) == code, capsys.readouterr()
        shown = capsys.readouterr()
        return shown.out if code == 0 else shown.err

    monkeypatch.setattr("genpipe.flows.embedded.prefect_api", lambda: nullcontext({}))
    (tmp_path / "quick.yaml").write_text(json.dumps(RECIPE))
    said("ingest", visits, "--name", "clinic", "--entity", "insured", "--holdout", "0.3")
    shown = said("train", "clinic", "--recipe", str(tmp_path / "quick.yaml"))
    model = next(line.split()[1] for line in shown.splitlines() if line.startswith("model"))
    assert "Membership" in said("evaluate", model)
    said("register", model, "--name", "clinic", "--despite", "a quick model of a test")
    output = tmp_path / "made"
    said("generate", "models:/clinic@champion", "--rows", "200", "--output", str(output))
    assert len(rows_of(str(output))) == 200
    for verb in ("impute", "likelihood"):
        assert "--by row" in said(verb, model, visits, code=2)
    (tmp_path / "clinic.yaml").write_text(json.dumps(spec("clinic", visits)))
    assert "genpipe generate models:/clinic@champion" in said("run", str(tmp_path / "clinic.yaml"))
