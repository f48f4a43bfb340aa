"""Jobs on codes: each on a small VAE of tables and one of digits, with what must come of them known."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_dataset import SCHEMA, small_dataset

import genpipe
from genpipe.bundle import Bundle
from genpipe.bundle.latent import MOST_CELLS, classes, encode, encoders, tensors
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import ConflictError, DataError, PrivacyError, UsageError
from genpipe.evaluation.page.latent import LatentView, chart_of
from genpipe.registry import publish, resolve
from genpipe.stages.evaluate.latent import latent_view
from genpipe.stages.latent.interpolate import between
from genpipe.stages.latent.sizes import packed

NARROW = {"network": "mlp", "width": 48}
TABLE = {
    "base": "tabular_vae",
    "family": {"latent": 3, "encoder": NARROW, "decoder": NARROW},
    "training": {"steps": 400, "batch_size": 64, "learning_rate": 5e-3, "evaluate_every": 400},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latent")


@pytest.fixture(scope="module")
def people(folder: Path) -> tuple[str, Dataset]:
    """A VAE of heights, weights and colours, given the group."""
    data = small_dataset(str(folder / "people"), rows=600, parts=2, holdout=200)
    return trained(data, TABLE, folder), data


@pytest.fixture(scope="module")
def digits(folder: Path) -> tuple[str, Dataset]:
    narrow = {"network": "conv2d", "width": 8}
    recipe = {
        "base": "image_vae",
        "family": {"latent": 8, "encoder": narrow, "decoder": narrow},
        "training": {"steps": 150, "batch_size": 64, "learning_rate": 4e-3, "evaluate_every": 150},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        data = genpipe.ingest("builtin:digits")
    return trained(data, recipe, folder), data


def trained(data: Dataset, recipe: dict[str, Any], folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        return genpipe.train(data, recipe=recipe).uri


def scores(made: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = made.manifest.origin["scores"]
    return found


def test_codes_are_the_encoders_row_by_row(people: tuple[str, Dataset], home: Path) -> None:
    model, data = people
    made = genpipe.encode(model, data, keep="colour")
    frame = made.pandas()
    assert list(frame.columns) == ["split", "row", "colour", "z_0", "z_1", "z_2"]
    assert frame.groupby("split")["row"].apply(list).to_dict() == {
        "train": list(range(600)),
        "holdout": list(range(200)),
    }
    held = data.table("holdout")
    bundle = Bundle.open(model)
    codes = encode(bundle, tensors(bundle, held.combine_chunks().to_batches()[0])).numpy()
    mine = frame[frame.split == "holdout"]
    assert np.allclose(mine[["z_0", "z_1", "z_2"]], codes, atol=1e-5)
    assert mine["colour"].tolist() == held["colour"].to_pylist()
    assert genpipe.encode(model, data, split="holdout", rows=7).rows("generated") == 7


def test_the_bytes_depend_on_the_rows_and_not_on_the_parts_they_lie_in(
    people: tuple[str, Dataset], home: Path, tmp_path: Path
) -> None:
    from genpipe.dataset import commit, new_attempt, write_part

    model, data = people
    attempt, rows = new_attempt(), data.table("train")
    cuts = [0, 1, 250, 251, 600]
    parts = [
        write_part(str(tmp_path / "cut"), rows.slice(a, b - a), split="train", name=f"{a}", attempt=attempt)
        for a, b in itertools.pairwise(cuts)
    ]
    cut = commit(str(tmp_path / "cut"), name="cut", schema=data.schema, parts=parts, origin={"stage": "test"})
    for job in (genpipe.encode, genpipe.anomaly, genpipe.reconstruct):
        one, other = (job(model, d, split="train").table("generated") for d in (data, cut))
        assert one.equals(other), job.__name__


def test_it_says_whose_rows_these_are_and_is_made_once(
    people: tuple[str, Dataset], home: Path, tmp_path: Path
) -> None:
    model, data = people
    output = str(tmp_path / "codes")
    made = genpipe.encode(model, data, output=output)
    footer = pq.read_schema(Path(output) / "data/generated-00000.parquet").metadata
    for told in (made.manifest.origin["holds"], footer[b"genpipe.holds"].decode()):
        assert "keep them as you keep the data" in told
    assert made.manifest.origin["rows_fingerprint"] == data.fingerprint
    before = (Path(output) / "data/generated-00000.parquet").stat().st_mtime_ns
    assert genpipe.encode(model, data, output=output).fingerprint == made.fingerprint
    assert (Path(output) / "data/generated-00000.parquet").stat().st_mtime_ns == before
    with pytest.raises(ConflictError, match="another request"):
        genpipe.encode(model, data, output=output, blind=True)


def test_a_killed_job_runs_again(
    people: tuple[str, Dataset], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genpipe.stages.rows import blocks

    model, data = people
    output = str(tmp_path / "codes")
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "deliver", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            genpipe.encode(model, data, output=output)
    assert not Path(output).exists()
    again = genpipe.encode(model, data, output=output)
    assert again.fingerprint == genpipe.encode(model, data).fingerprint


def test_blind_codes_know_no_class(people: tuple[str, Dataset], home: Path) -> None:
    model, data = people
    bundle = Bundle.open(model)
    held = data.table("holdout").combine_chunks()
    swapped = held.set_column(3, held.schema.field(3), [["a"] * held.num_rows])
    batches = [tensors(bundle, t.to_batches()[0]) for t in (held, swapped)]
    told, blind = ([encode(bundle, b, blind=by) for b in batches] for by in (False, True))
    assert not told[0].equal(told[1]) and blind[0].equal(blind[1])
    cells, shares = classes(bundle)
    assert len(cells) == 3 <= MOST_CELLS and abs(float(shares.sum()) - 1) < 1e-9


def test_rows_come_back_nearly_as_they_were(people: tuple[str, Dataset], home: Path) -> None:
    model, data = people
    made = genpipe.reconstruct(model, data, split="holdout").pandas()
    held = data.pandas("holdout")
    assert np.corrcoef(made["height"], held["height"])[0, 1] > 0.9
    assert made["group"].tolist() == held["group"].tolist()  # told to the decoder
    assert {"bound", "reconstruction", "kl", "squared_error"} <= set(made.columns)
    assert np.allclose(made["bound"], made["reconstruction"] + made["kl"], atol=1e-3)


def test_the_rows_that_are_planted_are_found(people: tuple[str, Dataset], home: Path, tmp_path: Path) -> None:
    """30 of 230 have heights and weights that do not go together; the column that says so is not learnt."""
    model, data = people
    frame = data.pandas("holdout").assign(origin="usual")
    odd = frame.head(30).assign(height=200.0, weight=60.0, origin="odd")
    import pandas as pd

    mixed = genpipe.ingest(
        pd.concat([frame, odd]), name="mixed", target="group", holdout=0, entity="none: toy rows"
    )
    made = genpipe.anomaly(model, mixed, planted="origin")
    assert scores(made)["usual"] == "usual" and scores(made)["planted"] == 30
    assert scores(made)["auc_bound"] > 0.95
    ranks = made.pandas()["anomaly"].to_numpy()
    assert np.array_equal(ranks, made.pandas()["bound"].to_numpy())
    with pytest.raises(UsageError, match=r"unknown error 'bond'; .*did you mean 'bound'"):
        genpipe.anomaly(model, mixed, score="bond")
    with pytest.raises(UsageError, match="unknown column 'orign'"):
        genpipe.anomaly(model, mixed, planted="orign")


def test_a_larger_step_takes_fewer_bits_and_loses_more(digits: tuple[str, Dataset], home: Path) -> None:
    model, data = digits
    fine, coarse = (scores(genpipe.compress(model, data, split="holdout", step=step)) for step in (0.1, 2.0))
    assert coarse["bits_per_value"] < fine["bits_per_value"] < fine["bits_per_value_png"]
    assert coarse["squared_error"] > fine["squared_error"] >= 0.9 * fine["squared_error_unrounded"]
    assert fine["decoder_bytes"] > 1000


def test_packed_codes_come_back() -> None:
    import zlib

    z, step = np.array([[0.26, -1.0], [100.0, -0.2]]), 0.5
    raw = np.frombuffer(zlib.decompress(packed(z, np.array([[3], [4]]), step)), np.uint8)
    low, high, told = raw[:4].reshape(2, 2), raw[4:8].reshape(2, 2), raw[8:]
    whole = (low.astype(np.int16) | (high.astype(np.int16) << 8)).T
    assert whole.tolist() == [[1, -2], [200, 0]] and told.tolist() == [3, 0, 4, 0]


@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_groups_are_scored_against_labels(method: str, digits: tuple[str, Dataset], home: Path) -> None:
    model, data = digits
    made = genpipe.cluster(model, data, split="holdout", method=method)
    found, frame = scores(made), made.pandas()
    assert found["adjusted_rand"] > 0.25 and 0 < found["silhouette"] < 1
    assert 0 < found["mutual_information_of_raw_values"] < 1 and found["labels"] == 10
    assert set(frame["cluster"]) <= set(range(10)) and (frame["distance"] >= 0).all()


def test_few_labels_are_enough_for_most_rows(digits: tuple[str, Dataset], home: Path) -> None:
    model, data = digits
    few, every = (scores(genpipe.classify(model, data, labelled=n)) for n in (5, None))
    assert (few["labelled"], few["draws"], every["draws"]) == (50, 5, 1)
    assert few["accuracy_of_commonest"] < 0.2 < 0.6 < few["accuracy"] < every["accuracy"] < 1
    made = genpipe.classify(model, data)
    frame = made.pandas()
    assert abs((frame["label"] == frame["predicted"]).mean() - every["accuracy"]) < 1e-9
    assert set(frame["split"]) == {"holdout"}
    rows = data.pandas("holdout")["label"].to_numpy()
    assert (rows[frame["row"]] == frame["label"]).all()


def test_a_target_that_the_code_was_made_from_is_refused(people: tuple[str, Dataset], home: Path) -> None:
    model, data = people
    with pytest.raises(UsageError, match="a column that codes are made from"):
        genpipe.classify(model, data, target="colour")
    assert scores(genpipe.classify(model, data))["accuracy"] > 0.8


def test_rows_move_towards_a_value(
    people: tuple[str, Dataset], digits: tuple[str, Dataset], home: Path, tmp_path: Path
) -> None:
    model, data = people
    moved, kept = (genpipe.edit(model, data, toward={"group": "c"}, strength=s).pandas() for s in (1, 0))
    assert set(moved["group"]) == set(kept["group"]) == {"c"}
    short = data.pandas("train")["group"] == "a"  # 15 and 30 lower than the others
    first = moved["split"] == "train"
    rise = moved[first]["height"].to_numpy()[short] - data.pandas("train")["height"][short]
    assert 20 < rise.mean() < 40
    model, data = digits
    strip = str(tmp_path / "threes.png")
    done = genpipe.edit(model, data, toward={"label": 3}, split="holdout", strip=strip)
    assert scores(done)["share_after"] > 0.5 > scores(done)["share_before"]
    assert Path(strip).read_bytes().startswith(b"\x89PNG")
    for toward, said in (
        ({}, "0 fields"),
        ({"label": "x"}, "unknown value 'x'"),
        ({"no": 1}, "unknown column"),
    ):
        with pytest.raises(UsageError, match=said):
            genpipe.edit(model, data, toward=toward)


def test_a_column_that_is_learnt_moves_along_a_direction(folder: Path, home: Path) -> None:
    schema = SCHEMA.model_copy(update={"target": None})
    data = small_dataset(str(folder / "untold"), rows=600, holdout=200, schema=schema)
    model = trained(data, TABLE, folder)
    done = genpipe.edit(model, data, toward={"group": "c"}, strength=2)
    assert scores(done)["share_after"] > 0.7 > 0.1 > scores(done)["share_before"]
    there = data.pandas("train")["group"] == "c"
    whole, ours = (job(model, data, split="train").pandas() for job in (genpipe.reconstruct, _to_c))
    same = ["height", "weight", "colour", "group"]
    assert whole[same][there].equals(ours[same][there])  # those that have it stay


def _to_c(model: str, data: Dataset, *, split: str) -> Dataset:
    return genpipe.edit(model, data, split=split, toward={"group": "c"})


def test_ways_begin_and_end_at_their_codes(digits: tuple[str, Dataset], home: Path, tmp_path: Path) -> None:
    model, data = digits
    strip = str(tmp_path / "way.png")
    way = genpipe.interpolate(model, data, between=(4, 9), split="holdout", steps=5, strip=strip)
    ends = genpipe.reconstruct(model, data, split="holdout", rows=10).table("generated")["image"].to_pylist()
    drawn = way.table("generated")["image"].to_pylist()
    assert len(drawn) == 5 and (drawn[0], drawn[-1]) == (ends[4], ends[9])
    assert len({image["bytes"] for image in drawn}) == 5 and Path(strip).exists()
    assert "holds" in way.manifest.origin
    free = genpipe.interpolate(model, ways=3, steps=4, conditions={"label": 7})
    assert free.pandas()["way"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert set(free.pandas()["label"]) == {"7"} and "holds" not in free.manifest.origin
    other = genpipe.interpolate(model, ways=3, steps=4, conditions={"label": 7}, seed=1)
    assert free.fingerprint != other.fingerprint
    with pytest.raises(UsageError, match=r"row 100000; expected 0 to \d+ of split 'train'"):
        genpipe.interpolate(model, data, between=(4, 100_000))
    with pytest.raises(UsageError, match="two rows, and the dataset"):
        genpipe.interpolate(model, between=(4, 5))


def test_the_way_round_keeps_its_length_and_the_straight_one_does_not() -> None:
    a, b = np.array([[2.0, 0.0]]), np.array([[0.0, 4.0]])
    assert np.allclose(between(a, b, 0.5, "linear"), [[1.0, 2.0]])
    assert np.allclose(between(a, b, 0.5, "spherical"), 3 * np.sqrt(0.5))  # 45 degrees, length 3
    for path in ("linear", "spherical"):
        assert np.allclose(between(a, b, 0.0, path), a) and np.allclose(between(a, b, 1.0, path), b)
        assert np.allclose(between(a, 2 * a, 0.5, path), 1.5 * a)  # one direction: no angle to divide by


def test_a_model_without_codes_names_those_that_have(
    people: tuple[str, Dataset], table_bundle: str, digits: tuple[str, Dataset], home: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"no code of a row; expected .*vae.*; train with recipe 'tabular_vae'"
    ):
        genpipe.encode(table_bundle, people[1])
    with pytest.raises(UsageError, match="no code of a row"):
        genpipe.interpolate(table_bundle)
    with pytest.raises(DataError, match="image data; expected tabular"):
        genpipe.encode(people[0], digits[1])


def test_consumers_have_no_encoder_unless_the_publisher_says_so(
    people: tuple[str, Dataset], home: Path
) -> None:
    model, data = people
    plain = publish(model, name="plain", metrics={"fidelity": 0.5}, holdout="toy")
    bundle = Bundle.open(resolve(plain.uri).uri)
    assert encoders(bundle.family) == ("encoder",) and set(bundle.nets) == {"decoder", "prior"}
    assert bundle.sample(50, seed=3).equals(Bundle.open(model).sample(50, seed=3))
    with pytest.raises(PrivacyError, match=r"`latent` tells more .* --allow latent"):
        genpipe.encode(plain.uri, data)
    with pytest.raises(UsageError, match="without its encoder"):
        genpipe.encode(bundle.uri, data)
    assert genpipe.interpolate(plain.uri, steps=3).rows("generated") == 3
    open_ = publish(model, name="open", metrics={"fidelity": 0.5}, holdout="toy", terms={"allow": "latent"})
    theirs, ours = (genpipe.encode(m, data).table("generated") for m in (open_.uri, model))
    assert theirs.equals(ours)


def test_the_report_maps_codes_and_shows_nobody(
    people: tuple[str, Dataset], digits: tuple[str, Dataset], home: Path
) -> None:
    model, data = digits
    page = Path(genpipe.evaluate(model, data, rows=500).page).read_text()
    assert "<h2>Latent space</h2>" in page and page.count("<h3>direction ") == 4
    held = data.table("holdout")["image"].to_pylist()
    assert not [image for image in held if base64.b64encode(image["bytes"]).decode() in page]
    view = latent_view(Bundle.open(people[0]), people[1].table("holdout"), 0)
    again = latent_view(Bundle.open(people[0]), people[1].table("holdout"), 0)
    assert view is not None and again is not None and view.held is not None and view.classes is not None
    assert set(view.classes) == {"a", "b", "c"} and (again.drawn == view.drawn).all()
    walks = [table.select(["height", "weight"]).to_pandas().to_numpy() for table in view.walks]
    assert max(np.ptp(walk, axis=0).max() for walk in walks) > 5  # along some direction people grow


def test_a_square_of_the_map_is_of_five_entities_or_not_there() -> None:
    drawn = np.random.default_rng(0).normal(size=(200, 2))
    for rows, people, squares in ((4, 4, 0), (5, 5, 1), (9, 4, 0)):
        held, who = np.zeros((rows, 2)), np.arange(rows) % people
        view = LatentView(drawn, None, (0.5, 0.3), held, who, [], np.zeros(1))
        assert str(chart_of(view, [])).count("<rect") == squares


def test_the_command_line_says_what_was_measured(
    people: tuple[str, Dataset], home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = people
    where = tmp_path / "groups.csv"
    given = [model, data.uri, "--clusters", "3", "--keep", "group", "--output", str(where)]
    assert execute(["cluster", *given]) == 0
    out, err = capfd.readouterr()
    assert "adjusted_rand" in out and f"pandas.read_csv({str(where)!r})" in out
    assert "keep them as you keep the data" in err
    assert where.read_text().splitlines()[0] == '"split","row","group","cluster","distance"'
    assert execute(["cluster", model, data.uri, "--clusters", "1"]) == 2
    assert "clusters: 1; expected a whole number from 2" in capfd.readouterr().err
    assert json.loads(json.dumps(scores(genpipe.cluster(model, data, clusters=3, keep="group"))))
