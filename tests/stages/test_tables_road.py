"""Related tables beyond training: judged by held-out families, one version of all, loaded anywhere."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_register import clean_environment
from test_tables import ROLES, shop, spec_of

import genpipe
from genpipe.cli import execute
from genpipe.errors import DataError, PrivacyError, UsageError
from genpipe.evaluation import Report
from genpipe.evaluation.privacy import membership
from genpipe.registry import resolve
from genpipe.registry.tracking import client
from genpipe.related.evaluate import flat_data
from genpipe.related.sample import sample_tables
from genpipe.related.train import open_tables
from genpipe.related.unflatten import kin_of, tables_of
from genpipe.stages.explain import explain


@pytest.fixture(scope="module", autouse=True)
def road_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home with its MLflow database for the file: making it takes seconds."""
    folder = tmp_path_factory.mktemp("road")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        patch.delenv("GENPIPE_STORE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


def trained(folder: Path, recipe: Any = "tabular_trees", **changes: Any) -> str:
    return genpipe.train_tables(spec_of(folder, shop(), **ROLES) | {"recipe": recipe} | changes).uri


@pytest.fixture(scope="module")
def model(road_home: Path) -> str:
    """So few families are known by heart with more epochs."""
    return trained(road_home / "csv", {"base": "tabular_autoregressive", "training": {"epochs": 3}})


@pytest.fixture(scope="module")
def poor(road_home: Path) -> str:
    """The same data, hardly learnt."""
    return trained(road_home / "csv", {"base": "tabular_autoregressive", "training": {"steps": 1}})


@pytest.fixture(scope="module")
def report(model: str) -> Report:
    return genpipe.evaluate(model)


def test_the_flat_rows_are_the_tables_again(model: str) -> None:
    nodes, real = open_tables(model).nodes, shop()
    assert nodes[0].name == "customers"
    parts = [tables_of(nodes, flat_data(open_tables(model)), split) for split in ("train", "holdout")]
    for name, frame in real.items():
        assert sum(part[name].rows for part in parts) == len(frame)
    people = real["customers"].set_index("id")
    joined = real["orders"].merge(people, left_on="customer", right_index=True)
    joined["date"] = days = pd.to_datetime(joined.date)
    order = next(n.order for n in nodes if n.name == "orders")
    assert order is not None
    joined["date"] = days.clip(*pd.to_datetime([order.low, order.high], unit="D"))  # which five reach
    assert (joined.date != days).mean() < 0.005
    wanted = sorted(zip(joined.age, joined.segment, joined.date, joined.amount, strict=True))
    found: list[Any] = []
    for part in parts:
        orders, customers = part["orders"].columns.to_pandas(), part["customers"].columns.to_pandas()
        above = customers.iloc[part["orders"].parents]
        days = pd.to_datetime(orders.date)
        assert (days.groupby(part["orders"].parents).diff().dropna() >= pd.Timedelta(0)).all()
        found += zip(above.age, above.segment, days, orders.amount, strict=True)
    assert sorted(found) == wanted


def test_a_trained_set_nearly_reaches_real_families(report: Report, model: str) -> None:
    fidelity = report.score("fidelity")
    assert fidelity.value and fidelity.ceiling and fidelity.value > fidelity.ceiling - 0.05
    assert report.verdict in ("excellent", "good")
    assert report.score("integrity").value == report.score("order").value == 1.0
    assert report.lineage["families"] == 500 and set(report.tables) >= set(shop(30))
    folder = Path(report.uri).parent
    assert folder.parent == Path(model) / "evaluation"
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "report.json"]
    page = Path(report.page).read_text()
    assert "orders per row of customers" in page and "Referential integrity" in page
    assert str(Path.home()) not in page and "/tmp/" not in page
    written = Report.model_validate_json(Path(report.uri).read_bytes())
    assert written == report.model_copy(update={"uri": "", "page": ""})


