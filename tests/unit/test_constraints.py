"""Declarations of constraints: what cannot be kept is refused with its place and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from genpipe.errors import SpecError, UsageError
from genpipe.fields import Boolean, Category, Date, Integer, Number, Series, Text, Timestamp
from genpipe.schema import Schema
from genpipe.sources.schema_file import schema_from_yaml, schema_to_yaml
from genpipe.verbs import ingest

FIELDS = (
    Date(name="start"),
    Date(name="end"),
    Timestamp(name="seen", unit="s"),
    Timestamp(name="left", unit="us"),
    Integer(name="low", minimum=5),
    Integer(name="high", maximum=9),
    Number(name="a", decimals=2, minimum=0),
    Number(name="b", decimals=2, minimum=0, maximum=7),
    Number(name="total", decimals=2, minimum=0),
    Number(name="capped", maximum=7),
    Integer(name="small", maximum=2),
    Category(name="city"),
    Category(name="state"),
    Integer(name="code"),
    Text(name="note"),
    Boolean(name="y"),
)


def schema(*constraints: dict[str, Any], target: str | None = "y") -> Schema:
    return Schema(kind="tabular", fields=FIELDS, constraints=constraints, target=target)


def less(low: str, high: str, **more: Any) -> dict[str, Any]:
    return {"type": "inequality", "low": low, "high": high, **more}


def adds(total: str, *parts: str) -> dict[str, Any]:
    return {"type": "sum", "total": total, "parts": list(parts)}


def tied(*columns: str) -> dict[str, Any]:
    return {"type": "combinations", "columns": list(columns)}


def one(*columns: str) -> dict[str, Any]:
    return {"type": "one_to_one", "columns": list(columns)}


def decides(target: str, *columns: str) -> dict[str, Any]:
    return {"type": "determines", "columns": list(columns), "target": target}


GOOD = [
    [less("start", "end"), less("low", "high", strict=True), adds("total", "a", "b")],
    [tied("city", "state"), decides("code", "city")],
    [one("city", "code"), one("state", "code")],
    [one("y", "city"), decides("code", "y")],
    [decides("code", "city", "state")],
    [tied("city", "code"), one("city", "state")],
    [less("high", "low")],
]
BAD = [
    ([less("star", "end")], r"constraints\[0\].low: 'star' is not a field; did you mean 'start'"),
    ([less("start", "start")], r"constraints\[0\].low: 'start' is named twice"),
    ([less("start", "city")], r"constraints\[0\].high: 'city' is of kind category; inequality compares"),
    ([less("start", "low")], r"constraints\[0\]: 'start' is date32.*same kind"),
    ([less("seen", "left")], r"timestamp\[s\].*timestamp\[us\].*unit and zone"),
    ([adds("total", "a", "start")], r"constraints\[0\].parts\[1\]: 'start' is of kind date; sum compares"),
    ([tied("city", "note")], r"constraints\[0\].columns\[1\]: 'note' is of kind text"),
    ([less("start", "end"), less("end", "start")], r"constraints\[1\]: a circle: .*remove one of"),
    ([decides("code", "city"), decides("city", "code")], r"a circle: .*constraints\[0\], constraints\[1\]"),
    ([decides("code", "city"), one("code", "city")], r"'code' is made by constraints\[0\] already"),
    ([adds("total", "a", "b"), less("a", "total")], r"constraints\[1\]: 'total' is made by constraints\[0\]"),
    ([tied("city", "state"), tied("state", "code")], r"'state' is made by constraints\[0\] already"),
    ([decides("city", "code"), tied("city", "state")], r"'city' is made by constraints\[1\] already"),
    ([less("low", "small")], r"constraints\[0\]: low <= small leaves no value for 'low': from 5 to 2"),
    ([adds("capped", "a", "b")], r"constraints\[0\].total: 'capped' has the maximum 7.0.*give every part"),
    ([adds("total", "a", "b"), less("total", "capped")], r"'total' has the maximum 7.0.*whatever limits it"),
    ([adds("total", "a", "code")], r"'total' has the minimum 0.0, which its parts may break"),
    ([decides("y", "city")], r"constraints\[0\]: 'y' is the target.*exchange the sides"),
    ([tied("city", "y")], r"constraints\[0\].columns\[1\]: 'y' is the target.*leave it out"),
    ([less("low", "code"), one("code", "city")], r"\[1\].columns\[0\]: 'code' is in constraints\[0\]"),
]  # fmt: skip


@pytest.mark.parametrize("constraints", GOOD)
def test_what_can_be_kept_is_accepted_and_written_down(constraints: list[Any], tmp_path: Path) -> None:
    made = schema(*constraints)
    assert Schema.model_validate_json(made.model_dump_json()) == made
    assert Schema.from_arrow(made.arrow()) == made
    (tmp_path / "s.yaml").write_text(schema_to_yaml(made))
    assert schema_from_yaml(str(tmp_path / "s.yaml")) == made


@pytest.mark.parametrize(("constraints", "message"), BAD)
def test_what_cannot_be_kept_is_refused(constraints: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        schema(*constraints)


def test_other_kinds_of_data_have_no_constraints() -> None:
    fields = (Series(name="s", length=4), Category(name="a"), Category(name="b"))
    with pytest.raises(ValidationError, match="columns of a table, this is series"):
        Schema(kind="series", fields=fields, constraints=(tied("a", "b"),))


def test_a_schema_without_constraints_is_written_as_before() -> None:
    assert "constraints" not in schema().model_dump_json() and "constraints" not in schema().model_dump()


HEAD = "kind: tabular\nfields:\n  - {name: a, kind: integer}\n  - {name: b, kind: integer}\nconstraints:\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{type: inequality, low: a, high: b}", "{type: inequality, low: b, high: a}"], r"line 7: .*circle"),
        (["{type: range, column: a, minimum: 3}"], r"line 6: .*unknown type 'range'.*minimum and maximum"),
        (["{type: inequalty, low: a, high: b}"], r"line 6: .*did you mean 'inequality'"),
        (["{type: inequality, low: a}"], r"line 6: constraints\[0\].high: Field required"),
        (["{type: sum, total: a, parts: []}"], r"line 6: constraints\[0\].parts: .*at least 1"),
        (["{type: inequality, low: a, high: b, strickt: true}"], r"line 6: .*strickt: this key is not known"),
    ],
)  # fmt: skip
def test_problems_name_their_line_in_the_schema_file(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(HEAD + "".join(f"  - {line}\n" for line in lines))
    with pytest.raises(SpecError, match=message):
        schema_from_yaml(str(path))


def test_ingest_refuses_before_it_reads(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "not,read\n" * 30)
    (tmp_path / "s.yaml").write_text(
        HEAD.replace("integer", "category") + "  - {type: combinations, columns: [a, b]}\n"
    )
    with pytest.raises(UsageError, match=r"constraints\[0\].columns\[1\]: 'b' is the target"):
        ingest(str(tmp_path / "t.csv"), schema=str(tmp_path / "s.yaml"), target="b")
