"""Generation: exactly the rows asked for, the same bytes on any number of workers, with their lineage."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.errors import ConflictError, DataError, InfrastructureError, UsageError
from genpipe.progress import Event
from genpipe.schema import Schema
from genpipe.stages.explain import explain
from genpipe.verbs import generate

REQUEST = {"rows": 5000, "rows_per_part": 1500, "seed": 7}


def hashes(dataset: Dataset) -> list[str]:
    dataset.verify()
    return [part.sha256 for part in dataset.parts("generated")]


def test_same_seed_same_bytes_at_one_two_and_four_workers(
    table_bundle: str, home: Path, ray_cluster: dict, tmp_path: Path
) -> None:
    made = [
        generate(table_bundle, output=str(tmp_path / f"w{workers}"), workers=workers, **REQUEST)
        for workers in (0, 1, 2, 4)
    ]
    assert [part.rows for part in made[0].parts("generated")] == [1500, 1500, 1500, 500]
    assert made[0].rows() == 5000
    assert [hashes(dataset) for dataset in made[1:]] == [hashes(made[0])] * 3
    assert {dataset.fingerprint for dataset in made} == {made[0].fingerprint}
    # and they are the rows that the bundle draws in memory, however the parts are cut
    assert made[0].table("generated").equals(Bundle.open(table_bundle).sample(5000, seed=7))
    other = generate(table_bundle, rows=5000, seed=7, rows_per_part=5000, workers=0)
    assert other.table("generated").equals(made[0].table("generated"))
    assert generate(table_bundle, rows=5000, seed=8, workers=0).fingerprint != other.fingerprint


def test_onto_s3_and_from_s3(image_bundle: str, home: Path, s3_store: str, ray_cluster: dict) -> None:
    for file in Path(image_bundle).iterdir():
        store.write_bytes(f"{s3_store}/bundle/{file.name}", file.read_bytes())
    there = generate(f"{s3_store}/bundle", rows=700, rows_per_part=300, output=f"{s3_store}/out", workers=2)
    here = generate(image_bundle, rows=700, rows_per_part=300, workers=0)
    assert hashes(there) == hashes(here)
    assert there.fingerprint == here.fingerprint
    assert explain(f"{s3_store}/out/{there.parts('generated')[1].path}")["rows"] == "300:600"


def test_the_same_request_is_done_once(table_bundle: str, home: Path) -> None:
    first = generate(table_bundle, workers=0, **REQUEST)
    before = {p: p.stat().st_mtime_ns for p in Path(first.uri).rglob("*") if p.is_file()}
    events: list[Event] = []
    again = generate(table_bundle, workers=0, progress=events.append, **REQUEST)
    assert again.uri == first.uri and events[-1].note.startswith("already made; NOTHING WAS CHECKED")
    assert {p: p.stat().st_mtime_ns for p in Path(first.uri).rglob("*") if p.is_file()} == before
    assert generate(table_bundle, workers=0, tag="again", **REQUEST).uri != first.uri


def test_default_output_is_below_the_store_and_named_by_the_request(table_bundle: str, home: Path) -> None:
    dataset = generate(table_bundle, rows=10)
    output_id = dataset.manifest.origin["output_id"]
    assert dataset.uri == f"{home}/store/generated/toy/{output_id}"
    assert generate(table_bundle, rows=10, name="nice").uri == f"{home}/store/generated/nice/{output_id}"


def test_conditions_hold_in_every_part(table_bundle: str, home: Path) -> None:
    dataset = generate(
        table_bundle, rows=900, rows_per_part=400, conditions={"sex": "m", "city": "Ulm"}, workers=0
    )
    assert Counter(dataset.table("generated")["sex"].to_pylist()) == {"m": 900}
    assert Counter(dataset.table("generated")["city"].to_pylist()) == {"Ulm": 900}


def test_an_output_folder_belongs_to_one_request(table_bundle: str, home: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    generate(table_bundle, rows=10, output=output)
    with pytest.raises(
        ConflictError, match=r"out: the output of another request \(other rows, seed\)"
    ) as caught:
        generate(table_bundle, rows=11, seed=1, output=output)
    assert caught.value.exit_code == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ConflictError, match=r"mine: a folder with other files"):
        generate(table_bundle, rows=10, output=str(tmp_path / "mine"))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_lineage_is_in_every_footer_and_explained(table_bundle: str, home: Path, tmp_path: Path) -> None:
    dataset = generate(table_bundle, conditions={"sex": "f"}, workers=0, **REQUEST)
    path = Path(dataset.uri) / dataset.parts("generated")[1].path
    moved = shutil.copy(path, tmp_path / "sent-by-mail.parquet")
    told = explain(moved)
    bundle = Bundle.open(table_bundle)
    assert told["what"] == "generated file"
    assert told["model"] == f"toy@{bundle.fingerprint}"
    assert told["dataset_fingerprint"] == bundle.origin["dataset_fingerprint"]
    assert (told["seed"], told["rows"], told["blocks"]) == ("7", "1500:3000", "0:1")
    assert told["conditions"] == {"sex": "f"}
    assert told["output_id"] == dataset.manifest.origin["output_id"]
    assert Schema.from_arrow(pq.read_schema(moved)) == bundle.schema
    assert str(home) not in str(told) and str(Path(table_bundle).parent) not in str(
        pq.read_metadata(moved).metadata
    )
    whole = explain(dataset)
    assert (whole["what"], whole["splits"], whole["seed"]) == ("generated dataset", {"generated": 5000}, 7)
    assert explain(table_bundle)["recipe"] == bundle.recipe.name


def test_explain_names_what_it_cannot_explain(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"broken.parquet: .*expected a whole Parquet file"):
        explain(tmp_path / "broken.parquet")
    with pytest.raises(DataError, match=r"nothing that genpipe wrote"):
        explain(tmp_path)
    with pytest.raises(DataError, match=r"no such file"):
        explain(tmp_path / "none.parquet")


def test_progress_counts_every_row_and_a_rate(table_bundle: str, home: Path) -> None:
    events: list[Event] = []
    generate(table_bundle, workers=0, progress=events.append, **REQUEST)
    assert [e.done for e in events] == sorted(e.done for e in events)
    assert (events[-1].done, events[-1].total) == (5000, 5000)
    assert [e.metrics["rows/s"] for e in events if e.metrics][-1] > 0


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({}, r"rows: missing; expected a number; say how many \(--rows\)"),
        ({"rows": {"orders": 3}}, "rows: rows of tables; expected a number"),
        ({"rows": 0}, "rows: 0; expected a whole number from 1"),
        ({"rows": 1.5}, "rows: 1.5"),
        ({"rows": True}, "rows: True"),
        ({"rows": 2**64}, "rows: 18446744073709551616"),
        ({"rows": 10, "seed": -1}, "seed: -1; expected a whole number from 0"),
        ({"rows": 10, "workers": -1}, "workers: -1"),
        ({"rows": 10, "rows_per_part": 0}, "rows_per_part: 0"),
        (
            {"rows": 10**9, "rows_per_part": 1},
            "1000000000 parts; expected at most 100000; raise rows_per_part",
        ),
        ({"rows": 10, "conditions": {"sexx": "m"}}, "unknown column 'sexx'.*did you mean 'sex'"),
        ({"rows": 10, "name": "My Data"}, "'My Data'.*for example 'my-data'"),
        ({"rows": 10, "output": "ftp://host/x"}, "ftp://host/x'; expected a local path or s3://"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    table_bundle: str, home: Path, wrong: dict, match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        generate(table_bundle, **wrong)
    assert not (home / "store").exists()


def test_a_full_disk_is_foreseen(table_bundle: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(
            InfrastructureError, match=r"0 MB free; expected .* finished parts are kept"
        ) as caught:
            generate(table_bundle, workers=0, **REQUEST)
    assert caught.value.exit_code == 4
    assert generate(table_bundle, workers=0, **REQUEST).rows() == 5000


def test_a_damaged_model_writes_nothing(table_bundle: str, home: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(table_bundle, tmp_path / "bundle"))
    weights = bytearray((bundle / "weights.safetensors").read_bytes())
    weights[-5] ^= 4
    (bundle / "weights.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"weights.safetensors: content differs") as caught:
        generate(str(bundle), rows=10)
    assert caught.value.exit_code == 3
    assert not (home / "store").exists()


def test_a_task_that_fails_raises_our_error(table_bundle: str, home: Path, ray_cluster: dict) -> None:
    from genpipe.errors import QualityError

    with pytest.raises(QualityError, match=r"generated rows \(0.000%\) have city = 'Paris'"):
        generate(table_bundle, conditions={"city": "Paris"}, workers=2, **REQUEST)


def test_row_groups_stay_small(table_bundle: str, home: Path) -> None:
    dataset = generate(table_bundle, rows=40_000, rows_per_part=40_000, workers=0)
    (part,) = dataset.parts("generated")
    with dataset.reading(part) as file:
        footer = file.metadata
    assert footer.num_rows == 40_000
    assert max(footer.row_group(i).num_rows for i in range(footer.num_row_groups)) <= 16 * 1024
    digest = hashlib.sha256((Path(dataset.uri) / part.path).read_bytes()).hexdigest()
    assert digest == part.sha256