def test_the_same_request_is_answered_at_once(report: Report, model: str) -> None:
    before = Path(report.page).stat().st_mtime_ns
    assert genpipe.evaluate(open_tables(model)) == report
    assert Path(report.page).stat().st_mtime_ns == before
    few = genpipe.evaluate(model, rows=60, seed=1)
    assert few.uri != report.uri and few.lineage["families"] == 60


def test_orders_of_random_customers_are_seen(model: str, report: Report) -> None:
    """What the model made, with every order and visit given to another customer."""
    from genpipe.related.judge.scores import evaluate_related

    opened = open_tables(model)
    train, holdout = (tables_of(opened.nodes, flat_data(opened), s) for s in ("train", "holdout"))
    made, rng = sample_tables(opened, rows=500), np.random.default_rng(0)
    honest = evaluate_related(train, holdout, kin_of(opened.nodes, made))
    assert honest.score("fidelity").value == report.score("fidelity").value
    for child in ("orders", "visits"):
        at = made[child].column_names.index("customer")
        strangers = made[child]["customer"].take(rng.permutation(made[child].num_rows))
        made[child] = made[child].set_column(at, "customer", strangers)
    mixed = evaluate_related(train, holdout, kin_of(opened.nodes, made))
    for name, least in (("between", 0.15), ("families", 0.15), ("fidelity", 0.1)):
        assert (mixed.score(name).value or 0) < (honest.score(name).value or 0) - least, name
    assert mixed.score("integrity").value == 1.0


def test_a_key_that_is_missing_or_there_twice_is_no_parent(model: str) -> None:
    nodes = open_tables(model).nodes
    made = sample_tables(model, rows=50)
    assert not (kin_of(nodes, made)["orders"].parents < 0).any()
    ids, customer = made["customers"]["id"].to_pylist(), made["orders"]["customer"].to_pylist()
    busy, idle = customer[0], next(i for i in ids if i != customer[0])
    for name, change in (("missing", "nobody"), ("twice", idle)):
        keys = pa.array([change if i == busy else i for i in ids])
        broken = made | {"customers": made["customers"].set_column(0, "id", keys)}
        lost = [c == busy or (name == "twice" and c == idle) for c in customer]
        assert (kin_of(nodes, broken)["orders"].parents < 0).sum() == sum(lost)


@pytest.fixture(scope="module")
def registered(model: str, report: Report, poor: str) -> genpipe.registry.Registered:  # type: ignore[name-defined]
    first = genpipe.register(poor, name="shop")
    assert (first.version, first.alias) == (1, "champion")
    return genpipe.register(model, name="shop", report=report)


def test_a_better_set_becomes_champion_and_a_worse_one_does_not(
    registered: Any, model: str, poor: str
) -> None:
    assert (registered.version, registered.alias) == (2, "champion")
    assert "of version 1 on the same holdout" in registered.reason
    again = genpipe.register(poor, name="shop")
    assert (again.version, again.alias) == (1, "challenger")
    assert genpipe.register(model, name="shop").version == 2
    assert len(client().search_model_versions("name = 'shop'")) == 2
    assert resolve("models:/shop@champion").reference == "models:/shop/2"


def test_nothing_of_this_machine_is_published(registered: Any, road_home: Path) -> None:
    version = client().get_model_version_by_alias("shop", "champion")
    found = client().get_logged_model(version.source.removeprefix("models:/"))
    files = [p for p in Path(found.artifact_location.removeprefix("file://")).rglob("*") if p.is_file()]
    names = [p.name for p in files]
    assert names.count("weights.safetensors") == 3 and "tables.json" in names and "pyfunc_tables.py" in names
    private = [str(road_home), str(Path(genpipe.__file__).parent.parent), str(Path.home()) + "/", "/tmp/"]
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        assert not [p for p in private if p in text], path
        assert path.suffix not in (".pkl", ".pickle") and path.read_bytes()[:2] != b"\x80\x04"
    assert not [p for p in private if p in json.dumps(version.tags)]
    assert version.tags["kind"] == "tables" and version.tags["tables"] == "customers, orders, visits"


