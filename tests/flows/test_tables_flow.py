"""Related tables as one flow in this process: once, then nothing; a gate that says no; delivery by a flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from genpipe.errors import QualityError, SpecError, UsageError
from genpipe.progress import Event

STEPS = ["train", "evaluate", "register", "generate"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Customers and orders, of which the older have more."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    age = rng.integers(18, 80, 400)
    who = np.repeat(np.arange(400), rng.poisson(age / 20))
    price = (age[who] * rng.lognormal(0, 0.2, len(who))).round(2)
    pd.DataFrame({"id": np.arange(400), "age": age, "tall": rng.normal(170, 9, 400).round(1)}).to_csv(
        folder / "customers.csv", index=False
    )
    pd.DataFrame({"customer": who, "price": price}).to_csv(folder / "orders.csv", index=False)
    return folder


def spec(name: str, files: Path, **extra: Any) -> dict[str, Any]:
    tables = {
        "customers": {"source": str(files / "customers.csv"), "key": "id"},
        "orders": {"source": str(files / "orders.csv"), "parent": "customers", "foreign_key": "customer"},
    }
    recipe = {"base": "tabular_autoregressive", "training": {"steps": 60, "evaluate_every": 30}}
    return {"name": name, "tables": tables, "recipe": recipe} | extra


def test_everything_once_and_then_nothing(api: Path, files: Path, tmp_path: Path) -> None:
    from genpipe.dataset import Dataset
    from genpipe.flows.generate import generate
    from genpipe.flows.tables import generate_tables, run_tables
    from genpipe.flows.train import train
    from genpipe.registry import resolve
    from genpipe.related.spec import load_tables

    wanted = load_tables(spec("mall", files, gate={"fidelity": 0.4}, generate={"rows": 200, "workers": 0}))
    told: list[Event] = []
    summary = run_tables(wanted, progress=told.append)
    assert list(summary.seconds) == STEPS
    assert summary.registered is not None and summary.generated is not None
    assert resolve("models:/mall@champion").reference == summary.registered["uri"]
    made = {name: Dataset(f"{summary.generated['uri']}/{name}") for name in ("customers", "orders")}
    assert made["customers"].rows() == 200
    assert summary.generated["generated"] == sum(d.rows() for d in made.values())
    assert made["orders"].pandas().customer.isin(made["customers"].pandas().id).all()

    told.clear()
    again = run_tables(wanted, progress=told.append)
    keep = {"seconds", "registered"}
    assert again.model_dump(exclude=keep) == summary.model_dump(exclude=keep)
    assert again.registered is not None and again.registered["version"] == 1
    assert {e.stage for e in told if e.note == "already done"} == {"evaluate", "generate-tables"}
    assert not [e for e in told if e.stage == "train" and e.unit]  # no step of training

    delivered = generate_tables("models:/mall@champion", rows=200, workers=0, progress=told.append)
    assert delivered == summary.generated
    assert generate("models:/mall@champion", rows=200, workers=0, progress=told.append) == summary.generated
    (tmp_path / "mall.yaml").write_text(json.dumps(spec("mall", files)))
    assert train(str(tmp_path / "mall.yaml"))["uri"] == summary.model["uri"]
    with pytest.raises(UsageError, match=r"seed: 3 for related tables; .*say it in the spec"):
        train(str(tmp_path / "mall.yaml"), seed=3)
    stricter = load_tables(spec("mall", files, gate={"fidelity": 0.9999}))
    with pytest.raises(QualityError, match=r"gate: fidelity 0\.\d+; expected at least 1\.000.*report\.html"):
        run_tables(stricter, progress=told.append)  # another gate trains nothing again
    assert not [e for e in told if e.stage == "train" and e.unit]


def test_a_gate_that_says_no_registers_nothing(api: Path, files: Path) -> None:
    from genpipe.flows.tables import run_tables
    from genpipe.registry import resolve
    from genpipe.related.spec import load_tables

    poor = {"base": "tabular_autoregressive", "training": {"steps": 1}}
    wanted = load_tables(spec("strict", files, recipe=poor, gate={"relative": 0.99}))
    with pytest.raises(QualityError, match=r"gate: fidelity 0\.\d+; expected at least 0\.\d+ .real held-out"):
        run_tables(wanted, progress=lambda event: None)
    with pytest.raises(Exception, match="strict"):
        resolve("models:/strict@champion")


def test_the_command_runs_a_spec_of_tables(
    api: Path,
    files: Path,
    tmp_path: Path,
    checks: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from contextlib import nullcontext

    from genpipe.cli import execute

    # the embedded server of the folder is used, as PREFECT_API_URL would
    monkeypatch.setattr("genpipe.flows.embedded.prefect_api", lambda: nullcontext({}))
    (tmp_path / "mall.yaml").write_text(json.dumps(spec("mall", files, generate={"rows": 200, "workers": 0})))
    assert execute(["run", str(tmp_path / "mall.yaml")]) == 0
    assert checks == ["check_tables"]
    shown = capsys.readouterr().out
    assert "mall version 1 (champion)" in shown and "2 tables" in shown
    assert "genpipe generate models:/mall@champion" in shown
    assert execute(["run", str(tmp_path / "mall.yaml"), "--tag", "again"]) == 2
    assert "the tag 'again' for related tables" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        ({"gate": {"fidelity": 2}}, r"gate\.fidelity: found 2"),
        ({"generate": {"rows": 0}}, r"generate\.rows"),
        (
            {"generate": {"rows": 5, "conditions": {"age": 3}}},
            r"generate\.conditions: not for related tables",
        ),
        ({"generate": {"rows": 5, "temperature": 0.5}}, r"generate\.temperature: not for related tables"),
        ({"generate": {"rowz": 5}}, r"generate\.rowz: unknown key; .*did you mean 'rows'"),
        ({"search": {}}, r"search: unknown key"),
    ],
)
def test_a_wrong_spec_starts_nothing(home: Path, files: Path, extra: dict[str, Any], match: str) -> None:
    import genpipe

    with pytest.raises(SpecError, match=match):
        genpipe.run(spec("mall", files, **extra))
    with pytest.raises(SpecError, match=match):
        genpipe.validate(spec("mall", files, **extra))
    assert not home.exists()


def test_a_tag_is_not_for_tables(home: Path, files: Path) -> None:
    import genpipe

    with pytest.raises(UsageError, match=r"the tag 'x' for related tables; .*another seed trains them again"):
        genpipe.run(spec("mall", files), tag="x")
