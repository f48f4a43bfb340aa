"""Which texts copy: a run of the length asked for is seen wherever it begins, what many have is not one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.fields import Identifier, Text
from genpipe.keys import run_keys
from genpipe.schema import Schema
from genpipe.stages.generate.copies import PLACES, NoCopies, learnt_runs

LENGTH = 20


def learnt(folder: Path, texts: list[str], authors: list[str] | None = None) -> Dataset:
    fields: tuple[Text | Identifier, ...] = (Text(name="text"),)
    columns = {"text": texts}
    if authors:
        fields, columns = (*fields, Identifier(name="author")), columns | {"author": authors}
    schema = Schema(kind="text", fields=fields, entity=("author",) if authors else ())
    table = pa.table(columns, schema=schema.arrow())
    part = write_part(str(folder), table, split="train", name="train-00000", attempt=new_attempt())
    return commit(str(folder), name="letters", schema=schema, parts=[part], origin={})


def random_text(rng: np.random.Generator, length: int = 120) -> str:
    return "".join(rng.choice([*"abcdefghij"], length))


def kept(dataset: Dataset, made: list[str], allowed: list[str] | None = None) -> list[str]:
    keys = learnt_runs(dataset.uri, dataset.fingerprint, LENGTH)
    test = NoCopies("text", LENGTH, keys, allowed or [])
    batch = test.keep(pa.record_batch({"text": made}))
    assert test.dropped == len(made) - batch.num_rows
    return batch.column("text").to_pylist()


def test_a_run_is_seen_wherever_it_begins_and_a_much_shorter_one_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [random_text(rng) for _ in range(30)]
    dataset = learnt(tmp_path / "data", texts)
    for place in range(40):
        copied = random_text(rng, 31) + texts[place % 30][place : place + LENGTH] + random_text(rng, 17)
        short = "-" + texts[place % 30][place : place + LENGTH - PLACES] + "-" + random_text(rng)
        assert copied not in kept(dataset, [copied, short]) and short in kept(dataset, [copied, short])


@pytest.mark.parametrize("by_author", [False, True])
def test_what_five_entities_have_may_be_said_and_one_of_four_may_not(tmp_path: Path, by_author: bool) -> None:
    """The lines begin at different places in their texts; of one author's texts all are one entity's."""
    rng = np.random.default_rng(1)
    ours, theirs = (random_text(rng, 40) for _ in range(2))
    lines = [ours] * 5 + [theirs] * 4 + [""] * 20
    texts = [random_text(rng, 30 + i) + line + random_text(rng, 9) for i, line in enumerate(lines)]
    dataset = learnt(tmp_path / "many", texts)
    assert kept(dataset, [ours, theirs]) == [ours]
    if by_author:
        alone = learnt(tmp_path / "one", texts, ["one"] * 9 + [str(i) for i in range(20)])
        assert kept(alone, [ours, theirs]) == []


def test_what_a_user_began_with_may_stand_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    texts = [random_text(rng) for _ in range(30)]
    dataset = learnt(tmp_path / "data", texts)
    begun = texts[4][:60]
    on = begun + random_text(rng, 30)
    assert kept(dataset, [on]) == [] and kept(dataset, [on], [begun]) == [on]
    assert kept(dataset, [texts[4]], [begun]) == []  # but it may not be gone on with


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 20, 33])
def test_runs_of_any_length_have_equal_keys_where_they_are_equal(length: int) -> None:
    texts = ["ab" * 30, "", None, "xab" + "ab" * 20, "short"]
    keys, place = run_keys(texts, length)
    runs = [t[i : i + length] for t in texts if t for i in range(len(t) - length + 1)]
    assert len(keys) == len(runs) and len(set(keys.tolist())) == len(set(runs))
    assert len({*zip(runs, keys.tolist(), strict=True)}) == len(set(runs))
    assert place.tolist() == [n for n, t in enumerate(texts) for _ in range(len(t or "") - length + 1)]
