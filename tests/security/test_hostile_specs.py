"""Specs, recipes, schema files and patterns of strangers: refused with a code, at the cost of their bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.targets import PATTERNS, SCHEMA, SPEC, TABLES, TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genpipe.cli.output import recipe_of
from genpipe.errors import DataError, SpecError, UsageError
from genpipe.fields import Category, Identifier, Number
from genpipe.pattern import Language
from genpipe.pipeline import load_spec
from genpipe.schema import Schema
from genpipe.sources.schema_file import schema_from_yaml, schema_to_yaml
from genpipe.verbs import validate
from genpipe.yaml_file import MOST_BYTES, MOST_PROBLEMS, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
NESTED_MERGE = "b: &b {x: 1}\nc: {<<: *b}\n"


@pytest.fixture
def seconds() -> Iterator[None]:
    """The processor time of a test stays within what the slowest machine needs for bytes so few."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 10


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "given.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


READERS = {"spec": validate, "schema": schema_from_yaml, "recipe": recipe_of}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LAUGHS + "kind: tabular\nfields: *i\n", "an alias"),
        (LAUGHS, "an anchor"),
        (NESTED_MERGE, "a merge key"),
        ("a: !!python/object/apply:os.system [x]\n", "tag .*python"),
        ("a: !!str 1\n", "tag"),
        ("%YAML 1.1\n---\na: yes\n", "a directive"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        ("a: 1\na: 2\n", "key given twice, first in line 1"),
        ("? [1, 2]\n: 3\n", "a key that is no plain text"),
        ("[" * 900_000, "very deep nesting"),
        ("{a: " * 200_000, "very deep nesting"),
        ("".join(" " * i + "a:\n" for i in range(1200)), "very deep nesting"),
        ("a: " + "9" * 900_000, "a whole number of too many digits"),
        ("a: 0x" + "f" * 900_000, "a whole number of too many digits"),
        ("a: \x00\n", "not YAML"),
        (b"a: \xff\n", "not YAML"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_every_reader_of_yaml_refuses_bombs(
    reader: str, text: str, found: str, tmp_path: Path, seconds: None
) -> None:
    with pytest.raises(SpecError, match=rf"(?s){found}"):
        READERS[reader](write(tmp_path, text))


def test_a_flat_spec_of_a_megabyte(tmp_path: Path, seconds: None) -> None:
    text = SPEC.decode() + "".join(f"k{i}: {i}\n" for i in range(68_000))
    with pytest.raises(SpecError, match=r"line \d+: k\d+: a file too long; expected at most 10000 values"):
        validate(write(tmp_path, text))


def test_many_problems_are_counted_and_the_first_listed(tmp_path: Path, seconds: None) -> None:
    lines = "".join(f"k{i}: {i}\n" for i in range(1_500))
    with pytest.raises(SpecError) as caught:
        validate(write(tmp_path, f"name: a\nsource: {{path: {__file__}}}\n{lines}"))
    assert len(caught.value.problems) == MOST_PROBLEMS
    assert caught.value.problems[0].startswith("line 2: source.path")
    assert caught.value.problems[1].startswith("line 3: k0: unknown key")
    assert caught.value.problems[-1] == "... and 1,402 more"
    fields = "".join(f"- {{name: c{i}, kind: numbr}}\n" for i in range(500))
    with pytest.raises(SpecError) as caught:
        schema_from_yaml(write(tmp_path, f"kind: tabular\nfields:\n{fields}"))
    assert caught.value.problems[1].startswith("line 4: fields[1]: unknown kind 'numbr'")
    assert len(caught.value.problems) == MOST_PROBLEMS


@pytest.mark.parametrize(
    "asked",
    [
        "search: {vary: {steps: [" + ",".join(map(str, range(4_000))) + "]}}\n",
        "search: {recipes: [" + ",".join(f"k{i}" for i in range(4_000)) + "]}\n",
        "search: {vary: {" + ",".join(f"k{i}: [1]" for i in range(1_000)) + "}}\n",
        "recipe: " + "x" * 900_000 + "\n",
        "recipe: {" + ",".join(f"k{i}: 1" for i in range(1_500)) + "}\n",
        "train: {workers: " + "w" * 900_000 + "}\n",
    ],
    ids=lambda text: text[:16],
)
def test_long_lists_and_words_get_short_answers(asked: str, tmp_path: Path, seconds: None) -> None:
    data = tmp_path / "people.csv"
    data.write_text("a,b\n1,2\n")
    with pytest.raises(SpecError) as caught:
        validate(write(tmp_path, f"name: a\nsource: {{path: {data}}}\n{asked}"))
    assert len(str(caught.value)) < 100_000


def test_a_schema_of_many_columns_is_read_in_linear_time(tmp_path: Path, seconds: None) -> None:
    wide = Schema(kind="tabular", fields=tuple(Number(name=f"c{i}", decimals=2) for i in range(400)))
    assert schema_from_yaml(write(tmp_path, schema_to_yaml(wide))) == wide
    same = "kind: tabular\nfields:\n" + "- {name: c, kind: number}\n" * 2_000
    with pytest.raises(SpecError, match="field names must differ, got twice: c"):
        schema_from_yaml(write(tmp_path, same))


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("{name: a, kind: number, decimals: 400}", "less than or equal to 100"),
        ("{name: a, kind: number, minimum: .nan}", "finite"),
        ("{name: a, kind: number, maximum: .inf}", "finite"),
        ("{name: a, kind: integer, maximum: 9223372036854775808}", "less than"),
        ("{name: a, kind: audio, rate: 8000, frames: -5}", "greater than or equal to 1"),
        ("{name: a, kind: audio, rate: 0, frames: 5}", "greater than or equal to 1"),
        (
            "{name: a, kind: image, height: 1000000, width: 1000000, channels: 3}",
            "less than or equal to 65536",
        ),
        ("{name: a, kind: series, length: 0}", "greater than or equal to 1"),
    ],
)
def test_numbers_no_data_has(field: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"line 3: .*{found}"):
        schema_from_yaml(write(tmp_path, f"kind: tabular\nfields:\n- {field}\n"))


