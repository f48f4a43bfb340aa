"""Spec files: what is accepted, and what every kind of mistake is answered with, with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from genpipe.errors import SpecError, UsageError
from genpipe.pipeline import PipelineSpec, load_spec
from genpipe.verbs import validate

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("*.yaml"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.csv").write_text("age,sex\n1,f\n2,m\n")
    return tmp_path


def problems(text: str | bytes, *, folder: Path) -> list[str]:
    file = folder / "spec.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError, match="problem") as caught:
        validate(file)
    return list(caught.value.problems)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_the_examples_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent.parent)
    assert validate(path).generate is not None


def test_there_are_examples_of_three_kinds() -> None:
    assert {p.stem for p in EXAMPLES} >= {"digits", "people", "text"}


def test_defaults_and_values(here: Path) -> None:
    (here / "spec.yaml").write_text(
        "name: people\nsource: {path: people.csv, key: [age]}\ngenerate: {rows: 1_000}\n"
    )
    spec = load_spec(here / "spec.yaml")
    assert (spec.source.key, spec.source.holdout, spec.train.workers) == (("age",), 0.2, None)
    assert spec.generate is not None and spec.generate.rows == 1000
    assert load_spec(spec) == spec
    assert load_spec({"name": "people", "source": {"path": "people.csv"}}).recipe is None
    reading = {"path": "people.csv", "on_bad_file": "skip", "max_bad": 0.5, "min_rows": 2, "workers": 0}
    assert load_spec({"name": "people", "source": reading}).source.min_rows == 2
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]


def test_all_problems_at_once_in_the_order_of_the_file(here: Path) -> None:
    text = """\
name: My People
sorce: x
source:
  path: peeple.csv
  holdout: 1.5
recipe:
  base: tabular_gan
train:
  workers: "2"
  seed: -1
generate:
  rows: 1.5
  output: http://x/y
