"""Registering: one version per bundle, a champion by rule, a model that loads where only genpipe is."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from small_dataset import SCHEMA, small_dataset

import genpipe
from genpipe.bundle import Bundle, save_bundle
from genpipe.cli import execute
from genpipe.errors import ConflictError, DataError, GenpipeError, InfrastructureError, UsageError
from genpipe.registry import Registered, log_trial, publish, resolve, track
from genpipe.registry.promotion import Promotion
from genpipe.registry.tracking import client
from genpipe.stages.explain import explain
from genpipe.verbs import generate

ROOT = Path(genpipe.__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def registry_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One MLflow database for the file: making it takes seconds. Every test uses names of its own."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        patch.delenv("GENPIPE_STORE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


def variant(uri: str, folder: Path, number: int) -> str:
    """The same generator with other metrics: another bundle."""
    bundle = Bundle.open(uri)
    weights = {f"{r}.{k}": v for r, net in bundle.nets.items() for k, v in net.state_dict().items()}
    origin = bundle.origin | {"seed": number, "dataset_uri": f"{folder}/datasets/people/abc"}
    made = save_bundle(
        str(folder / f"bundle-{number}"),
        recipe=bundle.recipe,
        codec=bundle.codec,
        weights=weights,
        metrics={"fidelity": number / 100},
        origin=origin,
    )
    return made.uri


def put(bundle: str, name: str, fidelity: float, holdout: str = "h1", **options: object) -> Registered:
    return publish(bundle, name=name, metrics={"fidelity": fidelity}, holdout=holdout, **options)  # type: ignore[arg-type]


def test_the_champion_changes_only_for_a_better_one_on_the_same_holdout(
    table_bundle: str, tmp_path: Path
) -> None:
    bundles = [variant(table_bundle, tmp_path, n) for n in range(5)]
    first = put(bundles[0], "rule", 0.80)
    assert (first.version, first.alias, str(first)) == (1, "champion", "models:/rule/1")
    worse = put(bundles[1], "rule", 0.801)  # within the margin of the rule
    assert (worse.version, worse.alias) == (2, "challenger")
    assert "0.8010 against 0.8000 of version 1 on the same holdout" in worse.reason
    better = put(bundles[2], "rule", 0.85)
    assert (better.version, better.alias) == (3, "champion")
    elsewhere = put(bundles[3], "rule", 0.99, holdout="h2")
    assert (elsewhere.alias, "another holdout" in elsewhere.reason) == ("challenger", True)
    measured: list[str] = []

    def rescore(model: str) -> float:
        measured.append(model)
        return 0.90

    again = put(bundles[3], "rule", 0.99, holdout="h2", rescore=rescore)  # found again, and now comparable
    assert (again.version, again.alias, measured) == (4, "champion", ["models:/rule/3"])
    assert resolve("models:/rule@champion").reference == "models:/rule/4"
    assert resolve("models:/rule@challenger").reference == "models:/rule/4"


def test_a_version_of_other_columns_becomes_champion_and_a_person_goes_back(tmp_path: Path) -> None:
    """A scheduled pipeline goes on after a column was dropped from its source."""
    fewer = SCHEMA.model_copy(update={"fields": tuple(f for f in SCHEMA.fields if f.name != "colour")})
    made = []
    for k, schema in enumerate((SCHEMA, fewer)):
        dataset = small_dataset(str(tmp_path / str(k)), rows=300, holdout=60, schema=schema)
        model = genpipe.train(dataset, recipe={"base": "tabular_trees"}, name="columns")
        made.append(genpipe.register(model, name="columns", report=genpipe.evaluate(model)))
    assert [m.alias for m in made] == ["champion", "champion"]
    assert made[1].reason == "version 1 is of other columns; back to it: genpipe promote columns 1"
    back = genpipe.promote("columns", "previous")
    assert (back.version, back.alias) == (1, "champion")
    assert resolve("models:/columns@champion").reference == "models:/columns/1"
    assert genpipe.promote("columns", "previous").version == 2
    assert genpipe.promote("columns", 2).reason == "already champion"
    assert genpipe.promote("columns", 1, reason="the old columns are wanted").uri == "models:/columns/1"
    assert client().get_model_version("columns", "1").tags["promoted"] == "the old columns are wanted"
    for version, wrong in ((3, "no version 3; expected one of 1, 2"), ("latest", "or 'previous'")):
        with pytest.raises(GenpipeError, match=wrong):
            genpipe.promote("columns", version)
    with pytest.raises(GenpipeError, match="did you mean 'columns'"):
        genpipe.promote("colums", 1)
    assert execute(["promote", "columns", "2", "--reason", "as the source has it now"]) == 0
    assert resolve("models:/columns@champion").reference == "models:/columns/2"


def test_a_version_that_was_not_checked_is_promoted_for_a_reason(table_bundle: str, tmp_path: Path) -> None:
    put(variant(table_bundle, tmp_path, 1), "sound", 0.5)
    assert (
        put(variant(table_bundle, tmp_path, 2), "sound", 0.9, terms={"unchecked": "a demonstration"}).version
        == 2
    )
    with pytest.raises(GenpipeError, match=r"was not checked or did not pass; expected a reason"):
        genpipe.promote("sound", 2)
    assert genpipe.promote("sound", 2, reason="shown to nobody outside").version == 2
    assert genpipe.promote("sound", "previous").version == 1


def test_one_version_per_output(table_bundle: str) -> None:
    assert [put(table_bundle, "once", 0.5).version for _ in range(3)] == [1, 1, 1]
    assert len(client().search_model_versions("name = 'once'")) == 1


def test_a_killed_promotion_is_finished_by_the_next(table_bundle: str, tmp_path: Path) -> None:
    one, two = (variant(table_bundle, tmp_path, n) for n in (1, 2))
    put(one, "cut", 0.5)
    assert put(two, "cut", 0.4).alias == "challenger"
    to = client()
    promotion = Promotion(to, "cut", "champion")
    promotion._apply = lambda number, version: None  # type: ignore[method-assign]  # as if killed before the alias
    promotion.move(2)
    assert resolve("models:/cut@champion").reference == "models:/cut/1"
    assert Promotion(to, "cut", "champion").version == 2
    assert resolve("models:/cut@champion").reference == "models:/cut/2"
    to.set_registered_model_alias("cut", "champion", "1")  # a person may move it back, and it stays
    assert Promotion(to, "cut", "champion").version == 1


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(table_bundle: str, tmp_path: Path) -> None:
    names = [variant(table_bundle, tmp_path, n) for n in range(3)]
    put(names[0], "race", 0.5)
    for bundle in names[1:]:
        assert put(bundle, "race", 0.4).alias == "challenger"
    barrier, outcome = threading.Barrier(2), {}

    def promote(version: int) -> None:
        promotion = Promotion(client(), "race", "champion")
        barrier.wait()
        try:
            promotion.move(version)
            outcome[version] = "moved"
        except ConflictError as error:
            outcome[version] = str(error)

    threads = [threading.Thread(target=promote, args=(version,)) for version in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = next(version for version, what in outcome.items() if what == "moved")
    loser = 5 - winner
    assert f"version {winner} became champion while version {loser} was compared" in outcome[loser]
    assert resolve("models:/race@champion").reference == f"models:/race/{winner}"


def test_nothing_of_this_machine_is_published(table_bundle: str, tmp_path: Path, registry_home: Path) -> None:
    put(variant(table_bundle, tmp_path, 1), "clean", 0.5)
    version = client().get_model_version_by_alias("clean", "champion")
    model = client().get_logged_model(version.source.removeprefix("models:/"))
    files = [p for p in Path(model.artifact_location.removeprefix("file://")).rglob("*") if p.is_file()]
    assert {p.name for p in files} >= {
        "MLmodel",
        "requirements.txt",
        "weights.safetensors",
        "pyfunc_model.py",
    }
    private = [str(registry_home), str(tmp_path), str(ROOT), str(Path.home()) + "/", "/tmp/"]
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        assert not [p for p in private if p in text], path
        assert path.suffix not in (".pkl", ".pickle")
        assert path.read_bytes()[:2] != b"\x80\x04"
    assert not [p for p in private if p in json.dumps(version.tags)]
    assert version.tags["dataset_uri"] == "people/abc"
    assert {"output_id", "dataset_fingerprint", "recipe", "code", "seed", "holdout"} <= set(version.tags)
    needs = next(p for p in files if p.name == "requirements.txt").read_text().split()
    assert f"genpipe=={genpipe.__version__}" in needs and all("==" in need for need in needs)


def test_a_name_is_resolved_once_and_recorded(table_bundle: str) -> None:
    put(table_bundle, "resolved", 0.5)
    dataset = generate("models:/resolved@champion", rows=20)
    assert dataset.manifest.origin["model"] == "models:/resolved/1"
    assert "generated/resolved/" in dataset.uri
    assert generate("models:/resolved/1", rows=20).uri == dataset.uri
    assert explain("models:/resolved@champion")["model"] == "models:/resolved/1"


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        ("models:/absent@champion", DataError, "models:/absent@champion: unknown model 'absent'"),
        ("models:/resolved@nobody", DataError, "nobody"),
        ("models:/resolved/99", DataError, "99"),
        ("models:/resolved", UsageError, "expected models:/name@alias or models:/name/3"),
    ],
)
def test_names_that_lead_nowhere(table_bundle: str, model: str, error: type[Exception], match: str) -> None:
    put(table_bundle, "resolved", 0.5)
    with pytest.raises(error, match=match):
        resolve(model)


@pytest.mark.parametrize(
    "name", ["", "a b", "../x", "=cmd()", "x" * 300, "Ärger", "latest", "-x", "a/b", "a:b", "a\n"]
)
def test_names_mlflow_would_take_or_choke_on_are_refused(table_bundle: str, name: str) -> None:
    with pytest.raises(UsageError, match="at most 63"):
        put(table_bundle, name, 0.5)


def test_trials_are_runs_nested_in_their_study() -> None:
    for number in range(2):
        trial = {
            "number": number,
            "state": "finished",
            "choices": {"family": {"adversarial": "hinge"}, "learning_rate": 1e-3},
            "metrics": {"fidelity": 0.5 + number / 10},
            "history": ((10, 0.4), (20, 0.5)),
            "seconds": 1.5,
        }
        log_trial("study", study_uri="studies/study-1", trial=trial)
    to = client()
    where = [to.get_experiment_by_name("genpipe-search/study").experiment_id]
    (parent,) = to.search_runs(where, "tags.level = 'study'")
    trials = to.search_runs(where, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1"]
    assert trials[0].data.params == {"family.adversarial": "hinge", "learning_rate": "0.001"}
    curve = to.get_metric_history(trials[0].info.run_id, "fidelity")
    assert [(m.step, m.value) for m in curve if m.step] == [(10, 0.4), (20, 0.5)]


def test_a_failed_run_is_marked_so() -> None:
    with pytest.raises(ZeroDivisionError), track("breaks") as run:
        run.log({"loss": 1.0}, step=1)
        raise ZeroDivisionError
    noted = client().get_run(run.id)
    assert (noted.info.status, noted.data.metrics) == ("FAILED", {"loss": 1.0})


def test_a_server_that_is_away_is_one_clear_line(table_bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    began = time.monotonic()
    with pytest.raises(
        InfrastructureError, match=r"http://127.0.0.1:9: .*MLFLOW_TRACKING_URI is right"
    ) as caught:
        put(table_bundle, "away", 0.5)
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (4, False)
    assert time.monotonic() - began < 60


def clean_environment(home: Path) -> dict[str, str]:
    """What a consumer has: an MLflow to ask, genpipe installed, nothing else of ours."""
    bin_folder = str(Path(sys.executable).parent)
    return {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
    }


def test_a_clean_process_loads_the_champion_and_predicts(
    table_bundle: str, registry_home: Path, tmp_path: Path
) -> None:
    put(table_bundle, "clean-process", 0.5)
    code = """
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/clean-process@champion")
plain = model.predict(pd.DataFrame(), params={"rows": 5, "seed": 1, "conditions": '{"city": "Ulm"}'})
told = model.predict(pd.DataFrame({"sex": ["m", "f", "m"]}), params={"seed": 1})
again = model.predict(pd.DataFrame(), params={"rows": 5, "seed": 1, "conditions": '{"city": "Ulm"}'})
assert plain.equals(again)
for wrong in ({"rows": "many"}, {"rows": 2.5}, {"conditions": "Ulm"}, {"conditions": '{"citty": "Ulm"}'}):
    try:
        model.predict(pd.DataFrame(), params=wrong)
    except Exception as error:
        print("refused:", str(error).splitlines()[0])
