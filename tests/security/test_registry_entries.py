"""Registry entries of strangers: they may make versions with any tags and content, and get nothing by it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

import genpipe
from genpipe import store
from genpipe.bundle import Bundle, save_bundle
from genpipe.errors import DataError, InfrastructureError, UsageError
from genpipe.registry import Registered, publish, resolve
from genpipe.registry.package import fingerprint_of, pack
from genpipe.registry.promotion import DONE, Promotion
from genpipe.registry.tracking import client
from genpipe.related.train import open_tables


@pytest.fixture(scope="module", autouse=True)
def registry_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One registry for the file: making it takes seconds. Every test uses names of its own."""
    folder = tmp_path_factory.mktemp("entries")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        for name in ("GENPIPE_STORE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield folder


def variant(uri: str, folder: Path, **origin: Any) -> str:
    """The same generator with another origin: another bundle."""
    bundle = Bundle.open(uri)
    weights = {f"{r}.{k}": v for r, net in bundle.nets.items() for k, v in net.state_dict().items()}
    made = save_bundle(
        str(folder), recipe=bundle.recipe, codec=bundle.codec, weights=weights, metrics={}, origin=origin
    )  # fmt: skip
    return made.uri


def put(bundle: str, name: str, fidelity: float = 0.5, **options: Any) -> Registered:
    return publish(bundle, name=name, metrics={"fidelity": fidelity}, holdout="h", **options)


def forge(name: str, folder: Path, content: str = "", artifact: str = "bundle", **tags: str) -> int:
    """What a stranger does: a version whose files lie in `folder`, with tags of their choice."""
    to = client()
    if not to.search_registered_models(f"name = '{name}'"):
        to.create_registered_model(name)
    if content:
        shutil.copytree(content, folder / "artifacts" / artifact, symlinks=True, dirs_exist_ok=True)
    return int(to.create_model_version(name, str(folder), tags=tags).version)


def files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("tag", ["", "../../secret", "{up}", "{there}", "F" * 20, "f" * 19, "f" * 20 + "\n"])
def test_a_fingerprint_that_is_a_path_opens_nothing(
    table_bundle: str, registry_home: Path, tmp_path: Path, tag: str
) -> None:
    """A bundle of another project on this machine, named through the registry."""
    secret = variant(table_bundle, registry_home / "secret", name="secret")
    up = os.path.relpath(secret, registry_home / "store" / "models")
    (registry_home / "store" / "models").mkdir(parents=True, exist_ok=True)
    tag = tag.format(up=up, there=secret)
    name = f"path-{store.digest(tag)}"
    version = forge(name, tmp_path / "forged", table_bundle, **({"bundle_fingerprint": tag} if tag else {}))
    with pytest.raises(DataError, match=f"models:/{name}/{version}: .*; expected 20 hexadecimal digits"):
        genpipe.generate(f"models:/{name}/{version}", rows=2, workers=0)


def test_what_is_kept_is_compared_each_time(table_bundle: str, registry_home: Path, tmp_path: Path) -> None:
    put(variant(table_bundle, tmp_path / "own", name="kept"), "kept")
    kept = Path(resolve("models:/kept@champion").uri)
    assert fingerprint_of(str(kept)) == kept.name
    other = variant(table_bundle, tmp_path / "other", name="other")
    shutil.rmtree(kept)
    shutil.copytree(other, kept)  # a whole bundle, in the place of the one that was registered
    with pytest.raises(DataError, match=f"{kept}: a model with .*; expected {kept.name}; remove this folder"):
        genpipe.generate("models:/kept@champion", rows=2, workers=0)
    shutil.rmtree(kept)
    assert genpipe.generate("models:/kept@champion", rows=2, workers=0).rows() == 2


def test_content_that_is_not_what_the_tag_says(
    table_bundle: str, registry_home: Path, tmp_path: Path
) -> None:
    said = "0" * 20
    version = forge("says", tmp_path / "forged", table_bundle, bundle_fingerprint=said)
    with pytest.raises(
        DataError, match=rf"models:/says/{version}: a model with fingerprint .*; expected {said}"
    ):
        resolve(f"models:/says/{version}")
    assert not (registry_home / "store" / "models" / said).exists()


def tables_of(bundle: str, folder: Path, place: str = "models/00-people", **changes: Any) -> str:
    """A published set of one table, whose bundle is said to be at `place`."""
    schema = Bundle.open(bundle).schema.model_dump(mode="json")
    node = {
        "name": "people", "parent": None, "schema_": schema, "key": [], "link": [], "order": None,
        "own": schema["fields"], "children": [], "rows": 500, "references": [], "numbers": {},
    } | changes.pop("node", {})  # fmt: skip
    told = {
        "uri": "", "name": "people", "nodes": [node], "models": {"people": place}, "metrics": {},
        "fingerprint": "a" * 20,
    } | changes  # fmt: skip
    shutil.copytree(bundle, folder / "models" / "00-people")
    (folder / "tables.json").write_text(json.dumps(told))
    return str(folder)


PLACES = ["../secret", "models/../../secret", "/etc", "s3://lake/secret", "models/00-link", "models", "", "."]


@pytest.mark.parametrize("place", PLACES)
def test_tables_whose_models_lie_elsewhere(
    table_bundle: str, registry_home: Path, tmp_path: Path, place: str
) -> None:
    shutil.copytree(table_bundle, tmp_path / "secret")
    where = Path(tables_of(table_bundle, tmp_path / "set", place))
    if place == "models/00-link":
        (where / "models" / "00-link").symlink_to(tmp_path / "secret")
    for read in (open_tables, resolve, fingerprint_of, genpipe.generate_tables, genpipe.register):
        with pytest.raises(DataError, match=r"tables\.json: the place .* models/00-name, and no link"):
            read(str(where))
    before = files(tmp_path) | files(registry_home / "store")
    name = f"elsewhere-{PLACES.index(place)}"
    content = {place: {f: store.digest(b"") for f in ("recipe.json",)}}
    tags = {"bundle_fingerprint": store.digest(content), "kind": "tables"}
    version = forge(name, tmp_path / "forged", str(where), "tables", **tags)
    refused = "the place .* models/00-name, and no link|outside the artifact directory"  # MLflow's own words
    with pytest.raises((DataError, InfrastructureError), match=refused):
        resolve(f"models:/{name}/{version}")
    shutil.rmtree(tmp_path / "forged")
    assert files(tmp_path) | files(registry_home / "store") == before


def test_a_set_that_says_it_lies_elsewhere(table_bundle: str, tmp_path: Path) -> None:
    """Its models would be opened where it says, with the registry's name in the lineage."""
    where = tables_of(table_bundle, tmp_path / "set", table_bundle, uri=str(tmp_path / "secret"))
    tags = {"bundle_fingerprint": "b" * 20, "kind": "tables"}
    version = forge("says-elsewhere", tmp_path / "forged", where, "tables", **tags)
    with pytest.raises(DataError, match="a set that lies elsewhere; expected one that was published"):
        resolve(f"models:/says-elsewhere/{version}")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../x"},
        {"name": ["people"]},
        {"fingerprint": "../x"},
        {"models": {}},
        {"models": ["models/00-people"]},
        {"models": {"people": 3}},
        {"models": {"others": "models/00-people"}},
        {"nodes": []},
        {"nodes": [3]},
        {"node": {"name": "../../x"}, "models": {"../../x": "models/00-people"}},
        {"node": {"rows": 0}},
        {"node": {"rows": -(10**18)}},
        {"node": {"rows": 10**400}},
        {"node": {"parent": "people"}},
        {"node": {"parent": "nobody"}},
        {"node": {"children": ["nobody"]}},
        {"node": {"schema_": None}},
        {"node": {"schema_": {"kind": "tabular"}}},
        {"node": {"own": 3}},
        {"node": {"own": []}},
    ],
    ids=lambda c: re.sub(r"\W+", "-", json.dumps(c))[:50],
)
def test_tables_that_make_no_sense(table_bundle: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    where = tables_of(table_bundle, tmp_path / "set", **changes)
    for use in (
        lambda: genpipe.generate_tables(where, rows=5, workers=0),
        lambda: pack(where, tmp_path / "to"),
    ):
        try:
            use()
        except (DataError, UsageError) as error:
            assert len(str(error)) < 2000 and "\n" not in str(error)
        else:
            assert use().__class__.__name__ == "Package", "generated all the same"  # type: ignore[no-untyped-call]
    assert not (tmp_path / "x").exists() and not list(tmp_path.parent.glob("x"))


def test_tables_json_is_a_small_regular_file(table_bundle: str, tmp_path: Path) -> None:
    where = Path(tables_of(table_bundle, tmp_path / "set")) / "tables.json"
    assert open_tables(str(where.parent)).name == "people"
    open_tables.cache_clear()
    for make, match in (
        (lambda: where.symlink_to("/dev/zero"), "regular file|a link"),
        (lambda: where.symlink_to("/etc/passwd"), "regular file|a link"),
        (lambda: os.mkfifo(where), "regular file|pipe"),
        (lambda: os.truncate(os.open(where, os.O_CREAT | os.O_RDWR), 2**33), "8589934592 bytes"),
        (lambda: where.write_text("[" * 100_000), "expected JSON"),
        (lambda: where.write_text("[]"), "no relations"),
    ):
        where.unlink()
        make()
        with pytest.raises(DataError, match=match):
            open_tables(str(where.parent))
        with pytest.raises(DataError, match=match):
            resolve(str(where.parent))


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e308, -0.1, 1.5, "much", None])
def test_a_score_that_is_none_is_not_registered(table_bundle: str, score: Any) -> None:
    with pytest.raises(UsageError, match="expected a number from 0 to 1; evaluate the model first"):
        put(table_bundle, "scored", score)
    assert not client().search_registered_models("name = 'scored'")


