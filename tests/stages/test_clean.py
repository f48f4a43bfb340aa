"""clean: what twins, killed and ended runs leave goes; what a manifest names or somebody writes stays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_dataset import small_dataset

import genpipe
from genpipe import store
from genpipe.bundle import Bundle
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.delivery import working
from genpipe.errors import UsageError
from genpipe.private import Scratch
from genpipe.registry import publish, resolve
from genpipe.stages import clean as stage

RECIPE = {"base": "tabular_vae", "training": {"steps": 60, "evaluate_every": 30, "checkpoint_every": 10}}
HOURS = 3600.0


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of one's own: this machine's holds what other tests' killed processes left."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr("genpipe.private.SHORT", folder)


def later(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """For `clean` alone, what lies there now was written so many hours ago."""
    monkeypatch.setattr(stage, "time", SimpleNamespace(time=lambda: time.time() + HOURS * hours))


def files(folder: Path | str) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in Path(folder).rglob("*")
        if p.is_file()
    }


def places(cleaned: stage.Cleaned, root: str) -> set[str]:
    return {each.place.removeprefix(f"{root}/") for each in cleaned.found}


def test_of_a_whole_store_only_leftovers_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = home / "store"
    dataset = small_dataset(str(root / "datasets/people/0a"))
    before = files(root)
    small_dataset(dataset.uri)  # a twin: the same parts again, and a manifest that was there already
    twin = set(files(root)) - set(before)
    small = small_dataset(str(root / "datasets/dead/0b"))
    Path(small.uri, "manifest.json").unlink()  # killed before its commit
    dead = {f"datasets/dead/0b/{name}" for name in files(small.uri)}

    model = genpipe.train(dataset, recipe=RECIPE)
    run = Path(model.run).relative_to(root)
    ended = {f"{run}/checkpoints/{name}" for name in files(Path(model.run, "checkpoints"))}
    made = genpipe.generate(model, rows=300, workers=0)
    half = Path(made.uri, ".manifest.json.0123456789abcdef0123456789abcdef")
    half.write_text("cut off in the mid")
    champion = publish(model.uri, name="people", metrics={"fidelity": 0.5}, holdout="h")
    resolve("models:/people@champion")  # its copy in the store

    wanted = twin | dead | ended | {str(half.relative_to(root))}
    assert len(twin) == 2 and len(dead) == 2 and len(ended) == 4
    assert not genpipe.clean().found, "all of it was written a moment ago"
    later(monkeypatch, 25)
    everything = files(root)
    looked = genpipe.clean()
    assert places(looked, str(root)) == wanted and not looked.removed and not looked.left
    assert files(root) == everything, "the first look touches nothing"
    assert looked.bytes == sum((root / name).stat().st_size for name in wanted)
    assert places(genpipe.clean(remove=True), str(root)) == wanted
    assert files(root) == {name: sha for name, sha in everything.items() if name not in wanted}
    assert not list(root.glob("datasets/dead/0b/data/*")), "the folder of an attempt goes with it"
    assert not genpipe.clean().found

    dataset.verify()
    made.verify()
    Bundle.open(model.uri)
    assert resolve("models:/people@champion").reference == champion.uri
    assert genpipe.train(dataset, recipe=RECIPE).uri == model.uri
    assert genpipe.generate("models:/people@champion", rows=50, workers=0).rows() == 50


DRIVER = """
import sys, genpipe
genpipe.generate(sys.argv[1], rows=20_000, rows_per_part=500, workers=0, output=sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_job_keeps_what_it_recorded_and_goes_on(
    home: Path, table_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL between two parts; a part that no record names goes, the others are not made again."""
    output = tmp_path / "out"
    work = Path(working(str(output)))
    job = subprocess.Popen([sys.executable, "-c", DRIVER, table_bundle, str(output)])
    while len(list(work.glob("shards/*.json"))) < 3:
        assert job.poll() is None
        time.sleep(0.005)
    job.kill()
    job.wait()
    recorded = {json.loads(p.read_text())["path"] for p in work.glob("shards/*.json")}
    orphan = work / "data/0123456789ab/generated-00039.parquet"  # as if killed between part and record
    orphan.parent.mkdir()
    orphan.write_bytes(b"whole, but nobody knows")
    assert not genpipe.clean(place=str(output), remove=True).found
    later(monkeypatch, 25)
    genpipe.clean(place=str(output), remove=True)
    assert {name for name in files(work) if name.startswith("data/")} == recorded
    kept = {Path(name).name: os.stat(work / name).st_mtime_ns for name in recorded}
    made = genpipe.generate(table_bundle, rows=20_000, rows_per_part=500, workers=0, output=str(output))
    made.verify()
    assert made.rows() == 20_000
    assert kept == {name: os.stat(output / "data" / name).st_mtime_ns for name in kept}


def test_who_writes_is_left_alone_and_so_is_a_manifest_nobody_can_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = home / "store/datasets"
    busy, damaged = (small_dataset(str(root / name / "0a")) for name in ("busy", "damaged"))
    for dataset in (busy, damaged):
        small_dataset(dataset.uri)
    Path(damaged.uri, "manifest.json").write_text("{")
    later(monkeypatch, 25)
    soon = time.time() + 24.5 * HOURS
    os.utime(Path(busy.uri, "manifest.json"), (soon, soon))
    everything = files(root)
    cleaned = genpipe.clean(remove=True)
    assert not cleaned.found and files(root) == everything
    assert set(cleaned.left) == {
        f"{busy.uri}: written to lately",
        f"{damaged.uri}: its manifest cannot be read",
    }
    assert set(genpipe.clean(hours=1e9).left) >= {f"{busy.uri}: written to lately"}


def test_trials_of_an_ended_search_keep_no_checkpoints(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = home / "store"
    runs = {
        name: root / f"runs/{name}-0123456789/checkpoints"
        for name in ("people-trial000", "pets-trial001", "own")
    }
    for folder in runs.values():
        (folder / "aaaaaaaa").mkdir(parents=True)
        (folder / "aaaaaaaa/00000010.safetensors").write_bytes(b"1")
        (folder / "aaaaaaaa/00000020.safetensors").write_bytes(b"2")
        (folder / "00000020-aaaaaaaa.json").write_text("{}")
    for study, file in {
        "people-0000000001": "result",
        "pets-0000000001": "result",
        "pets-0000000002": "plan",
    }.items():
        for name in {"plan", file}:
            (root / "studies" / study).mkdir(parents=True, exist_ok=True)
            (root / "studies" / study / f"{name}.json").write_text("{}")
    later(monkeypatch, 25)
    genpipe.clean(remove=True)
    left = {name: sorted(files(folder)) for name, folder in runs.items()}
    newest = ["00000020-aaaaaaaa.json", "aaaaaaaa/00000020.safetensors"]
    assert left == {"people-trial000": [], "pets-trial001": newest, "own": newest}


def test_on_s3(home: Path, s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENPIPE_STORE", s3_store)
    dataset = small_dataset(f"{s3_store}/datasets/people/0a")
    before = set(store.listing(s3_store))
    small_dataset(dataset.uri)
    twin = set(store.listing(s3_store)) - before
    later(monkeypatch, 25)
    assert places(genpipe.clean(remove=True), s3_store) == twin and len(twin) == 2
    assert set(store.listing(s3_store)) == before
    Dataset(dataset.uri).verify()


def test_what_a_home_keeps_too_long(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old = ["logs/train-20260101-000000-1.log", "mlflow.db.before-3.1-20260101T000000", "ray/0123/ranks-1"]
    new = [
        "logs/train-20261101-000000-2.log",
        "mlflow.db",
        "ray/4567/ranks-2",
        "store/x",
        "prefect/prefect.db",
    ]
    for name in (*old, *new):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
    then = time.time() - 31 * 24 * HOURS
    for name in (*old, "ray/0123", "mlflow.db", "store/x", "prefect/prefect.db"):
        os.utime(home / name, (then, then))
    code = "from genpipe.private import Scratch; import os; Scratch('ray'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)})
    (gone,) = tmp_path.glob("genpipe-ray-*")
    monkeypatch.setattr("genpipe.private.STARTING_SECONDS", 0)
    lives = Scratch("ray")  # sweeps, too: so the killed one is made again
    gone.mkdir(exist_ok=True)
    mine = {str(home / name) for name in old[:2]} | {str(home / "ray/0123"), str(gone)}
    found = {each.place for each in genpipe.clean().found if each.place.startswith(str(tmp_path))}
    assert found == mine and gone.exists()
    genpipe.clean(remove=True)
    assert {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()} == set(new)
    assert not gone.exists() and lives.path.exists()
    lives.remove()


def test_the_command_says_what_it_would_do(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = small_dataset(str(home / "store/datasets/people/0a"))
    small_dataset(dataset.uri)
    later(monkeypatch, 25)
    assert execute(["clean"]) == 0
    out = capfd.readouterr().out
    assert "a part that no manifest names: 2, 0.0 MB" in out
    assert "2 leftovers, 0.0 MB: found; nothing was removed, --remove does it" in out
    assert execute(["clean", "--remove"]) == 0 and "2 leftovers, 0.0 MB: removed" in capfd.readouterr().out
    assert execute(["clean"]) == 0 and "no leftovers" in capfd.readouterr().out
    with pytest.raises(UsageError, match=r"hours: 0; expected a number from 1"):
        genpipe.clean(hours=0)
