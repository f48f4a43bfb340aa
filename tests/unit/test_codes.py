"""Identifiers that are made up in the form of those of the data, and are none of them."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as pacsv
import pytest

import genpipe
from genpipe.pattern import language
from genpipe.written.codes import code_pattern

R = random.Random(0)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FORMS: dict[str, tuple[Callable[[int], str], str]] = {
    "digits after a word": (lambda i: f"CUST-{i:05d}", r"CUST-[0-9]{13}"),
    "no leading zeros": (lambda i: f"user{i + 1}", r"user[1-9][0-9]{12}"),
    "few words": (
        lambda i: f"{('DE', 'FR', 'US')[i % 3]}-{2021 + i % 2}-{1 + i * 37}",
        r"(DE|FR|US)-(2021|2022)-[1-9][0-9]{12}",
    ),
    "numbers between marks": (lambda i: f"T{1 + i * 7}/24 (x)", r"T[1-9][0-9]{12}/24 \(x\)"),
    "uuid": (
        lambda i: str(uuid.UUID(int=R.getrandbits(128))),
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    ),
    "hexadecimal": (lambda i: f"{R.getrandbits(64):016X}", r"[0-9A-F]{16}"),
    "many letters": (
        lambda i: f"N{100 + i}{R.choice('ABCDEFGHIJKLMN')}{R.choice('PQRSTUVW')}",
        r"N[1-9][0-9]{10}[A-Z]{2}",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_made_up_identifiers_look_like_those_of_the_data_and_are_none(form: str) -> None:
    make, expected = FORMS[form]
    texts = [make(i) for i in range(300)]
    assert code_pattern(texts) == expected
    assert code_pattern([*texts, "none yet", "?", "(cancelled)"]) == expected  # a few are written otherwise
    strings = language(expected)
    assert strings.size >= 10**12
    made = {strings[strings.size // 997 * i] for i in range(900)}
    assert made.isdisjoint(texts)
    if "{13}" in expected or ("{12}" in expected and form != "uuid"):  # longer than any: by construction
        assert min(map(len, made)) > max(map(len, texts))


def test_names_and_mixtures_have_no_pattern() -> None:
    words = ["".join(R.choices(LETTERS, k=9)) for _ in range(300)]
    assert code_pattern(words) is None  # nothing counts
    assert code_pattern([f"{w} {i}" if i % 2 else f"{i}.{w}-{i}/2" for i, w in enumerate(words)]) is None
    assert code_pattern([f"Nr. {i}" for i in range(19)]) is None  # too few to say what they have in common
    assert code_pattern(["é" + w for w in words]) is None
    assert code_pattern(["x" * 100 + str(i) for i in range(100)]) is None
    assert code_pattern([]) is None


def test_a_word_of_fewer_than_five_is_no_word_of_the_pattern() -> None:
    texts = [f"{'ONCE' if i == 0 else 'OFTEN'}-{i:04d}" for i in range(200)]
    found = code_pattern(texts)
    assert found is not None and "ONCE" not in found


def test_ingest_writes_patterns_and_generation_keeps_them(home: Path, tmp_path: Path) -> None:
    rows = [f"P-{1000 + i // 4 * 7:06d},T{R.randrange(10**6)}/24,{i % 7},{i + 1}" for i in range(400)]
    file = tmp_path / "visits.csv"
    file.write_text("\n".join(["patient,ticket,cost,row", *rows]) + "\n")
    data = genpipe.ingest(str(file), entity="none: a test of identifiers")
    fields = {f.name: f for f in data.schema.fields}
    assert fields["ticket"].pattern == "T[1-9][0-9]{12}/24" and fields["row"].minimum == 1
    model = genpipe.train(data, recipe="tabular_trees")
    genpipe.generate(model, rows=50, output=str(tmp_path / "made.csv"))
    table = pacsv.read_csv(tmp_path / "made.csv").to_pydict()
    assert all(re.fullmatch(r"T[1-9]\d{12}/24", ticket) for ticket in table["ticket"])
    assert len(set(table["ticket"])) == 50 and table["row"] == list(range(1, 51))


def test_whom_rows_are_about_is_written_as_before(home: Path, tmp_path: Path) -> None:
    rows = [
        f"P-{1000 + i // 5 * 7:06d},{'ABO'[i // 5 % 3]},{1950 + i // 5 % 40},{R.random():.3f}"
        for i in range(600)
    ]
    file = tmp_path / "visits.csv"
    file.write_text("\n".join(["patient,blood,born,cost", *rows]) + "\n")
    fields = {f.name: f for f in genpipe.ingest(str(file), entity="patient").schema.fields}
    assert fields["patient"].kind == "identifier" and fields["patient"].pattern == "P-[0-9]{13}"