def test_a_champion_with_a_score_that_is_none_is_measured(table_bundle: str, tmp_path: Path) -> None:
    put(variant(table_bundle, tmp_path / "a", name="a"), "tagged", 0.9)
    other = variant(table_bundle, tmp_path / "b", name="b")
    for tag in ("nan", "inf", "-inf", "1e308", "much", ""):
        client().set_model_version_tag("tagged", "1", "fidelity", tag)
        made = put(other, "tagged", 0.99)
        assert (made.alias, "not comparable" in made.reason) == ("challenger", True), tag
    assert put(other, "tagged", 0.1, rescore=lambda model: 0.9).alias == "challenger"
    assert put(other, "tagged", 0.95, rescore=lambda model: 0.9).alias == "champion"


def test_a_forged_version_does_not_become_champion_in_anothers_name(
    table_bundle: str, tmp_path: Path
) -> None:
    """Registering the same bundle again finds the version it made, by a tag that anybody can compute."""
    mine, theirs = (variant(table_bundle, tmp_path / n, name=n) for n in ("mine", "theirs"))
    with_tags = {"bundle_fingerprint": Bundle.open(mine).fingerprint, "fidelity": "1.0", "holdout": "h"}
    with_tags["bundle_fingerprint"] = pack(mine, tmp_path / "packed").fingerprint
    output_id = store.digest({"name": "forged", "bundle": with_tags["bundle_fingerprint"]})
    assert forge("forged", tmp_path / "1", theirs, output_id=output_id, **with_tags) == 1
    assert forge("forged", tmp_path / "2", output_id=output_id, **with_tags) == 2  # nothing there
    made = put(mine, "forged", 0.5)
    assert (made.version, made.alias) == (3, "champion")
    assert put(mine, "forged", 0.5).version == 3
    assert resolve("models:/forged@champion").reference == "models:/forged/3"
    with pytest.raises((DataError, InfrastructureError)):
        client().set_registered_model_alias("forged", "champion", "1")
        shutil.rmtree(resolve("models:/forged/3").uri)
        resolve("models:/forged@champion")