@pytest.mark.parametrize("read", [load_spec, schema_from_yaml])
def test_what_is_no_regular_file_is_not_read(read: object, tmp_path: Path, seconds: None) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "zero", "sparse", "x" * 5_000, "nul\0"):
        with pytest.raises((UsageError, DataError)):
            read(str(tmp_path / name))  # type: ignore[operator]


@pytest.mark.parametrize(
    "path", ["s3://KEY:SECRET@bucket/x", "a\0b", "x" * 5_000, "http://x/y", "[]", "{}", "1", "''"]
)
def test_places_that_are_none(path: str, tmp_path: Path) -> None:
    quoted = path if path in ("[]", "{}", "1", "''") else f'"{path}"'.replace("\0", "\\0")
    for text in (
        f"name: a\nsource: {{path: {quoted}}}\n",
        f"name: a\nsource: {{path: x, schema: {quoted}}}\n",
    ):
        with pytest.raises(SpecError, match="line 2: source"):
            validate(write(tmp_path, text))


@pytest.mark.parametrize("fields", ["5", "a", "{a: 1}", "[1, [2]]", "~", "[{kind: [1]}]", "[{kind: {a: 1}}]"])
def test_fields_that_are_none(fields: str, tmp_path: Path) -> None:
    for rest in ("", "constraints: [1]\n", "constraints: 5\n", "constraints: [{type: {}}]\nkey: {}\n"):
        with pytest.raises(SpecError, match="line 2: fields"):
            schema_from_yaml(write(tmp_path, f"kind: tabular\nfields: {fields}\n{rest}"))


def test_limits_that_overflow(tmp_path: Path) -> None:
    fields = "".join(f"- {{name: {n}, kind: number, decimals: 100, maximum: 1.0e+300}}\n" for n in "ab")
    rule = "constraints:\n- {type: inequality, low: a, high: b, strict: true}\n"
    with pytest.raises(SpecError, match="a limit of too many digits"):
        schema_from_yaml(write(tmp_path, f"kind: tabular\nfields:\n{fields}{rule}"))


