"""Bundles that a stranger made, and opens on somebody else's machine: what they ask for is looked at before
anything is read, built or drawn. Every attack runs in a process that may take 1.5 GB and 30 seconds.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contained import FIXTURES, KINDS, contained, copied, put, rewrite

from genpipe.bundle import Bundle
from genpipe.bundle.sampling import Sampling
from genpipe.errors import UsageError


def opened(folder: Path) -> Callable[[], Any]:
    return lambda: Bundle.open(str(folder)).sample(3)


@pytest.mark.parametrize("kind", KINDS)
def test_bundles_of_earlier_code_open(kind: str) -> None:
    """These were written by genpipe before any of these limits."""
    table = Bundle.open(str(FIXTURES / kind)).sample(3)
    assert table.num_rows == 3


RECIPES = [
    ("table", "family.model.width", 10**6),
    ("table", "family.model.embed", 10**7),
    ("table", "family.temperature", 1e300),
    ("table", "training.batch_size", 10**18),
    ("table", "family.model.smooth", 1e308),
    ("vector", "family.latent", 10**9),
    ("vector", "family.decoder.depth", 10**6),
    ("trees", "family.leaves", 10**12),
    ("image", "family.generator.width", 8 * 10**6),
    ("image", "family.generator.widest", 10**6),
    ("image", "family.pack", 10**6),
    ("series", "family.model.mixture", 10**9),
    ("series", "family.model.width", 10**6),
    ("text", "family.model.depth", 10**6),
    ("text", "family.model.width", 8 * 10**6),
    ("audio", "family.critic.width", 8 * 10**6),
]


@pytest.mark.parametrize(("kind", "path", "value"), RECIPES, ids=str)
def test_a_recipe_has_upper_limits(kind: str, path: str, value: float, tmp_path: Path) -> None:
    folder = copied(kind, tmp_path)
    put(folder, "recipe.json", path, value)
    told = contained(opened(folder))
    assert told.startswith("E-BUNDLE 3:") and "less than or equal to" in told, told


WITHIN = [
    ("table", {"family.model.width": 4096, "family.model.embed": 1024}),
    ("vector", {"family.decoder.width": 16_384, "family.decoder.depth": 64}),
    ("vector", {"family.encoder.width": 16_384, "family.encoder.depth": 64}),
    ("trees", {"family.leaves": 65_536}),
    ("image", {"family.generator.width": 2048, "family.generator.widest": 64}),
    ("image", {"family.critic.width": 2048, "family.critic.widest": 64}),
    ("series", {"family.model.width": 8192, "family.model.depth": 32}),
    ("text", {"family.model.width": 8192, "family.model.depth": 96}),
    ("text", {"family.model.width": 64}),
]


@pytest.mark.parametrize(("kind", "changes"), WITHIN, ids=str)
def test_networks_cost_no_more_than_their_weights(kind: str, changes: dict, tmp_path: Path) -> None:
    """Each size is allowed; together they would take up to terabytes, beside weights of kilobytes."""
    folder = copied(kind, tmp_path)
    for path, value in changes.items():
        put(folder, "recipe.json", path, value)
    told = contained(opened(folder), megabytes=1200, seconds=20)
    assert told.startswith(("E-LIMIT 3:", "E-WEIGHTS 3:")), told


SHAPES = [
    ("image", "schema.json", "fields.0.height", 10**6),
    ("image", "schema.json", "fields.0.width", 60_000),
    ("series", "schema.json", "fields.0.length", 10**9),
    ("text", "codec.json", "context", 10**9),
    ("text", "codec.json", "context", 65_536),
    ("audio", "schema.json", "fields.0.rate", 10**9),
    ("audio", "schema.json", "fields.0.frames", 10**12),
    ("audio", "codec.json", "frames", 10**12),
]


@pytest.mark.parametrize(("kind", "name", "path", "value"), SHAPES, ids=str)
def test_rows_are_of_bounded_size(kind: str, name: str, path: str, value: int, tmp_path: Path) -> None:
    folder = copied(kind, tmp_path)
    put(folder, name, path, value)
    told = contained(opened(folder))
    assert told.startswith(("E-BUNDLE 3:", "E-LIMIT 3:", "E-WEIGHTS 3:")), told


def test_long_series_are_bounded_before_one_is_drawn(tmp_path: Path) -> None:
    folder = copied("series", tmp_path)
    for number in (0, 1):
        put(folder, "schema.json", f"fields.{number}.length", 2**24)
    told = contained(opened(folder))
    assert told.startswith("E-LIMIT 3:") and "rows of shape" in told, told


def test_shapes_are_compared_before_a_tensor_is_read(tmp_path: Path) -> None:
    folder = copied("text", tmp_path)
    put(folder, "recipe.json", "family.model.width", 16)
    told = contained(opened(folder))
    assert "model.blocks.0.down.bias of F32 [8]" in told and "model.blocks.0.down.bias of F32 [16]" in told


NUMBERS = [
    ("table", "columns.age.shares.0", float("nan")),
    ("table", "columns.age.shares", [1.0]),
    ("table", "columns.city.shares", [5.0, -4.0, 0.0, 0.0]),
    ("table", "columns.city.shares", ["0.5", "0.5", "0", "0"]),
    ("table", "columns.city.values", ["Ulm", "Ulm", "Bonn"]),
    ("table", "columns.city.values", ["Ulm", "Bonn", 3]),
    ("table", "columns.a with b.values", ["[]", "{}", "1", "null"]),
    ("table", "columns.a with b.values", ['["x", "p"]', '["y", "q"]', '["y", "p"]', '["x", 1]']),
    ("table", "columns.age.cells.edges.0.0", float("inf")),
    ("table", "columns.age.cells.edges.0.0", 1e6),
    ("table", "columns.age.cells.pieces", 10**9),
    ("table", "columns.age.cells.pieces", -1),
    ("table", "columns.age.axis.high", 1e308),
    ("table", "columns.age.axis.high", 2**62),
    ("table", "columns.age.axis.high", 121),
    ("table", "columns.age.axis.step", -1),
    ("table", "columns.real.axis.high", 1e308),
    ("table", "columns.real.axis.low", 1e100),
    ("table", "columns.real.axis.low", "0"),
    ("table", "columns.height.axis.decimals", 10**6),
    ("table", "columns.height.missing", True),
    ("table", "columns.age.type", "fixed"),
    ("table", "columns.empty.value", [1]),
    ("table", "columns.empty.value", 1e300),
    ("table", "columns.id.missing", -1),
    ("table", "columns.born.axis.high", 2**40),
    ("table", "conditions.cells.0.1", -(10**18)),
    ("table", "conditions.cells.0.0", 7),
    ("table", "conditions.cells.0.1", 2**64),
    ("table", "conditions.values.0", ["f", "f"]),
    ("table", "conditions.values.0", ["f", "x"]),
    ("table", "conditions.names", ["age"]),
    ("table", "relations.lookups.0.pairs", []),
    ("table", "relations.lookups.0.pairs.0", ["Ulm", 7]),
    ("table", "relations.lookups.0.made", "nothing"),
    ("table", "relations.lookups.0.made", "city"),
    ("table", "relations.extremes.stop", [1e308, float("nan")]),
    ("table", "relations.extremes.stop", [9, 1]),
    ("table", "relations.broken", {"x": -1}),
    ("vector", "columns.real.score.knots.0", 1e308),
    ("vector", "columns.real.score.knots", [0.0]),
    ("vector", "columns.real.score.scores.3", 9.0),
    ("series", "channels.flow.axis.high", 1e308),
    ("series", "channels.heat.score", None),
    ("series", "channels.heat.gaps", 3),
    ("text", "points", []),
    ("text", "points", [97, 96]),
    ("text", "points.0", 0xD800),
    ("text", "points.0", -(10**18)),
    ("text", "context", 0),
    ("audio", "peak", 1e308),
    ("audio", "peak", 0),
    ("audio", "frames", -1),
    ("image", "conditions.cells", []),
    ("image", "kind", "video"),
]


@pytest.mark.parametrize(("kind", "path", "value"), NUMBERS, ids=str)
def test_a_codec_holds_what_it_may(kind: str, path: str, value: Any, tmp_path: Path) -> None:
    folder = copied(kind, tmp_path)
    put(folder, "codec.json", path, value)
    told = contained(opened(folder))
    assert told.startswith("E-") and " 3: " in told.splitlines()[0], told


DOCUMENTS = [
    ("metrics.json", b"[1]"),
    ("metrics.json", b'{"fidelity":"high"}'),
    ("metrics.json", b'{"fidelity":NaN}'),
    ("metrics.json", b'{"fidelity":1e999}'),
    ("metrics.json", b"null"),
    ("origin.json", b"[1]"),
    ("origin.json", b'"x"'),
    ("origin.json", b'{"rows":-5}'),
    ("origin.json", b'{"rows":"many"}'),
    ("origin.json", b'{"name":[[[1]]]}'),
    ("origin.json", b'{"name":"\\ud800"}'),
    ("origin.json", b'{"seed":1,"seed":2}'),
    ("origin.json", b'{"seed":' + b"9" * 5000 + b"}"),
    ("origin.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    ("recipe.json", b"[" * 100_000 + b"]" * 100_000),
    ("schema.json", b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
    ("schema.json", b'{"kind":"tabular","fields":[]}'),
    ("codec.json", b"\xff\xfe"),
    ("codec.json", b"[" + b"[]," * (2**23) + b"[]]"),
    ("codec.json", b"{}"),
    ("metrics.json", b" " * (2**21) + b"{}"),
]


@pytest.mark.parametrize(("name", "data"), DOCUMENTS, ids=[f"{n} {d[:24]!r}" for n, d in DOCUMENTS])
def test_documents_are_plain_and_bounded(name: str, data: bytes, tmp_path: Path) -> None:
    folder = copied("table", tmp_path)
    rewrite(folder, name, data)
    told = contained(opened(folder), megabytes=700)
    assert told.startswith("E-") and " 3: " in told.splitlines()[0], told


def replaced_by(how: str, where: Path) -> None:
    data = where.read_bytes()
    where.unlink()
    if how == "link":
        (where.parent / "elsewhere").write_bytes(data)
        where.symlink_to("elsewhere")
    elif how == "endless":
        where.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(where)
    elif how == "folder":
        where.mkdir()
    elif how == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(where.parent)  # names of sockets are short
            server.bind(where.name)
    elif how == "sparse":
        where.write_bytes(data)
        os.truncate(where, 2**40)


@pytest.mark.parametrize("how", ["link", "endless", "pipe", "folder", "socket", "sparse"])
@pytest.mark.parametrize("name", ["manifest.json", "codec.json", "weights.safetensors"])
def test_only_regular_files_of_the_size_told_are_read(
    how: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copied("text", tmp_path)
    replaced_by(how, folder / name)
    told = contained(opened(folder), seconds=10)
    assert told.startswith(("E-FILE 3:", "E-SHA256 3:", "E-LIMIT 3:")), told


def test_a_sparse_file_is_no_larger_for_being_named(tmp_path: Path) -> None:
    """The manifest agrees with the size: that is more than any bundle has."""
    folder = copied("text", tmp_path)
    os.truncate(folder / "weights.safetensors", 2**40)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["weights.safetensors"]["bytes"] = 2**40
    (folder / "manifest.json").write_text(json.dumps(manifest))
    told = contained(opened(folder))
    assert told.startswith("E-LIMIT 3:"), told


def test_a_folder_behind_a_link_is_a_folder(tmp_path: Path) -> None:
    copied("text", tmp_path)
    (tmp_path / "link").symlink_to("text")
    assert Bundle.open(str(tmp_path / "link")).sample(1).num_rows == 1


@pytest.mark.parametrize(
    "manifest",
    [
        {"format": 1},
        {"format": True},
        {"format": 1, "files": {"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}},
        {"format": 1, "files": [1]},
        [],
    ],
    ids=str,
)
def test_a_manifest_names_the_files_of_a_bundle(manifest: Any, tmp_path: Path) -> None:
    folder = copied("text", tmp_path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert contained(opened(folder)).startswith("E-BUNDLE 3:")


@pytest.mark.parametrize("value", [-1, 1.5, "1", None, True, 10**30])
def test_a_manifest_tells_sizes(value: Any, tmp_path: Path) -> None:
    folder = copied("text", tmp_path)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["codec.json"]["bytes"] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert contained(opened(folder)).startswith(("E-BUNDLE 3:", "E-NONFINITE 3:"))


def saved(tensors: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save(tensors)


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return load((folder / "weights.safetensors").read_bytes())


def test_weights_are_finite(tmp_path: Path) -> None:
    folder = copied("text", tmp_path)
    weights = weights_of(folder)
    weights["model.norm.weight"][3] = np.nan
    rewrite(folder, "weights.safetensors", saved(weights))
    assert "model.norm.weight has numbers that are not finite" in contained(opened(folder))


@pytest.mark.parametrize("how", ["loop", "beyond", "unseen", "negative"])
def test_trees_end_in_leaves(how: str, tmp_path: Path) -> None:
    folder = copied("trees", tmp_path)
    weights = weights_of(folder)
    name, value = {
        "loop": ("model.left", 0),
        "beyond": ("model.right", -(10**6)),
        "unseen": ("model.feature", 99),
        "negative": ("model.shares", -1.0),
    }[how]
    weights[name][0, 0] = value
    rewrite(folder, "weights.safetensors", saved(weights))
    told = contained(opened(folder))
    assert told.startswith("E-WEIGHTS 3:") and ("leads nowhere" in told or "below 0" in told), told


@pytest.mark.parametrize("kind", ["table", "trees", "image"])
def test_weights_are_of_the_networks_they_are_for(kind: str, tmp_path: Path) -> None:
    folder = copied(kind, tmp_path)
    good = weights_of(folder)
    first = next(iter(good))
    for changed in (
        {k: v for k, v in good.items() if k != first},
        good | {"model.more": np.zeros(3, np.float32)},
        good | {"critic.more": np.zeros(3, np.float32)},
        good | {first: good[first][None]},
        good | {first: good[first].astype(np.float16)},
    ):
        rewrite(folder, "weights.safetensors", saved(changed))
        told = contained(opened(folder))
        assert told.startswith("E-WEIGHTS 3:"), told


def test_a_user_is_told_of_a_wrong_temperature_as_of_a_wrong_argument() -> None:
    with pytest.raises(UsageError, match=r"temperature"):
        Bundle.open(str(FIXTURES / "image"), sampling=Sampling(temperature=0.5))