def test_a_copy_of_a_version_with_better_tags_gains_nothing(table_bundle: str, tmp_path: Path) -> None:
    mine = variant(table_bundle, tmp_path / "mine", name="mine")
    packed = pack(mine, tmp_path / "packed")
    output_id = store.digest({"name": "copied", "bundle": packed.fingerprint})
    tags = {"bundle_fingerprint": packed.fingerprint, "output_id": output_id, "holdout": "h"}
    forge("copied", tmp_path / "1", str(packed.folder), fidelity="1.0", **tags)
    assert put(mine, "copied", 0.5).version == 1  # it holds what was registered
    better = put(variant(table_bundle, tmp_path / "better", name="better"), "copied", 0.6)
    assert better.alias == "champion" and "against 0.5000 of version 1" in better.reason


def test_a_count_of_promotions_that_is_none(table_bundle: str, tmp_path: Path) -> None:
    for k, score in enumerate((0.5, 0.6)):
        put(variant(table_bundle, tmp_path / str(k), name=str(k)), "counted", score)
    for tag in ("much", "-7", "nan", "9" * 30):
        client().set_registered_model_tag("counted", DONE, tag)
        assert Promotion(client(), "counted", "champion").version == 2
        assert client().get_registered_model("counted").tags[DONE] == "2"