print(plain.to_json(orient="split")); print(told.to_json(orient="split"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(registry_home),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *refused, plain, told = done.stdout.splitlines()
    assert len(refused) == 4 and "did you mean 'city'" in refused[3]
    frame = pd.read_json(io.StringIO(plain), orient="split")
    bundle = Bundle.open(table_bundle)
    assert list(frame.columns) == list(bundle.schema.names)
    assert frame["city"].tolist() == ["Ulm"] * 5
    assert frame.to_dict("list") == bundle.sample(5, seed=1, conditions={"city": "Ulm"}).to_pandas().to_dict(
        "list"
    )
    assert pd.read_json(io.StringIO(told), orient="split")["sex"].tolist() == ["m", "f", "m"]


@pytest.mark.slow
def test_mlflow_models_serve_answers(
    table_bundle: str, image_bundle: str, registry_home: Path, tmp_path: Path
) -> None:
    for name, bundle in (("served", table_bundle), ("served-images", image_bundle)):
        put(bundle, name, 0.5)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            str(Path(sys.executable).with_name("mlflow")),
            "models",
            "serve",
            "-m",
            f"models:/{name}@champion",
        ]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
        with open(tmp_path / f"{name}.log", "wb") as log:
            server = subprocess.Popen(
                command,
                env=clean_environment(registry_home),
                cwd=tmp_path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            body = {"dataframe_split": {"columns": [], "data": []}, "params": {"rows": 3, "seed": 1}}
            rows = ask(port, body, log=tmp_path / f"{name}.log")["predictions"]
            assert len(rows) == 3 and set(rows[0]) == set(Bundle.open(bundle).schema.names)
        finally:
            os.killpg(server.pid, 9)
            server.wait()


def ask(port: int, body: dict, *, log: Path) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    end = time.monotonic() + 90
    while True:
        try:
            return json.load(urllib.request.urlopen(request, timeout=30))
        except urllib.error.HTTPError as error:
            pytest.fail(error.read().decode()[:2000])
        except OSError:
            if time.monotonic() > end:
                pytest.fail(log.read_text()[-2000:])
            time.sleep(0.5)