def test_it_is_generated_from_the_registry_where_nothing_else_is(
    registered: Any, model: str, road_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = genpipe.generate_tables(model, rows=40, workers=0)
    monkeypatch.setenv("GENPIPE_STORE", str(tmp_path / "other"))  # another machine has the registry alone
    there = genpipe.generate_tables("models:/shop@champion", rows=40, workers=0)
    assert there.uri.startswith(f"{tmp_path}/other/generated/shop/")
    for name in here:
        assert here[name].table("generated").equals(there[name].table("generated"))
    assert explain(f"{there}/orders")["model"] == "models:/shop/2"
    assert explain(there)["what"] == "generated tables" and explain(there)["model"] == "models:/shop/2"
    assert explain("models:/shop@champion")["rows"]["customers"] == 1500
    with pytest.raises(DataError, match=r"other/datasets/shop-customers.*no manifest\.json"):
        genpipe.evaluate("models:/shop@champion")
    monkeypatch.delenv("GENPIPE_STORE")
    assert genpipe.evaluate("models:/shop@champion").score("fidelity") == genpipe.evaluate(model).score(
        "fidelity"
    )


def test_a_clean_process_asks_for_tables_that_join(registered: Any, road_home: Path, tmp_path: Path) -> None:
    code = """
import mlflow, pandas as pd
champion = "models:/shop@champion"
model = mlflow.pyfunc.load_model(champion)
asked = {"rows": 50, "seed": 3}
orders = model.predict(pd.DataFrame(), params={"table": "orders", **asked})
customers = mlflow.pyfunc.load_model(champion).predict(pd.DataFrame(), params=asked)
for wrong in ({"table": "order"}, {"rows": 0}, {"rows": "many"}, {"rows": 10**12}, {"seed": -1}):
    try:
        model.predict(pd.DataFrame(), params=wrong)
    except Exception as error:
        print("refused:", str(error).splitlines()[0])
try:
    model.predict(pd.DataFrame({"segment": ["vip"]}), params=asked)
except Exception as error:
    print("refused:", str(error).splitlines()[0])
print(orders.to_json(orient="split")); print(customers.to_json(orient="split"))
print(model.metadata.get_params_schema().to_dict())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(road_home),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *refused, orders, customers, params = done.stdout.splitlines()
    assert len(refused) == 6 and "did you mean 'orders'" in refused[0], refused
    assert "a whole number from 1" in refused[1] and "take no conditions" in refused[5]
    assert "rows; expected at most 100000" in refused[3] and "a whole number from 0" in refused[4]
    one, other = (pd.read_json(io.StringIO(text), orient="split") for text in (orders, customers))
    assert len(other) == 50 and list(one.columns) == list(shop(30)["orders"].columns)
    assert one.customer.isin(other.id).all() and len(one) > 50
    assert "'name': 'table'" in params and "'default': 'customers'" in params


def test_a_champion_of_other_data_is_measured_again(registered: Any, road_home: Path) -> None:
    frames = shop()
    frames["orders"] = frames["orders"].iloc[20:]  # the same shop, a little earlier
    model = genpipe.train_tables(
        spec_of(road_home / "earlier", frames, **ROLES) | {"recipe": {"training": {"steps": 1}}}
    )
    made = genpipe.register(model, name="shop")
    assert (made.version, made.alias) == (3, "challenger")
    assert re.search(r"fidelity 0\.\d+ against 0\.9\d+ of version 2 on the same holdout", made.reason)
    judged = genpipe.evaluate(resolve("models:/shop/2").uri, model.uri, rows=60)
    assert "judged by the families of shop" in judged.warnings[0]
    del frames["visits"]
    fewer = genpipe.train_tables(
        spec_of(road_home / "fewer", frames, **{k: v for k, v in ROLES.items() if k != "visits"})
        | {"recipe": {"training": {"steps": 1}}}
    )
    other = genpipe.register(fewer, name="shop")
    assert (other.alias, "of other columns" in other.reason) == ("champion", True)
    assert genpipe.promote("shop", "previous").version == 2
    with pytest.raises(DataError, match=r"other tables: .*expected the tables and columns the model makes"):
        genpipe.evaluate(fewer.uri, model.uri)


def test_requests_that_make_no_sense(registered: Any, model: str, road_home: Path, tmp_path: Path) -> None:
    made = genpipe.generate("models:/shop@champion", rows=10, workers=0)
    assert made["customers"].rows() == 10  # the same verb makes related tables
    with pytest.raises(UsageError, match=r"temperature: 0\.5 for related tables; expected nothing of"):
        genpipe.generate("models:/shop@champion", rows=10, temperature=0.5)
    with pytest.raises(UsageError, match="rows: 1; expected a whole number from 2"):
        genpipe.evaluate(model, rows=1)
    with pytest.raises(DataError, match="a file or folder that was not ingested yet"):
        genpipe.evaluate(model, str(tmp_path))
    made = genpipe.generate_tables(model, rows=20, workers=0)
    with pytest.raises(
        DataError, match="no relations of trained tables; expected a model that `genpipe train` m"
    ):
        genpipe.register(made, name="x")
    few = trained(tmp_path / "few", holdout=0.01)
    with pytest.raises(PrivacyError, match=r"customers: not enough hold-out rows .* `unchecked: REASON`"):
        genpipe.evaluate(few)
    registered = genpipe.register(few, name="few-shop", unchecked="a rehearsal of the road")
    told = genpipe.generate_tables(registered, rows=5, workers=0)["customers"].manifest.origin
    assert told["check"] == "nothing was checked: a rehearsal of the road"


def test_data_that_changed_since_training_is_refused(poor: str, tmp_path: Path) -> None:
    """Its holdout may hold rows the model was trained on."""
    where = Path(str(flat_data(open_tables(poor))["orders"]))
    manifest = where / "manifest.json"
    before = manifest.read_text()
    manifest.write_text(before.replace('"fingerprint": "', '"fingerprint": "0', 1))
    try:
        with pytest.raises(
            PrivacyError, match=r"holdout may hold rows trained on; expected the rows trained on"
        ):
            genpipe.evaluate(poor, rows=77)
    finally:
        manifest.write_text(before)


def test_three_levels_and_events_on_the_road(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "LIMIT", 1.0)  # 400 families are few: a real run of them is refused
    rng, frames = np.random.default_rng(0), shop(500)
    items = frames["orders"].loc[np.repeat(frames["orders"].index, rng.integers(0, 3, len(frames["orders"])))]
    frames["items"] = pd.DataFrame(
        {"order": items["order"], "metal": np.where(items.amount > 30, "gold", "tin")}
    )
    frames["visits"] = frames["visits"].rename(columns={"customer": "cookie"})
    roles = ROLES | {"items": {"parent": "orders", "foreign_key": "order"}, "visits": {"entity": "cookie"}}
    spec = spec_of(tmp_path, frames, **roles) | {"name": "levels"}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert execute(["validate", str(tmp_path / "spec.json")]) == 0
    assert "valid: levels, related tables customers, orders" in capsys.readouterr().out
    assert execute(["train", str(tmp_path / "spec.json")]) == 0
    model = re.findall(r"^model +(.*)$", capsys.readouterr().out, re.MULTILINE)[0]
    assert execute(["evaluate", model]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^Cardinality +0\.[89]\d* ", told, re.MULTILINE) and "report.html" in told
    assert re.search(r"^Referential integrity +1\.000 ", told, re.MULTILINE)
    assert execute(["register", model, "--name", "levels"]) == 0
    assert "models:/levels/1" in capsys.readouterr().out
    wanted = ["generate", "models:/levels@champion", "--rows", "25", "--workers", "0"]
    assert execute(wanted) == 0
    assert "customers  25 rows" in capsys.readouterr().out