def test_names_of_strangers_become_no_folders(table_bundle: str, registry_home: Path, tmp_path: Path) -> None:
    evil = variant(table_bundle, tmp_path / "evil", name="../../../evil", **{"mlflow.user": "root"})
    resolved = resolve(evil)
    assert re.fullmatch("[a-z0-9._-]+", resolved.name) and ".." not in resolved.name
    made = genpipe.generate(evil, rows=2, workers=0)
    assert Path(made.uri).is_relative_to(registry_home / "store" / "generated")
    put(evil, "from-evil")
    version = client().get_model_version("from-evil", "1")
    assert "mlflow.user" not in version.tags
    for model in ("models:/a\x1b[31m@champion", "models:/a@\x07b", "models:/a\n/1", "models:/a/" + "9" * 40):
        with pytest.raises(UsageError, match="half a reference"):
            resolve(model)


def test_load_model_compares_with_the_tag(table_bundle: str, tmp_path: Path) -> None:
    """A bundle that was exchanged in the store of artifacts, with the registry's database as it was."""
    mine, theirs = (variant(table_bundle, tmp_path / n, name=n) for n in ("mine", "theirs"))
    put(mine, "loaded")
    assert len(mlflow.pyfunc.load_model("models:/loaded@champion").predict(None)) == 100
    version = client().get_model_version("loaded", "1")
    model = client().get_logged_model(version.source.removeprefix("models:/"))
    where = Path(model.artifact_location.removeprefix("file://"))
    shutil.rmtree(where / "artifacts" / "bundle")
    shutil.copytree(theirs, where / "artifacts" / "bundle")
    wanted = f"a model with fingerprint .*; expected .*{version.tags['bundle_fingerprint']}"
    with pytest.raises(DataError, match=wanted):
        mlflow.pyfunc.load_model("models:/loaded@champion")
    told = (where / "MLmodel").read_text()  # and the note beside it too
    (where / "MLmodel").write_text(
        told.replace(version.tags["bundle_fingerprint"], Bundle.open(theirs).fingerprint)
    )
    with pytest.raises(DataError, match=wanted):
        mlflow.pyfunc.load_model("models:/loaded@champion")
