"""The report of related tables sees what is wrong with references, and what is kept aside for them goes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_references import ROLES, WRITTEN, bank, market, spec_of

import genpipe
from genpipe import store
from genpipe.errors import QualityError
from genpipe.evaluation import Report
from genpipe.progress import Event, silent
from genpipe.related.evaluate import flat_data
from genpipe.related.judge.scores import evaluate_related
from genpipe.related.judge.tables import beside
from genpipe.related.sample import sample_tables
from genpipe.related.train import TrainedTables
from genpipe.related.unflatten import kin_of, tables_of

Frames = dict[str, pa.Table]


@pytest.fixture(scope="module", autouse=True)
def judged_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        patch.delenv("GENPIPE_STORE", raising=False)
        yield folder


@pytest.fixture(scope="module")
def trained(judged_home: Path) -> TrainedTables:
    return genpipe.train_tables(spec_of(judged_home, market(1200, 400), **ROLES))


@pytest.fixture(scope="module")
def made(trained: TrainedTables) -> Frames:
    return sample_tables(trained, rows=500)


@pytest.fixture(scope="module")
def honest(trained: TrainedTables, made: Frames) -> Report:
    return judged(trained, made)


def judged(trained: TrainedTables, made: Frames) -> Report:
    train, holdout = (tables_of(trained.nodes, flat_data(trained), s) for s in ("train", "holdout"))
    return evaluate_related(train, holdout, kin_of(trained.nodes, made))


def changed(made: Frames, products: Any) -> Frames:
    """The same tables, but for what the items name."""
    items = made["items"]
    at = items.column_names.index("product")
    return made | {"items": items.set_column(at, "product", pa.array(products, pa.string()))}


def value(report: Report, name: str) -> float:
    return report.score(name).value or 0.0


BETWEEN, NAMED = "items by the product they name", "products named by items.product"


def test_honest_references_are_near_the_ceiling(honest: Report, trained: TrainedTables, made: Frames) -> None:
    more = [judged(trained, sample_tables(trained, rows=500, seed=seed)) for seed in (1, 2)]
    for part, near in ((BETWEEN, 0.12), (NAMED, 0.12)):
        ends = honest.parts[part]
        value_of = np.mean([report.parts[part]["value"] for report in (honest, *more)])  # one moves by .05
        assert value_of > ends["ceiling"] - near and ends["floor"] < ends["ceiling"] - 0.15, (part, ends)
    assert value(honest, "integrity") == 1.0 and made["items"]["product"].null_count > 0
    report = genpipe.evaluate(trained.uri, rows=500)
    assert report.score("fidelity") == honest.score("fidelity")
    assert "items and the product they name" in Path(report.page).read_text()


def test_references_to_random_rows(honest: Report, trained: TrainedTables, made: Frames) -> None:
    """Each product as often as before, but in other orders."""
    items, rng = made["items"]["product"].to_numpy(), np.random.default_rng(0)
    there = np.flatnonzero(pd.notna(items))
    items[there] = items[rng.permutation(there)]
    mixed = judged(trained, changed(made, items))
    assert mixed.parts[BETWEEN]["value"] < honest.parts[BETWEEN]["value"] - 0.3
    assert value(mixed, "between") < value(honest, "between") - 0.1
    assert mixed.parts[NAMED] == honest.parts[NAMED] and value(mixed, "integrity") == 1.0
    assert value(mixed, "tables") == value(honest, "tables")


def test_all_rows_named_alike(honest: Report, trained: TrainedTables, made: Frames) -> None:
    rng, codes = np.random.default_rng(0), made["products"]["code"].to_numpy()
    even = judged(trained, changed(made, rng.choice(codes, made["items"].num_rows)))
    assert even.parts[NAMED]["value"] < honest.parts[NAMED]["value"] - 0.3
    assert value(even, "cardinality") < value(honest, "cardinality") - 0.1


def test_one_reference_that_is_not_there(trained: TrainedTables, made: Frames) -> None:
    items = made["items"]["product"].to_numpy()
    items[7] = "nothing"
    report = judged(trained, changed(made, items))
    assert 0.99 < value(report, "integrity") < 1.0 and report.collapsed
    with pytest.raises(QualityError, match=r"0\.\d% of the rows of items name no product that is there"):
        report.check()


def test_rows_named_beside_parents_and_by_rows_without(judged_home: Path) -> None:
    """A receiver is of the table of the sender; accounts have no parent, and name a bank."""
    frames, rng = bank(600), np.random.default_rng(0)
    banks = pd.DataFrame({"id": np.arange(300), "land": rng.choice(["nl", "pt"], 300)})
    lands = {land: banks.id[banks.land == land].to_numpy() for land in ("nl", "pt")}
    north = frames["accounts"].region.isin(["n", "e"])
    frames["accounts"]["at"] = [rng.choice(lands["nl" if n else "pt"]) for n in north]
    frames["banks"] = banks
    roles: dict[str, Any] = {"banks": {"key": "id"}}
    roles["accounts"] = {"key": "number", "references": {"at": "banks"}}
    roles["transfers"] = {"parent": "accounts", "foreign_key": "sender"}
    roles["transfers"]["references"] = {"receiver": "accounts"}
    spec = spec_of(judged_home / "bank", frames, **roles) | {"recipe": "tabular_trees"}
    report = genpipe.evaluate(genpipe.train_tables(spec).uri)
    assert value(report, "integrity") == 1.0
    for name in ("accounts by the at they name", "transfers by the receiver they name"):
        ends = report.parts[name]
        assert ends["floor"] + 0.1 < ends["value"] <= 1.0, name
    assert {"banks named by accounts.at", "accounts named by transfers.receiver"} <= report.parts.keys()


def test_what_real_rows_name_is_found_in_their_flat_rows(trained: TrainedTables) -> None:
    data = flat_data(trained)
    parts = [tables_of(trained.nodes, data, split) for split in ("train", "holdout")]
    rows = pd.concat([beside(part, "items", "product").columns.to_pandas() for part in parts])
    real = market(1200, 400)
    items = real["items"].merge(real["products"], left_on="product", right_on="code", how="left")
    wanted = items[["paid", "gift", "kind", "price"]].rename(
        columns={"kind": "product.products.kind", "price": "product.products.price"}
    )
    wanted = wanted.sort_values([*wanted], ignore_index=True)
    found = rows[[*wanted]].sort_values([*wanted], ignore_index=True)
    pd.testing.assert_frame_equal(found.astype(wanted.dtypes.to_dict()), wanted)
    assert "customers.segment" in rows and rows["product.products.kind"].isna().any()
    counts = np.concatenate([part["products"].named["items", "product"] for part in parts])
    named = real["items"]["product"].value_counts().reindex(real["products"].code, fill_value=0)
    assert sorted(counts) == sorted(named)


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [None, 0, 2])
def test_a_job_that_was_killed_goes_on_and_leaves_nothing(
    trained: TrainedTables,
    tmp_path: Path,
    ray_cluster: object,
    monkeypatch: pytest.MonkeyPatch,
    after: int | None,
) -> None:
    """Killed in the second round or just before what it kept aside goes; run again, also on other workers."""
    monkeypatch.setenv("GENPIPE_STORE", str(tmp_path / "store"))
    whole = genpipe.generate_tables(trained, rows=60, workers=0, output=str(tmp_path / "whole"))

    def stop(event: Event) -> None:
        if "round 2" in event.note:
            raise Killed

    def gone(*folders: str) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if after is not None:
            patch.setattr("genpipe.related.generate._clear", gone)
        output = str(tmp_path / "a")
        progress = stop if after is None else silent
        genpipe.generate_tables(trained, rows=60, workers=after or 0, output=output, progress=progress)
    place = tmp_path / ("store/referred" if after else "a")
    aside = [p for p in files(place) if p.stem == "manifest" and (after or ".referred-" in str(p))]
    assert len(aside) == 1 and aside[0].parent.name == "products"
    again = genpipe.generate_tables(trained, rows=60, workers=2, output=str(tmp_path / "a"))
    assert {n: d.fingerprint for n, d in again.items()} == {n: d.fingerprint for n, d in whole.items()}
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == WRITTEN and not files(tmp_path / "store")


def test_nothing_stays_with_those_who_ask_the_model(
    trained: TrainedTables,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from genpipe.registry.package import pack
    from genpipe.related.pyfunc_tables import ServedTables

    published = pack(trained.uri, tmp_path_factory.mktemp("published")).folder

    monkeypatch.setenv("GENPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, context = ServedTables(), SimpleNamespace(artifacts={"tables": str(published)})
    model.load_context(context)
    items, products = (
        model.predict(context, pd.DataFrame(), {"table": name, "rows": 40}) for name in ("items", "products")
    )
    assert len(items) > 40 and items["product"].dropna().isin(products.code).all()
    assert not list(tmp_path.rglob("*"))


def test_nothing_stays_in_a_bucket(
    trained: TrainedTables, s3_store: str, ray_cluster: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENPIPE_STORE", f"{s3_store}/lake")
    for workers in (0, 2):
        output = f"{s3_store}/out{workers}"
        genpipe.generate_tables(trained, rows=60, workers=workers, output=output)
        assert sorted({name.split("/")[0] for name in store.listing(output)}) == WRITTEN
    assert not store.listing(f"{s3_store}/lake")