"""
    found = problems(text, folder=here)
    expected = [
        "line 1: name: found 'My People'; expected small letters, digits",
        "line 2: sorce: unknown key; expected one of name, source",
        "line 4: source.path: peeple.csv: no such file or folder; did you mean 'people.csv'?",
        "line 5: source.holdout: found 1.5; expected less than 1",
        "line 9: train.workers: found '2'; expected a whole number",
        "line 10: train.seed: found -1; expected greater than or equal to 0",
        "line 12: generate.rows: found 1.5; expected a whole number",
        "line 13: generate.output: found 'http://x/y'; expected a local path or s3://bucket/prefix",
    ]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)
    assert "for example 'my-people'" in found[0] and "did you mean 'source'?" in found[1]


HEAD = "name: people\nsource: {path: people.csv, kind: tabular}\n"


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ("recipe: tabular_gna\n", "line 3: recipe: unknown recipe 'tabular_gna'.*did you mean 'tabular_gan'"),
        ("recipe: image_gan\n", "line 3: recipe: unknown recipe for tabular data 'image_gan'"),
        (
            "recipe:\n  training: {stepps: 3}\n",
            "line 4: recipe.training.stepps: unknown key.*did you mean 'steps'",
        ),
        (
            "recipe:\n  training:\n    learning_rate: -1\n",
            "line 5: recipe.training.learning_rate: -1; expected greater than 0",
        ),
        (
            "recipe: {base: tabular_gan, family: {adversarial: hing}}\n",
            "line 3: recipe.family.adversarial: 'hing'.*did you mean 'hinge'",
        ),
        ("recipe: {base: tabular_gan, layout: grid}\n", "line 3: recipe.layout: layout 'grid'"),
        ("recipe: tabular_gan\nsearch: {trials: 2}\n", "line 4: search: found both 'recipe' and 'search'"),
        ("search: {recipes: [tabular_gan, gru]}\n", "line 3: search.recipes: unknown tabular recipe 'gru'"),
        (
            "search:\n  vary: {adversarail: [hinge]}\n",
            "line 4: search.vary.adversarail: unknown parameter.*did you mean",
        ),
        ("search:\n  trials: 0\n", "line 4: search.trials: found 0; expected greater than or equal to 1"),
        ("search: {minutes: .nan}\n", "line 3: search.minutes: found nan; expected"),
        ("train: {minutes: .inf}\n", "line 3: train.minutes: found inf; expected"),
        (
            "train: {seed: 9223372036854775808}\n",
            "line 3: train.seed: found 9223372036854775808; expected at most",
        ),
        ("train: {workers: true}\n", "line 3: train.workers: found True; expected a whole number"),
        (
            "gate: {promote: if_better}\n",
            "line 3: gate.promote: unknown key; expected one of",
        ),
        ("gate: {fidelity: 60%}\n", "line 3: gate.fidelity: found '60%'; expected a number"),
        ("generate: {}\n", "line 3: generate.rows: missing"),
        ("unchecked: true\n", "line 3: unchecked: found True; expected a "),
        ("unchecked: why\n", "line 3: unchecked: found 'why'; expected a reason, of 8 to 500 characters"),
        ("real_examples: 1\n", "line 3: real_examples: found 1; expected"),
        (
            "allow: [likelihod]\n",
            "line 3: allow.0: found 'likelihod'; expected one of .*did you mean 'likelihood'",
        ),
        (
            "generate: {rows: 5, output: 's3://key:word@b/p'}\n",
            "line 3: generate.output: found a key or password in the URI",
        ),
        (
            "generate: {rows: 5, conditions: [a]}\n",
            "line 3: generate.conditions: found a list; expected a mapping",
        ),
    ],
)
def test_each_mistake_is_named(here: Path, rest: str, line: str) -> None:
    found = problems(HEAD + rest, folder=here)
    assert len(found) == 1, found
    assert re.search(line, found[0]), found[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "found nothing; expected a mapping"),
        ("- a\n", "found a list; expected a mapping"),
        ("name: a\nname: b\n", "line 2: name: key given twice, first in line 1"),
        ("name: a\n\tsource: x\n", "line 2: not YAML: found character"),
        ("name: [a\n", "not YAML"),
        ("a: &x [1, 1]\n", "line 1: a: an anchor; expected plain values"),
        ("a: 1\nb: [*x, *x]\n", "line 2: b.0: an alias; expected plain values"),
        ("name: !!python/object/apply:os.system [x]\n", "line 1: name: tag .*python"),
        ("name: !env HOME\n", "line 1: name: tag !env"),
        (b"name: \xff\xfe\n", "not YAML: .*utf-8"),
        ("x" * 1_000_001, "more than 1000000 bytes; expected at most that many"),
        ("a: " + "[" * 60 + "]" * 60, "very deep nesting"),
    ],
)
def test_broken_files(here: Path, text: str | bytes, line: str) -> None:
    assert re.search(line, problems(text, folder=here)[0])


@pytest.mark.parametrize(
    "name", ["", " ", "a" * 64, "../x", "a/b", "a:b", ".", "-x", "=cmd()", "a\nb", "É", "latest", "CON"]
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="name: found"):
        load_spec({"name": name, "source": {"path": "people.csv"}})


def test_a_pattern_for_every_file_of_the_machine_is_not_walked() -> None:
    with pytest.raises(
        SpecError, match=r"/\*\*: a pattern for every file of this machine; begin it with the folder"
    ):
        load_spec({"name": "a", "source": {"path": "/**"}})


def test_a_missing_file_suggests_its_neighbour(here: Path) -> None:
    (here / "people.yaml").write_text("name: x")
    with pytest.raises(UsageError, match=r"no such file; expected a YAML spec; did you mean 'people.yaml'\?"):
        load_spec(here / "peple.yaml")


def test_the_json_schema_knows_every_key() -> None:
    schema = PipelineSpec.model_json_schema(by_alias=True)
    keys = {"name", "source", "recipe", "search", "train", "gate", "generate"}
    assert set(schema["properties"]) == keys | {"real_examples", "unchecked", "allow", "retention"}
    assert "schema" in schema["$defs"]["SourceSpec"]["properties"]


def test_columns_that_no_file_has_are_named(here: Path) -> None:
    Path("visits.csv").write_text("who,Diagnosis,day\n" + "1,flu,2\n" * 30)
    spec = {"name": "v", "source": {"path": "visits.csv", "target": "diagnosis", "key": ["who", "nr"]}}
    with pytest.raises(SpecError) as failed:
        validate(spec)
    told = str(failed.value)
    assert "source.target: found 'diagnosis', which is no column" in told and "'Diagnosis'?" in told
    assert "source.key: found 'nr', which is no column; expected one of who, Diagnosis, day" in told
    tables = {
        "people": {"source": "visits.csv", "key": "who"},
        "visits": {"source": "visits.csv", "parent": "people", "foreign_key": "whom", "order_by": "day"},
    }
    with pytest.raises(SpecError, match=r"tables.visits.foreign_key: found 'whom'.*did you mean 'who'"):
        validate({"name": "v", "tables": tables})
    tables["visits"]["foreign_key"] = "who"
    validate({"name": "v", "tables": tables})


def test_a_source_may_be_its_place_alone(here: Path) -> None:
    (here / "people.csv").write_text("age,city\n" + "".join(f"{20 + i},Rome\n" for i in range(30)))
    (here / "short.yaml").write_text("name: people\nsource: people.csv\n")
    assert load_spec(here / "short.yaml").source.path == "people.csv"
    assert load_spec({"name": "people", "source": "people.csv"}).source.path == "people.csv"
    with pytest.raises(SpecError, match=r"generate: found 100; expected keys of its own: .*rows") as caught:
        load_spec({"name": "people", "source": "people.csv", "generate": 100, "retention": {"keep": 0}})
    assert "retention.keep: found 0; expected" in str(caught.value)
