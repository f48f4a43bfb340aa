"""Bundles altered at random: each is refused as what it is, or makes rows that its schema allows.

A second or two for each kind here; `-m slow` goes on for minutes. What it finds becomes a row of
test_strange_bundles.py.
"""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from contained import KINDS, contained, copied, rewrite
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from genpipe.bundle import Bundle
from genpipe.codecs.stored import check_legal
from genpipe.errors import DataError, QualityError

DOCUMENTS = ("recipe.json", "schema.json", "codec.json", "metrics.json", "origin.json", "manifest.json")
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 100, 2**31, 2**53, 2**62, 2**63, 2**64, -(2**63), 10**18, -(10**18),
    10**30, 0.0, -0.0, 0.5, 1.5, -1e-9, 1e-300, 1e15, 1e150, 1e308, -1e308, math.nan, math.inf, -math.inf,
    "", "x", "0", "f", "\ud800", "\0", "x" * 100_000, "Ulm", "number", "tokens", [], {}, [[]], [0], [0.0, 1],
    [None], {"x": 1}, ["x", "x"],
)  # fmt: skip
DEEP = "deep down"  # stands for lists inside lists, which `json.dumps` cannot write


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths of everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, v in inner for p in [(*path, key), *places(v, (*path, key))]]


def altered(document: Any, draw: random.Random) -> Any:
    """The document with one thing other than it was."""
    out = copy.deepcopy(document)
    path = draw.choice(places(out))
    if draw.random() < 0.5:  # places near the top are few, and matter
        path = path[: draw.randint(1, len(path))]
    at = out
    for key in path[:-1]:
        at = at[key]
    key, old = path[-1], at[path[-1]]
    how = draw.randrange(8)
    if how == 0:
        del at[key]
    elif how == 1 and isinstance(old, dict):
        old[draw.choice(["x", "version", "type", "0"])] = draw.choice(JUNK)
    elif how == 1 and isinstance(old, list):
        old.insert(draw.randint(0, len(old)), copy.deepcopy(draw.choice([*old, *JUNK])))
    elif how == 2 and isinstance(old, list):
        draw.shuffle(old)
    elif how == 3:
        at[key] = copy.deepcopy(_at(document, draw.choice(places(document))))
    elif how == 4 and isinstance(old, int | float) and not isinstance(old, bool):
        at[key] = old * draw.choice([-1, 2, 10, 0.5, 1e6, 10**6])
    elif how == 5 and isinstance(old, list):
        at[key] = old[: draw.randint(0, len(old))] if draw.random() < 0.5 else old * 50
    elif how == 6 and draw.random() < 0.2:
        at[key] = DEEP
    else:
        at[key] = copy.deepcopy(draw.choice(JUNK))
    return out


def _at(document: Any, path: tuple) -> Any:
    for key in path:
        document = document[key]
    return document


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Weights cut short or with flipped bits, more often than not in the header."""
    out = bytearray(data)
    if draw.random() < 0.2:
        return bytes(out[: draw.randrange(len(out))])
    end = 8 + int.from_bytes(out[:8], "little")
    for _ in range(draw.choice([1, 1, 2, 20])):
        out[draw.randrange(end if draw.random() < 0.6 else len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def alter(folder: Path, good: dict[str, bytes], draw: random.Random) -> None:
    """The bundle of `good` with one or two documents altered, or the weights damaged."""
    for name, data in good.items():
        (folder / name).write_bytes(data)
    for _ in range(draw.choice([1, 1, 2])):
        name = draw.choice([*DOCUMENTS[:3], *DOCUMENTS, "weights.safetensors"])
        if name == "weights.safetensors":
            rewrite(folder, name, damaged(good[name], draw))
            continue
        text = json.dumps(altered(json.loads(good[name]), draw))
        data = text.replace(f'"{DEEP}"', "[" * 50_000 + "]" * 50_000).encode()
        if name == "manifest.json":
            (folder / name).write_bytes(data)
            break
        rewrite(folder, name, data)


def check_rows(bundle: Bundle, table: pa.Table) -> None:
    """Every row is one that the bundle's schema allows."""
    table.validate(full=True)
    for field in bundle.schema.fields:
        column = table[field.name].combine_chunks()
        if field.name in bundle.schema.conditions:  # training may have seen it missing
            field = field.model_copy(update={"nullable": True})
        check_legal(field, column)
        if field.kind == "series":
            values = column.flatten().drop_null().to_numpy()
            assert np.isfinite(values).all()
            assert set(column.value_lengths().drop_null().to_pylist()) <= {field.length}


def fuzz(folder: Path, examples: int, seed: int | None = None) -> None:
    good = {path.name: path.read_bytes() for path in folder.iterdir()}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**63))
    def once(number: int) -> None:
        alter(folder, good, random.Random(number if seed is None else number ^ seed))
        try:
            bundle = Bundle.open(str(folder))
            table = bundle.sample(3)
        except DataError as error:
            assert error.exit_code == 3 and len(str(error)) < 3000
        except QualityError as error:
            assert error.code == "NAN"
        else:
            check_rows(bundle, table)

    once()


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_bundle_is_refused_or_sound(kind: str, tmp_path: Path) -> None:
    folder = copied(kind, tmp_path)
    assert contained(lambda: fuzz(folder, 40), seconds=120) == "fine"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_many_altered_bundles_are_refused_or_sound(kind: str, seed: int, tmp_path: Path) -> None:
    folder = copied(kind, tmp_path)
    assert contained(lambda: fuzz(folder, 1500, seed), seconds=1200) == "fine"
