"""The schema file: an equal schema comes back; every problem of an edited one has its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from genpipe.errors import DataError, SpecError
from genpipe.fields import Audio, Category, Date, Identifier, Image, Integer, Number, Series, Text, Timestamp
from genpipe.schema import Schema
from genpipe.sources.schema_file import schema_from_yaml, schema_to_yaml

TABLE = Schema(
    kind="tabular",
    target="class: #1",
    key=("id",),
    fields=(
        Identifier(name="id", storage="integer", reason="counts the rows: every number of a range once"),
        Number(name="amount", decimals=2, minimum=0.5, nullable=True),
        Integer(name="n", maximum=2**53 + 1),
        Category(name="class: #1", values=("yes", "no", "1", "é")),
        Timestamp(name="seen", unit="ns", timezone="Europe/Paris"),
        Date(name="day"),
    ),
)
OTHERS = [
    Schema(kind="image", fields=(Image(name="image", height=2, width=3, channels=1),)),
    Schema(kind="series", fields=(Series(name="x", length=24),)),
    Schema(kind="text", fields=(Text(name="text"),)),
    Schema(kind="audio", fields=(Audio(name="audio", rate=8000, frames=64),)),
]


@pytest.mark.parametrize("schema", [TABLE, *OTHERS], ids=lambda s: s.kind)
def test_round_trip(schema: Schema, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(schema_to_yaml(schema))
    assert schema_from_yaml(str(tmp_path / "s.yaml")) == schema


@pytest.mark.parametrize(
    "old, new, match",
    [
        (
            "kind: number",
            "kind: numbr",
            r"line \d+: fields\[1\].*unknown kind 'numbr'.*did you mean 'number'",
        ),
        ("decimals: 2", "decimals: two", r"line LINE: fields\[1\]\.decimals: .*valid integer"),
        ("decimals: 2", "digits: 2", r"line LINE: fields\[1\]\.digits: this key is not known here"),
        ("kind: tabular", "kind: table", r"line LINE: kind: got 'table'; expected one of tabular"),
        ("- id\n", "- idd\n", r"key 'idd' is not a field"),
        ("fields:", "fields: [", r"not YAML"),
    ],
)
def test_problems_have_lines(old: str, new: str, match: str, tmp_path: Path) -> None:
    text = schema_to_yaml(TABLE)
    assert old in text
    (tmp_path / "s.yaml").write_text(text.replace(old, new, 1))
    line = text[: text.index(old)].count("\n") + 1
    with pytest.raises(SpecError, match=match.replace("LINE", str(line))):
        schema_from_yaml(str(tmp_path / "s.yaml"))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such schema file"):
        schema_from_yaml(str(tmp_path / "none.yaml"))