HOSTILE = [
    "((((){5000}){5000}){5000}){5000}", "(.?){600}", "((a{0}){5000}){5000}",
    "((a?){70}){70}", "(a|b){0,40}a(a|b){14}", "([a-z]?[b-z]?[c-z]?){60}", "(" * 3_000 + ")" * 3_000,
    "((((((((((){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}", "a{99999999999999999999}", "x" * 20_000,
    r"[\x00-\U0010ffff]{3}", r"\ud800", r"[\ud000-\ue000]", "\udc80", "a++", "(?>a)", "(a*)*b", r"(a)\1",
    "(?<=a)b", "(a)(?(1)b|c)", "{,}", "a{,}", "a{5,2}", "[]", "(?P<n>", r"\N{x}", "(a{0,5000}){0,5000}",
]  # fmt: skip


@pytest.mark.parametrize("pattern", HOSTILE, ids=lambda p: ascii(p[:24]))
def test_patterns_that_ask_for_too_much(pattern: str, seconds: None) -> None:
    with pytest.raises(ValueError) as caught:
        Language(pattern)
    assert len(str(caught.value)) < 400


def test_patterns_of_groups_without_characters_are_still_patterns() -> None:
    for pattern, size in (("(){1000}", 1), ("(|a?){3}", 4), ("(.?){30}", sum(95**n for n in range(31)))):
        assert Language(pattern).size == size


def test_a_schema_of_many_costly_patterns(tmp_path: Path, seconds: None) -> None:
    fields = "".join(f"- {{name: c{i}, kind: identifier, pattern: '.{{4800}}{i}'}}\n" for i in range(500))
    with pytest.raises(SpecError, match="500 different patterns; at most 64"):
        schema_from_yaml(write(tmp_path, f"kind: tabular\nfields:\n{fields}"))


def altered(wholes: list[bytes]) -> st.SearchStrategy[bytes]:
    """Whole examples with pieces cut, repeated or exchanged for others."""
    marks = b"&a |*a|!x |<<|{|[|: |\n|- |'|99999999999999999999|?|{5000}|(|\xff".split(b"|")
    piece = st.sampled_from(marks)
    cuts = st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 40), piece | st.binary(max_size=6)), max_size=4
    )

    def change(whole: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
        for at, length, new in cuts:
            at %= len(whole) + 1
            whole = whole[:at] + new + whole[at + length :]
        return whole

    return st.builds(change, st.sampled_from(wholes), cuts)


FAST = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@FAST
@given(altered([SPEC, TABLES]) | st.binary(max_size=200))
def test_any_spec_is_a_spec_or_an_error(data: bytes) -> None:
    TARGETS["spec"][0](data)


@FAST
@given(altered([SCHEMA]) | st.binary(max_size=200))
def test_any_schema_file_is_a_schema_or_an_error(data: bytes) -> None:
    TARGETS["schema"][0](data)


@FAST
@given(altered(PATTERNS) | st.text(r"ab(){}[]|?.^$,019\wd-é", max_size=20).map(str.encode))
def test_any_pattern_is_a_language_or_an_error(data: bytes) -> None:
    TARGETS["pattern"][0](data)


@settings(FAST, max_examples=20)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_is_yaml(value: object) -> None:
    """A recipe may be a JSON file: the same values, whatever is in them."""
    import json

    raw = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        assert read_yaml(raw, "x")[0] == value
    except SpecError as error:  # characters that YAML does not allow
        assert "not YAML" in str(error) and not json.dumps(value, ensure_ascii=False).isprintable()


@settings(FAST, max_examples=20)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4, unique=True
    )
)
def test_names_and_values_survive_the_schema_file(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    made = Schema(
        kind="tabular",
        fields=(
            Category(name=words[0], values=tuple(words)),
            *(Identifier(name=w, reason=w) for w in words[1:]),
        ),
    )
    path = write(tmp_path_factory.getbasetemp(), schema_to_yaml(made))
    assert schema_from_yaml(path) == made


def test_bytes_are_counted_before_anything_is_parsed() -> None:
    with pytest.raises(SpecError, match="more than 1000000 bytes"):
        read_yaml(b"#" * (MOST_BYTES + 1), "spec")
