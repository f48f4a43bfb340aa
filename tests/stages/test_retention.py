"""clean --keep and forget: what nobody needs goes, its commit first; what an alias names stays and works."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genpipe
from genpipe import store
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import DataError, InfrastructureError, UsageError
from genpipe.registry import publish
from genpipe.settings import read_settings
from genpipe.sources.tabular import source as tables
from genpipe.stages import forget as stage
from genpipe.stages import retention
from genpipe.stages.inventory import take_inventory

DAYS = 86_400.0
CITIES = np.array(["Paris", "London", "Lima"])


def people(night: int, rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(night)
    city = rng.integers(0, 3, rows)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "city": CITIES[city],
            "income": (rng.normal(40 + city, 5)).round(1),
        }
    )


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """What lies there now was written so many days ago."""
    there = SimpleNamespace(time=lambda: time.time() + DAYS * days)
    monkeypatch.setattr(retention, "time", there)


def files(folder: Path) -> dict[str, str]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def nights(count: int, name: str = "people", *, first: int = 0, delivered: bool = True) -> list[Any]:
    """Each night another dataset, a run and a delivery of it; the runs."""
    runs = []
    for night in range(first, first + count):
        data = genpipe.ingest(people(night), name=name)
        runs.append(genpipe.train(data, recipe="tabular_trees", name=name))
        if delivered:
            genpipe.generate(runs[-1], rows=20, name=name, workers=0)
    return runs


def published(run: Any, name: str = "people", fidelity: float = 0.9) -> str:
    data = Dataset(run.dataset_uri)
    made = publish(run.uri, name=name, metrics={"fidelity": fidelity}, holdout=data.fingerprint, dataset=data)
    return str(made)


def found(kind: str, name: str = "people") -> list[str]:
    things = take_inventory(read_settings().store).things.values()
    return sorted(t.place for t in things if t.kind == kind and t.name == name)


def test_of_each_name_the_newest_stay_and_what_they_and_the_champion_need(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = nights(4)
    assert published(runs[0]) == "models:/people/1"  # the champion is of the first night
    genpipe.generate("models:/people@champion", rows=20, workers=0)  # which fetches its bundle
    before = files(home / "store")
    later(monkeypatch, 100)
    told = genpipe.clean(keep=2)
    assert not told.removed and files(home / "store") == before
    gone = genpipe.clean(keep=2, remove=True)
    assert [each.place for each in gone.found] == [each.place for each in told.found]
    assert not genpipe.clean(keep=2).found, "what is left is what is wanted"
    # of four nights the last two, and the champion's first
    wanted = sorted(str(run.dataset_uri) for run in (runs[0], *runs[2:]))
    assert found("dataset") == wanted
    assert [Path(run).name for run in found("run")] == sorted(Path(r.run).name for r in (runs[0], *runs[2:]))
    for uri in wanted:
        Dataset(uri).verify()
    assert genpipe.generate("models:/people@champion", rows=30, workers=0).rows() == 30
    assert genpipe.evaluate(runs[-1]).verdict


def test_a_twin_and_an_earlier_model_stay_with_who_came_from_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = genpipe.ingest(people(0), name="people")
    final = genpipe.train(data, recipe="tabular_trees", final="all")
    few = {"training": {"epochs": None, "steps": 20, "evaluate_every": 20}}
    first = genpipe.train(genpipe.ingest(people(1), name="first"), recipe=few)
    published(first, "first")
    later_one = genpipe.train(
        genpipe.ingest(people(2), name="second"), recipe=few, from_model="models:/first@champion"
    )
    published(later_one, "second")
    later(monkeypatch, 100)
    genpipe.clean(keep=1, remove=True)
    assert genpipe.evaluate(final).verdict, "its twin is what is judged"
    assert genpipe.generate(later_one, rows=5, workers=0).rows() == 5
    assert found("version", "first") == ["models:/first/1"] and found("run", "first")
    gone = {thing.place for thing in genpipe.forget("first").found}
    assert {"models:/first/1", "models:/second/1", later_one.run} <= gone, (
        "what went on from it knows it, too"
    )


def test_only_what_is_older_goes_and_nothing_that_was_written_to_lately(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights(3, delivered=False)
    assert not genpipe.clean(keep=1).found, "all of it is of today"
    later(monkeypatch, 10)
    assert not genpipe.clean(keep=1, older="2w").found
    assert len(genpipe.clean(keep=1, older="1w").found) == 4
    assert len(genpipe.clean(older=7).found) == 4, "one of each name stays where no number is said"
    with pytest.raises(UsageError, match=r"older: 'a year'; expected days, such as 90, 90d or 12w"):
        genpipe.clean(older="a year")
    with pytest.raises(UsageError, match="both place= and keep= or older="):
        genpipe.clean(place=str(home / "store"), keep=3)


@pytest.mark.parametrize("killed_after", [1, 2, 4, 7])
def test_killed_at_any_point_nothing_names_what_is_gone(
    killed_after: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = nights(3)
    later(monkeypatch, 100)
    removed, remove = list[str](), store.remove

    def killed(uri: str) -> None:
        if len(removed) == killed_after:
            raise KeyboardInterrupt
        removed.append(uri)
        remove(uri)

    monkeypatch.setattr(store, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        genpipe.clean(keep=1, remove=True)
    monkeypatch.setattr(store, "remove", remove)
    inventory = take_inventory(str(home / "store"))
    for thing in inventory.things.values():
        if thing.kind in ("run", "delivery") and thing.whole:
            assert any(inventory.things[p].kind == "dataset" for p in inventory.named_by(thing)), thing.place
    genpipe.clean(keep=1, remove=True)
    assert found("dataset") == [runs[-1].dataset_uri] and len(found("delivery")) == 1
    assert not [p for p in files(home / "store") if "people-" in p and Path(runs[-1].run).name not in p]


def test_parts_that_a_later_version_names_stay(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TOGETHER", 1)  # a unit a file, as of files of a megabyte
    (folder := tmp_path / "days").mkdir()
    versions = []
    for night in range(3):
        people(night).to_csv(folder / f"{night}.csv", index=False)
        versions.append(genpipe.ingest(str(folder), name="days"))
    before = versions[-1].table("train")
    assert any(part.path.startswith("../") for part in versions[-1].manifest.parts)
    later(monkeypatch, 100)
    genpipe.clean(keep=1, remove=True)
    last = Dataset(versions[-1].uri)
    last.verify()
    assert last.table("train").equals(before)
    assert not Dataset.exists(versions[0].uri) and not Dataset.exists(versions[1].uri)
    people(3).to_csv(folder / "3.csv", index=False)
    assert genpipe.ingest(str(folder), name="days").rows() == 1200


def test_the_same_on_s3(s3_store: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENPIPE_STORE", s3_store)
    runs = list[Any]()
    for night in range(3):
        runs += nights(1, first=night)
        time.sleep(1.1)  # the server's clock tells whole seconds, by which the newest is known
    later(monkeypatch, 100)
    genpipe.clean(keep=1, remove=True)
    assert found("dataset") == [runs[-1].dataset_uri] and len(found("delivery")) == 1
    Dataset(runs[-1].dataset_uri).verify()
    assert not [n for n in store.entries(s3_store) if Path(runs[0].run).name in n]


def test_forget_unpublishes_all_that_derives_and_nothing_else(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, second), (other,) = nights(2), nights(1, "others", first=9)
    published(first), published(second, "rivals"), published(other, "others")
    assert genpipe.generate("models:/people@champion", rows=20, workers=0).rows() == 20
    before, aside = files(home / "store"), {k: v for k, v in files(home / "store").items() if "others" in k}
    assert execute(["forget", "people"]) == 0
    told = capsys.readouterr().out
    assert "a version in the registry, champion: models:/people/1" in told
    assert "nothing was removed" in told and files(home / "store") == before
    assert execute(["forget", "people", "--remove"]) == 0
    receipt = Path(capsys.readouterr().out.split("receipt ")[1].strip())
    said = json.loads(receipt.read_text())
    assert said["looked_at_afterwards"]["of_these_left"] == 0
    assert {g["kind"] for g in said["gone"]} == {"dataset", "run", "delivery", "version", "copy"}
    assert "models:/rivals/1" in {g["place"] for g in said["gone"]}, "whatever name it is published under"
    left = {k: v for k, v in files(home / "store").items() if not k.startswith(("forgotten/", "registry/"))}
    assert left == {k: v for k, v in aside.items() if not k.startswith("registry/")}
    for name in ("people", "rivals"):
        with pytest.raises(DataError):
            genpipe.generate(f"models:/{name}@champion", rows=5)
    assert genpipe.generate("models:/others@champion", rows=5, workers=0).rows() == 5
    # no file of the registry holds a value of those people
    texts = [p.read_bytes() for p in (home / "mlartifacts").rglob("*") if p.is_file()]
    assert len([t for t in texts if b'"dataset_fingerprint"' in t]) == 1
    with pytest.raises(UsageError, match="unknown dataset 'people'"):
        genpipe.forget("people")


def test_forget_takes_the_tables_that_a_flat_one_was_taken_apart_to(home: Path) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(120), 4)
    visits = pd.DataFrame(
        {
            "person": [f"P{n:05d}" for n in who],
            "born": 1950 + who % 40,
            "cost": rng.integers(10, 99, len(who)),
        }
    )
    data = genpipe.ingest(visits, name="visits", entity="person")
    model = genpipe.train(data, recipe="tabular_trees", by="entity")
    genpipe.generate(model, rows=20, workers=0)
    gone = genpipe.forget("visits", remove=True)
    assert {thing.kind for thing in gone.found} >= {"dataset", "tables", "run", "delivery"}
    assert not [name for name in files(home / "store") if not name.startswith("forgotten/")]


def test_the_same_rows_under_another_name_are_the_same_data(home: Path) -> None:
    (run,), (twin,), (other,) = nights(1), nights(1, "twin"), nights(1, "other", first=3)
    gone = {thing.place for thing in genpipe.forget("people", remove=True).found}
    assert {run.dataset_uri, twin.dataset_uri, run.run, twin.run} <= gone
    assert found("dataset", "other") == [other.dataset_uri] and len(found("delivery", "other")) == 1


def test_forget_waits_for_work_in_progress(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = nights(1, delivered=False)
    Path(store.path_of(run.run), "result.json").unlink()  # a training that goes on
    data = Dataset(run.dataset_uri)
    with pytest.raises(InfrastructureError, match="something is being written there"):
        genpipe.forget("people", remove=True)
    assert Dataset.exists(data.uri)
    monkeypatch.setattr(stage, "time", SimpleNamespace(time=lambda: time.time() + 3600))
    gone = genpipe.forget("people", remove=True)  # of a training that was killed long ago
    assert run.run in {thing.place for thing in gone.found}
    assert not [name for name in files(home / "store") if not name.startswith("forgotten/")]


def test_a_training_in_progress_keeps_its_dataset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = nights(2, delivered=False)
    Path(store.path_of(first.run), "result.json").unlink()
    later(monkeypatch, 100)
    inventory = take_inventory(str(home / "store"))
    begun = replace(inventory.things[first.run], written=retention.time.time())
    inventory.things[first.run] = begun
    places = {thing.place for thing in retention.surplus(inventory, keep=1)}
    assert first.run not in places and first.dataset_uri not in places


def test_models_of_others_in_the_registry_stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genpipe.registry.tracking import client

    runs = nights(4, delivered=False)
    for run in runs:
        published(run)
    to = client()
    to.create_registered_model("fraud")
    for _ in range(3):
        to.create_model_version("fraud", "/somewhere/else")
    to.copy_model_version("models:/people/2", "production")  # MLflow's own way to promote
    to.set_registered_model_alias("production", "champion", "1")
    later(monkeypatch, 100)
    genpipe.clean(keep=1, remove=True)
    assert len(to.search_model_versions("name = 'fraud'")) == 3
    assert genpipe.generate("models:/production@champion", rows=5, workers=0).rows() == 5
    assert {int(v.version) for v in to.search_model_versions("name = 'people'")} == {1, 2, 4}


def test_who_is_promoted_meanwhile_keeps_all_it_needs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = nights(4, delivered=False)
    for run in runs:
        published(run)
    later(monkeypatch, 100)
    begin = retention.surplus

    def promoted(*args: Any, **given: Any) -> Any:
        found = begin(*args, **given)
        genpipe.promote("people", 2)
        return found

    monkeypatch.setattr(retention, "surplus", promoted)
    genpipe.clean(keep=1, remove=True)
    assert genpipe.generate("models:/people@champion", rows=5, workers=0).rows() == 5
    assert Dataset.exists(runs[1].dataset_uri) and not Dataset.exists(runs[2].dataset_uri)


def test_a_document_that_cannot_be_read_stops_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = nights(2, delivered=False)
    Path(store.path_of(runs[-1].run), "result.json").write_text("{ cut")
    later(monkeypatch, 100)
    before = files(home / "store")
    for verb in (lambda: genpipe.clean(keep=1, remove=True), lambda: genpipe.forget("people", remove=True)):
        with pytest.raises(DataError, match=r"result\.json"):
            verb()
    assert files(home / "store") == before


def test_copies_without_their_registry_stop_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = nights(1, delivered=False)
    published(run)
    genpipe.generate("models:/people@champion", rows=5, workers=0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'another.db'}")
    with pytest.raises(InfrastructureError, match="the registry holds none"):
        genpipe.clean(keep=1)


def test_forget_knows_what_names_a_model_by_its_fingerprint(home: Path) -> None:
    data = genpipe.ingest(people(0), name="people")
    final = genpipe.train(data, recipe="tabular_trees", final="all")
    made = genpipe.generate(final, rows=5, workers=0)
    given = people(1)
    given.loc[:20, "income"] = None
    filled = genpipe.impute(final, given)
    gone = {thing.place for thing in genpipe.forget("people").found}
    assert {data.uri, final.run, made.uri, filled.uri} <= gone


def test_retention_of_a_pipeline_that_learns_by_entity(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for night in range(3):
        rng = np.random.default_rng(night)
        who = np.repeat(np.arange(120), 4)
        cost = rng.integers(10, 99, len(who))
        visits = pd.DataFrame({"person": [f"P{n:05d}" for n in who], "born": 1950 + who % 40, "cost": cost})
        data = genpipe.ingest(visits, name="visits", entity="person")
        genpipe.train(data, recipe="tabular_trees", by="entity")
    nights(2, "visits-trials-eu", delivered=False)
    later(monkeypatch, 100)
    list(retention.retired(str(home / "store"), keep=1, name="visits", removing=True))
    kinds = [(t.kind, t.name) for t in take_inventory(str(home / "store")).things.values()]
    assert all(kinds.count(each) == 1 for each in kinds if not each[1].startswith("visits-trials"))
    assert kinds.count(("dataset", "visits-trials-eu")) == 2


def test_a_registry_that_cannot_be_reached_stops_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nights(2, delivered=False)
    later(monkeypatch, 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = files(home / "store")
    with pytest.raises(InfrastructureError):
        genpipe.clean(keep=1, remove=True)
    assert files(home / "store") == before
