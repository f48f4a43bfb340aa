"""Bundles: the same rows whoever asks, and nothing opened that is not what was saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from genpipe import store
from genpipe.bundle import Bundle, save_bundle
from genpipe.bundle.mix import scalar_of
from genpipe.bundle.weights import read_weights
from genpipe.documents import parse_json
from genpipe.errors import ConflictError, DataError, QualityError, UsageError


@pytest.fixture
def copied(table_bundle: str, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(table_bundle, tmp_path / "bundle"))


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Change a file and the manifest with it, as somebody with access to both would."""
    from genpipe.bundle.folder import sha256

    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"bytes": len(data), "sha256": sha256(data)}
    (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(store.canonical(manifest))


def test_a_slice_is_the_same_rows_whoever_asks(table_bundle: str) -> None:
    bundle = Bundle.open(table_bundle)
    rows = bundle.block_rows
    table = bundle.sample(rows + 50, seed=3)
    assert table.num_rows == rows + 50
    assert table.schema == bundle.schema.arrow().remove_metadata()
    assert bundle.sample(10, seed=3).equals(table.slice(0, 10))
    part = pa.Table.from_batches(bundle.batches(40, seed=3, start=rows - 10))
    assert part.replace_schema_metadata(None).equals(table.slice(rows - 10, 40))
    other = Bundle.open(table_bundle)
    torch.manual_seed(99)  # the global generator has no say
    assert other.sample(10, seed=3).equals(table.slice(0, 10))
    assert not other.sample(10, seed=4).equals(table.slice(0, 10))


def test_blocks_and_further_draws_of_a_block_are_other_rows(table_bundle: str) -> None:
    """A third of the rows have the city asked for, so a block of them takes several draws."""
    bundle = Bundle.open(table_bundle)
    rows = bundle.block_rows
    first, second = (bundle.sample_block(seed=3, block=block, rows=50) for block in (0, 1))
    assert not first.equals(second)
    kept = bundle.sample_block(seed=3, block=0, rows=rows, conditions={"city": "Bonn"}).to_pylist()
    assert len({tuple(row.values()) for row in kept}) > 0.5 * rows


def test_sampling_leaves_torch_as_it_was(table_bundle: str) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    Bundle.open(table_bundle).sample(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_images_are_png_of_the_schema(image_bundle: str) -> None:
    import io

    from PIL import Image

    table = Bundle.open(image_bundle).sample(7)
    picture = Image.open(io.BytesIO(table["image"][6].as_py()["bytes"]))
    assert (picture.size, picture.mode, picture.format) == ((8, 8), "L", "PNG")


def test_told_and_tested_conditions_hold_for_every_row(table_bundle: str) -> None:
    bundle = Bundle.open(table_bundle)
    assert set(bundle.sample(300, conditions={"sex": "m"})["sex"].to_pylist()) == {"m"}
    both = bundle.sample(300, conditions={"sex": "f", "city": "Bonn"})
    assert both.num_rows == 300
    assert set(both["sex"].to_pylist()) == {"f"} and set(both["city"].to_pylist()) == {"Bonn"}
    missing = bundle.sample(50, conditions={"city": None})
    assert missing["city"].null_count == 50
    ages = bundle.sample(300, conditions={"age": {">=": 30, "<": 35}, "city": {"!=": "Ulm"}})
    assert {*ages["age"].to_pylist()} <= {30, 31, 32, 33, 34}
    assert {*ages["city"].to_pylist()} == {"Bonn"}
    tall = bundle.sample(100, conditions={"height": {">": 170}, "sex": {"!=": "m"}, "city": {"!=": None}})
    assert min(tall["height"].to_pylist()) > 170 and {*tall["sex"].to_pylist()} == {"f"}
    assert tall["city"].null_count == 0
    whole = bundle.sample(300, conditions={"city": "Ulm"})
    assert bundle.sample(20, conditions={"city": "Ulm"}).equals(whole.slice(0, 20))


@pytest.mark.parametrize(
    ("conditions", "match"),
    [
        ({"citty": "Ulm"}, "unknown column 'citty'.*did you mean 'city'"),
        ({"sex": "x"}, "sex: 'x'; expected one of f, m"),
        ({"age": "old"}, "age: 'old'; expected a whole number"),
        ({"age": 10**20}, "age: 10+; expected a whole number"),
        ({"age": 30.5}, "age: 30.5; expected a whole number"),
        ({"age": {">=": "old"}}, "age: 'old'; expected a whole number"),
        ({"age": {">=": None}}, ">= nothing; expected a number or date"),
        ({"city": {"<": "Ulm"}}, "city: < of a category; expected = or !="),
    ],
)
def test_wrong_conditions_are_refused(table_bundle: str, conditions: dict, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Bundle.open(table_bundle).sample(5, conditions=conditions)


def test_a_time_without_a_zone_is_by_the_clock_of_its_column() -> None:
    berlin = pa.timestamp("s", "Europe/Berlin")
    for text, seconds in (
        ("1970-01-01", -3600),
        ("1970-01-01T00:00Z", 0),
        ("1970-01-01 00:00:00+02:00", -7200),
    ):
        assert scalar_of(text, berlin, where="day").value == seconds
    assert scalar_of(10**20, pa.float64(), where="x").as_py() == 1e20


def test_a_condition_too_rare_says_how_rare(table_bundle: str) -> None:
    with pytest.raises(QualityError, match=r"0 of 163840 generated rows \(0.000%\) have city = 'Paris'"):
        Bundle.open(table_bundle).sample(5, conditions={"city": "Paris"})


def test_pictures_cannot_be_conditions(image_bundle: str) -> None:
    with pytest.raises(UsageError, match=r"image: a column of image"):
        Bundle.open(image_bundle).sample(5, conditions={"image": "x"})


def test_saving_again_changes_nothing_and_other_content_is_a_conflict(copied: Path) -> None:
    bundle = Bundle.open(str(copied))
    weights = {f"{r}.{k}": v for r, net in bundle.nets.items() for k, v in net.state_dict().items()}
    same = {"recipe": bundle.recipe, "codec": bundle.codec, "weights": weights, "origin": bundle.origin}
    before = {p.name: p.read_bytes() for p in copied.iterdir()}
    assert save_bundle(str(copied), metrics=bundle.metrics, **same).fingerprint == bundle.fingerprint
    with pytest.raises(ConflictError, match=r"another result under this name"):
        save_bundle(str(copied), metrics={"fidelity": 0.9}, **same)
    assert {p.name: p.read_bytes() for p in copied.iterdir()} == before


def test_a_bundle_holds_no_pickle_and_no_training_rows(table_bundle: str) -> None:
    files = {p.name for p in Path(table_bundle).iterdir()}
    documents = {f"{n}.json" for n in ("recipe", "schema", "codec", "metrics", "origin", "manifest")}
    assert files == documents | {"weights.safetensors"}
    assert not any(p.read_bytes()[:2] == b"\x80\x04" for p in Path(table_bundle).iterdir())


@pytest.mark.parametrize("name", ["recipe.json", "codec.json", "weights.safetensors"])
def test_one_flipped_bit_is_found(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: content differs from the manifest"):
        Bundle.open(str(copied))


def test_missing_files_are_named(copied: Path, tmp_path: Path) -> None:
    (copied / "codec.json").unlink()
    with pytest.raises(DataError, match=r"codec.json: the file is missing"):
        Bundle.open(str(copied))
    (copied / "manifest.json").unlink()
    for empty in (copied, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"no manifest.json") as caught:
            Bundle.open(str(empty))
        assert caught.value.exit_code == 3


def test_json_keys_may_not_occur_twice(copied: Path) -> None:
    rewrite(copied, "origin.json", b'{"seed":1,"seed":2}')
    with pytest.raises(DataError, match=r"origin.json: a key that occurs twice"):
        Bundle.open(str(copied))


def test_a_recipe_of_another_version_is_refused(copied: Path) -> None:
    recipe = json.loads((copied / "recipe.json").read_bytes()) | {"novelty": 1}
    rewrite(copied, "recipe.json", store.canonical(recipe))
    with pytest.raises(DataError, match=r"expected a bundle this version of genpipe can read"):
        Bundle.open(str(copied))


def test_weights_of_another_network_are_refused(copied: Path, image_bundle: str) -> None:
    rewrite(copied, "weights.safetensors", (Path(image_bundle) / "weights.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"weights.safetensors: roles \['generator'\]"):
        Bundle.open(str(copied)).sample(1)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "a header of -1 bytes"),
        ((2**40).to_bytes(8, "little") + b"{}", "a header of 1099511627776 bytes in a file of 10"),
        (b"\x16" + b"\0" * 7 + b'{"model.a":1,"model.a":2}'[:22], "expected JSON|occurs twice"),
        (b"\x02" + b"\0" * 7 + b"{}", "0 tensors"),
    ],
)
def test_hostile_weights_are_refused_before_they_are_loaded(data: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_weights(data, where="w")


def test_deep_json_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(DataError, match=r"expected JSON"):
        parse_json(b"[" * 200_000, where="x")


def test_values_that_are_not_finite_are_never_delivered(copied: Path) -> None:
    bundle = Bundle.open(str(copied))
    bundle.family.sample = lambda nets, condition, rng: torch.full((len(condition), 3), float("nan"))
    with pytest.raises(QualityError, match=r"not finite"):
        bundle.sample(1)
