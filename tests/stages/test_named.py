"""Names that mean one thing: the store first, the last ingest command, and what was taken is said."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genpipe
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import ConflictError, DataError, GenpipeError, UsageError
from genpipe.names import is_name, plain_name
from genpipe.perform import meant
from genpipe.requests import Evaluate, Generate, Train
from genpipe.settings import read_settings
from genpipe.stages.named_data import dataset_meant, name_of_source
from genpipe.stages.named_models import model_meant


def table(path: Path, seed: int = 0, rows: int = 200) -> str:
    draw = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    ages = [draw.randint(18, 80) for _ in range(rows)]
    lines = [f"{age},{draw.choice(['Rome', 'Oslo'])},{draw.gauss(40 + age, 9):.2f}" for age in ages]
    path.write_text("age,city,income\n" + "\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_the_dataset_also_beside_a_folder_or_file_of_that_name(here: Path) -> None:
    rng = np.random.default_rng(0)
    for label in "ab":
        Path("pics", label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(f"pics/{label}/{i}.png")
    with pytest.raises(DataError, match=r"not ingested yet.*genpipe ingest pics"):
        dataset_meant("pics")
    pictures = genpipe.ingest("pics")
    Path("people").write_text("no table")
    people = genpipe.ingest(table(here / "people.csv"))
    assert dataset_meant("pics").uri == dataset_meant("./pics").uri == dataset_meant("pics/").uri
    assert dataset_meant("pics").uri == pictures.uri
    for word in ("people", "people.csv", str(here / "people.csv"), people.uri):
        found = dataset_meant(word)
        assert found.uri == people.uri
        assert "people.csv" in found.said and people.fingerprint[:8] in found.said
        assert f"{people.rows('train')} rows to learn from" in found.said
    with pytest.raises(UsageError, match=r"GENPIPE_HOME is .*unknown dataset 'peple'.*did you mean 'people'"):
        dataset_meant("peple")


def test_the_last_ingest_command_decides(here: Path) -> None:
    jan, feb = table(here / "jan/data.csv", 1), table(here / "feb/data.csv", 2)
    first = genpipe.ingest(jan)
    with pytest.raises(ConflictError, match=r"'data', which is that of .*jan/data.csv.*--name feb-data") as e:
        genpipe.ingest(feb)
    assert e.value.code == "NAMETAKEN" and e.value.exit_code == 6
    second = genpipe.ingest(feb, name="data")  # said so
    assert dataset_meant("data").uri == second.uri != first.uri
    assert genpipe.ingest(jan, name="data").uri == first.uri
    assert dataset_meant("data").uri == first.uri
    assert genpipe.ingest(feb, name="feb-data").name == "feb-data"


def test_a_store_of_before_has_its_newest_dataset(here: Path) -> None:
    one = genpipe.ingest(table(here / "data.csv", 1))
    fingerprint = one.fingerprint
    Path(one.uri).parent.joinpath("latest.json").unlink()
    assert dataset_meant("data").uri == one.uri
    os.rename(Path(one.uri).parent, Path(one.uri).parent.with_name("gr-e"))
    assert Dataset(dataset_meant("Größe").uri).fingerprint == fingerprint  # as its file was called then


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("People 2024.csv.gz", "people-2024"), ("2024.csv", "2024"), ("2024.sales.csv", "2024.sales"),
        ("Größe.csv", "größe"), ("Gro\u0308ße.csv", "größe"), ("данные/Люди.parquet", "люди"),
        ("顧客.csv", "顧客"), ("हिन्दी.csv", "हिन्दी"), ("a b/c*.csv", "a-b"), ("builtin:digits", "digits"),
        ("s3://lake/people/", "people"), ("latest.csv", "data-latest"), ("🙂.csv", "data"),
        ("photos/", "photos"),
        ("é" * 60 + ".csv", "é" * 31),
    ],
)  # fmt: skip
def test_names_keep_letters_of_any_script(file: str, name: str) -> None:
    assert name_of_source(file) == name and is_name(name)


@pytest.mark.parametrize("text", ["", "A", "a/b", "a:b", "a\u202eb", "..", "-a", "\u0301a", "a b", "a\n"])
def test_what_is_no_name_is_refused(text: str) -> None:
    assert not is_name(text) and is_name(plain_name(text))


def test_a_model_has_many_names(here: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown model 'people'; .*none was yet; genpipe ingest FILE"):
        model_meant("people")
    data = genpipe.ingest(table(here / "people.csv", rows=1500))
    with pytest.raises(UsageError, match=r"a dataset that nothing was trained on yet.*genpipe train people"):
        model_meant("people")
    model = genpipe.train("people", recipe="tabular_trees")
    run = str(Path(model.uri).parent)
    for word in ("people", "people.csv", run, data.uri):
        assert model_meant(word).uri == model.uri, word
    assert genpipe.evaluate("people").verdict
    registered = genpipe.register("people")
    assert registered.uri == "models:/people/1"
    for word in ("people", "people@champion", "models:/people", "people@1", "people/1", "people.csv"):
        assert genpipe.explain(model_meant(word).uri)["model"] == registered.uri, word
    assert model_meant("people", newest=True).uri == model.uri
    with pytest.raises(UsageError, match="did you mean 'people'"):
        model_meant("peeple")
    asked, said = meant(Generate.of(model="people", rows=3))
    assert asked.model == registered.uri and "champion" in said[0]
    asked, said = meant(Evaluate.of(model="people", dataset="people"))
    assert (asked.model, asked.dataset) == (model.uri, data.uri) and len(said) == 2
    assert genpipe.generate("people", rows=7, workers=0).rows() == 7


def test_train_says_what_it_took(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    genpipe.ingest(table(here / "people.csv"))
    assert execute(["train", "people", "--recipe", "tabular_trees"]) == 0
    err = " ".join(capfd.readouterr().err.split())
    assert f"took dataset people, version {Dataset(dataset_meant('people').uri).fingerprint[:8]}" in err
    assert "people.csv, ingested 20" in err and "rows to learn from" in err


def test_the_home_is_found_from_folders_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENPIPE_HOME", raising=False)
    (tmp_path / ".genpipe").mkdir(mode=0o700)
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert read_settings().home == tmp_path / ".genpipe"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # another's: passed over
    assert read_settings().home == below / ".genpipe"


def test_a_tilde_is_the_home_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    genpipe.ingest(table(here / "people.csv"))
    assert dataset_meant("~/people.csv").uri == genpipe.ingest("~/people.csv").uri
    assert Generate.of(model="x", output="~/out").output == str(here / "out")
    assert meant(Train.of(dataset="~/people.csv"))[0].dataset == dataset_meant("people").uri


def test_relative_paths_of_a_spec_are_the_specs(here: Path) -> None:
    spec = here / "specs/people.yaml"
    table(here / "specs/people.csv", 1)
    spec.write_text("name: people\nsource: {path: people.csv}\ngenerate: {rows: 5, output: out}\n")
    checked = genpipe.validate("specs/people.yaml")
    assert (checked.source.path, checked.generate.output) == ("specs/people.csv", "specs/out")
    table(here / "people.csv", 2)
    with pytest.raises(GenpipeError, match=r"line 2: source.path: found 'people.csv' beside the spec and"):
        genpipe.validate("specs/people.yaml")
    spec.write_text(spec.read_text().replace("path: people", "path: ./people"))
    assert genpipe.validate("specs/people.yaml").source.path == "specs/people.csv"
    (here / "specs/people.csv").unlink()  # as specs of before were written
    assert genpipe.validate("specs/people.yaml").source.path == "./people.csv"
    os.chdir("specs")
    with pytest.raises(GenpipeError, match=r"people.csv"):
        genpipe.validate("people.yaml")
