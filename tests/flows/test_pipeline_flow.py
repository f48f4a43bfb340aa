"""The whole road in this process, on a small table; again; and with a gate that says no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genpipe.errors import GenpipeError, QualityError, SpecError, UsageError
from genpipe.progress import Event

STEPS = ["ingest", "train", "evaluate", "register", "generate"]


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("people") / "people.csv"
    rows = [f"{rng.integers(18, 90)},{rng.normal(170, 9):.1f},{rng.choice(['f', 'm'])}" for _ in range(600)]
    file.write_text("\n".join(["age,height,sex", *rows]) + "\n")
    return str(file)


def spec(name: str, source: str, **extra: Any) -> dict[str, Any]:
    recipe = {"base": "tabular_autoregressive", "training": {"steps": 60, "evaluate_every": 30}}
    return {
        "name": name,
        "source": {"path": source, "target": "sex"},
        "recipe": recipe,
        "train": {"workers": 0},
    } | extra


def test_everything_once_and_then_nothing(api: Path, people: str) -> None:
    import genpipe
    from genpipe.dataset import Dataset
    from genpipe.flows.pipeline import run_spec
    from genpipe.flows.promote import promote
    from genpipe.pipeline import load_spec
    from genpipe.registry import resolve

    wanted = load_spec(spec("folk", people, generate={"rows": 200, "workers": 0}))
    told: list[Event] = []
    summary = run_spec(wanted, progress=told.append)
    assert list(summary.seconds) == STEPS
    # each stage announces its beginning and its end, in this order
    assert [e.stage for e in told if e.stage in STEPS and not e.unit and e.total == 1] == STEPS
    assert summary.generated is not None and summary.registered is not None
    assert Dataset(summary.generated["uri"]).rows("generated") == 200
    assert resolve("models:/folk@champion").reference == summary.registered["uri"]
    assert (summary.dataset["train"] or 0) + (summary.dataset["holdout"] or 0) == 600

    evaluated = genpipe.evaluate("models:/folk@champion")  # of what the registry holds, with the data at hand
    assert evaluated.metrics["fidelity"] == next(
        s["value"] for s in summary.report["scores"] if s["name"] == "fidelity"
    )

    told.clear()
    again = run_spec(wanted, progress=told.append)
    keep = {"seconds", "registered"}
    assert again.model_dump(exclude=keep) == summary.model_dump(exclude=keep)
    assert again.registered is not None and again.registered["version"] == summary.registered["version"]
    assert {e.stage for e in told if e.note == "already done"} == {"train", "evaluate", "generate"}

    promoted = promote(summary.model["uri"], name="folk", relative=0.1, allow=["score"], progress=told.append)
    assert (promoted["name"], promoted["alias"]) == ("folk", again.registered["alias"])

    tagged = run_spec(wanted, tag="again", progress=told.append)
    assert tagged.generated is not None and tagged.generated["uri"] != summary.generated["uri"]


def test_retention_keeps_the_newest_and_the_champion(
    api: Path, people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time
    from types import SimpleNamespace

    import genpipe
    from genpipe.flows.pipeline import run_spec
    from genpipe.pipeline import load_spec
    from genpipe.stages import retention

    wanted = load_spec(spec("kept", people, generate={"rows": 50, "workers": 0}, retention={"keep": 1}))
    first = run_spec(wanted, progress=lambda event: None)
    assert "retain" in first.seconds
    monkeypatch.setattr(retention, "time", SimpleNamespace(time=lambda: time.time() + 200_000))
    last = run_spec(wanted, tag="again", progress=lambda event: None)
    assert first.generated is not None and last.generated is not None
    with pytest.raises(GenpipeError):
        genpipe.explain(first.generated["uri"])
    assert genpipe.explain(last.generated["uri"])
    assert genpipe.generate("models:/kept@champion", rows=5, workers=0).rows() == 5


def test_a_spec_is_checked_once(
    api: Path, people: str, tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line, from a deployment's file and from a deployment's parameters."""
    import json
    from contextlib import nullcontext

    from genpipe.cli import execute
    from genpipe.flows.pipeline import pipeline

    monkeypatch.setattr("genpipe.flows.run.prefect_api", lambda: nullcontext({}))
    wanted = spec("folk", people, generate={"rows": 200, "workers": 0})
    file = tmp_path / "folk.yaml"
    file.write_text(json.dumps(wanted))
    assert execute(["run", str(file)]) == 0
    assert checks == ["check_spec"]
    for given in (str(file), wanted):
        checks.clear()
        pipeline(given)
        assert checks == ["check_spec"]


def test_a_gate_that_says_no_registers_nothing(api: Path, people: str) -> None:
    from genpipe.flows.pipeline import run_spec
    from genpipe.pipeline import load_spec
    from genpipe.registry import resolve

    wanted = load_spec(spec("strict", people, gate={"fidelity": 0.9999}))
    with pytest.raises(QualityError, match=r"gate: fidelity 0\.\d+; expected at least 1\.000.*report\.html"):
        run_spec(wanted, progress=lambda event: None)
    with pytest.raises(Exception, match="strict"):
        resolve("models:/strict@champion")


def test_more_workers_than_cpus_is_refused_in_words(
    api: Path, people: str, ray_cluster: dict[str, float]
) -> None:
    from genpipe.flows.pipeline import run_spec
    from genpipe.pipeline import load_spec

    wanted = load_spec(spec("folk", people, train={"workers": 3}))
    with pytest.raises(UsageError, match="3 workers, one CPU each, on a cluster of 2 CPUs"):
        run_spec(wanted, progress=lambda event: None)


def test_a_wrong_spec_starts_nothing(home: Path) -> None:
    import genpipe

    with pytest.raises(SpecError, match=r"source\.path: nope\.csv: no such file"):
        genpipe.run({"name": "a", "source": {"path": "nope.csv"}})
    assert not home.exists()


def test_few_entities_are_delivered_only_with_a_reason_that_stays(
    api: Path, people: str, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    from genpipe.errors import PrivacyError
    from genpipe.flows.pipeline import run_spec
    from genpipe.pipeline import load_spec
    from genpipe.registry.tracking import client

    lines = Path(people).read_text().splitlines()[:71]
    file = tmp_path / "ward.csv"
    file.write_text("\n".join(lines) + "\n")
    more = {"generate": {"rows": 30, "workers": 0}}
    with pytest.raises(PrivacyError, match=r"not enough hold-out rows.*`unchecked: REASON`") as caught:
        run_spec(load_spec(spec("ward", str(file), **more)), progress=lambda event: None)
    assert caught.value.exit_code == 5
    assert not (api / "store/generated/ward").exists(), "it stops before delivery"
    why = "a rehearsal, agreed with the ward"
    summary = run_spec(load_spec(spec("ward", str(file), unchecked=why, **more)), progress=lambda event: None)
    assert summary.report["verdict"] == "unchecked"
    assert summary.registered is not None and summary.generated is not None
    assert client().get_model_version("ward", "1").tags["unchecked"] == why
    (part,) = Path(summary.generated["uri"]).rglob("generated-*.parquet")
    assert pq.read_metadata(part).metadata[b"genpipe.check"].decode() == f"nothing was checked: {why}"
    from genpipe.flows.closing import facts

    assert facts(summary)["verdict"] == "unchecked"
