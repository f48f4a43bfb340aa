"""Held-out pictures, series and documents are in nothing that evaluating and publishing write."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from evaluation_samples import SERIES, TEXT
from media_files import png
from test_published import content, text

from genpipe.bundle import Bundle
from genpipe.dataset import commit, new_attempt, write_part
from genpipe.recipes import RECIPES
from genpipe.registry import publish
from genpipe.schema import Schema
from genpipe.verbs import evaluate

NAME, LEVEL = "Quentin Zyxwvut-Marlowe", 0.7310586


def pictures(rows: int, seed: int) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 256, (rows, 8, 8), dtype=np.uint8)
    blobs = [{"bytes": png(picture), "path": None} for picture in drawn]
    return {"image": blobs, "label": [str(i % 3) for i in range(rows)]}


def curves(rows: int, seed: int) -> dict[str, list]:
    drawn = np.random.default_rng(seed).normal(size=(rows, 2, 24))
    drawn[:, :, 7] = LEVEL + 0.001 * seed  # of this split alone
    return {"a": drawn[:, 0].tolist(), "b": drawn[:, 1].tolist()}


def documents(rows: int, seed: int) -> dict[str, list]:
    words = np.random.default_rng(seed).choice(["one", "two", "three", "and", "four"], (rows, 12))
    return {"text": [" ".join([*w, NAME if seed else "nobody", str(i)]) for i, w in enumerate(words)]}


KINDS = {"image": (pictures, None), "series": (curves, SERIES), "text": (documents, TEXT)}


@pytest.mark.parametrize("kind", KINDS)
def test_no_held_out_record_is_in_what_is_written(
    kind: str, image_bundle: str, make_untrained: Callable[..., str], home: Path, tmp_path: Path
) -> None:
    make, given = KINDS[kind]
    schema: Schema = given or Bundle.open(image_bundle).schema
    # a copy: reports are written beside a bundle, and tell other tests that it was checked
    bundle = str(shutil.copytree(image_bundle, tmp_path / "images" / "bundle"))
    if given:
        recipe = RECIPES[{"series": "series_vae", "text": "text_lstm"}[kind]]()
        bundle = make_untrained(recipe, schema, make(60, 0), tmp_path)
    rows = {"train": make(60, 0), "holdout": make(60, 1)}
    uri = str(home / "store/datasets/records")
    parts = [
        write_part(uri, pa.table(some, schema=schema.arrow()), split=split, name=split, attempt=new_attempt())
        for split, some in rows.items()
    ]
    dataset = commit(uri, name="records", schema=schema, parts=parts, origin={})
    report = evaluate(bundle, dataset, rows=60)
    publish(bundle, name="records", metrics={"fidelity": 0.5}, holdout=dataset.fingerprint)
    held = rows["holdout"]
    canaries = {
        "image": lambda: {b for blob in held["image"] for b in (blob["bytes"], *text_of(blob["bytes"]))},
        "series": lambda: {
            b"0.7320586",
            b"0.73205",
            struct.pack("<d", LEVEL + 0.001),
            struct.pack("<f", LEVEL + 0.001),
        },
        "text": lambda: text(NAME),
    }[kind]()
    written = {p for folder in (home, Path(bundle).parent) for p in folder.rglob("*") if p.is_file()}
    assert any(p.name == "report.html" for p in written) and Path(report.picture).exists()
    found = {
        str(p) for p in written if "store/datasets" not in str(p) and any(c in content(p) for c in canaries)
    }
    assert not found
    (own,) = [p for p in written if "holdout" in p.name]
    assert any(c in content(own) for c in canaries), "the search finds what is there"


def text_of(data: bytes) -> set[bytes]:
    import base64

    return {base64.b64encode(data)}
