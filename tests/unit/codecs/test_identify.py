"""Made-up identifiers: legal, unique over every cut of the rows, the same whoever makes them, and enough."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from genpipe.codecs.base import fit
from genpipe.codecs.identify import permute
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.errors import SpecError, UsageError
from genpipe.fields import AnyField, Identifier, Integer, Text
from genpipe.schema import Schema
from genpipe.sources.schema_file import schema_from_yaml, schema_to_yaml

PLATE = r"[A-Z]{2}-\d{3}"
FIELDS: tuple[AnyField, ...] = (
    Identifier(name="plate", pattern=PLATE),
    Identifier(name="number", storage="integer", minimum=1000, nullable=True),
    Text(name="code", pattern="(SKU|sku)-[0-9a-f]{20}"),
    Text(name="note"),
    Integer(name="n"),
)


def codec_of(fields: tuple[AnyField, ...] = FIELDS, rows: int = 40) -> tuple[TabularCodec, pa.RecordBatch]:
    schema = Schema(kind="tabular", fields=fields)
    values = {
        "plate": pa.array([f"REAL-{i}" for i in range(rows)]),
        "number": pa.array(range(rows), mask=np.arange(rows) % 2 == 0),
        "code": pa.array(["x"] * rows),
        "note": pa.array(["y"] * rows),
        "n": pa.array([i % 3 for i in range(rows)]),
    }
    batch = pa.RecordBatch.from_arrays([values[f.name] for f in fields], schema=schema.arrow())
    codec = fit(TabularCodec, schema, [batch])
    assert isinstance(codec, TabularCodec)
    return codec, batch


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 97, 128, 1000, 4097, 10**5])
def test_a_permutation_meets_every_number_once(size: int) -> None:
    for seed in (0, 1):
        assert np.array_equal(np.sort(permute(np.arange(size), size, seed)), np.arange(size))
    if size > 100:
        one, two = permute(np.arange(size), size, 0), permute(np.arange(size), size, 1)
        assert (one == two).mean() < 0.1 and abs(np.corrcoef(one, np.arange(size))[0, 1]) < 0.2
    large = permute(np.arange(5000), 2**62 - 57, 0)
    assert len(set(large.tolist())) == 5000 and large.min() >= 0 and large.max() < 2**62 - 57


def test_identifiers_are_unique_however_the_rows_are_cut() -> None:
    codec, batch = codec_of()
    arrays = codec.encode(batch, "tokens")
    blocks = [codec.decode(arrays, "tokens", np.random.default_rng(s)) for s in range(50)]
    made = [codec.identify(b, 40 * i, 7) for i, b in enumerate(blocks)]
    whole = codec.identify(pa.Table.from_batches(blocks).combine_chunks().to_batches()[0], 0, 7)
    assert pa.Table.from_batches(made).combine_chunks().to_batches()[0].equals(whole)
    for name, pattern in (("plate", PLATE), ("code", "(SKU|sku)-[0-9a-f]{20}")):
        values = whole.column(name).to_pylist()
        assert len(set(values)) == len(values) == 2000
        assert all(re.fullmatch(pattern, v) for v in values)
    numbers = whole.column("number")
    assert 800 < numbers.null_count < 1200  # missing as often as in the data, the others count the rows
    assert all(v is None or v == 1000 + i for i, v in enumerate(numbers.to_pylist()))
    assert whole.column("note").equals(pa.concat_arrays([b.column("note") for b in blocks]))
    assert not codec.identify(blocks[0], 0, 8).column("plate").equals(made[0].column("plate"))
    assert codec.identify(blocks[0].slice(3, 5), 3, 7).equals(made[0].slice(3, 5))


def test_without_a_place_in_a_stream_values_are_still_legal() -> None:
    codec, batch = codec_of((Text(name="code", pattern="[ab]{5}"), FIELDS[-1]))
    back = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    assert all(re.fullmatch("[ab]{5}", v) for v in back.column("code").to_pylist())
    assert len(set(back.column("code").to_pylist())) == 32  # all there are


def test_a_pattern_that_is_too_small_is_refused_with_both_numbers() -> None:
    codec, batch = codec_of((Identifier(name="plate", pattern="[A-Z]{2}"), FIELDS[-1]))
    codec.check_rows(676)
    with pytest.raises(UsageError, match=r"plate: 677 rows, but \[A-Z\]\{2\} has only 676 diff"):
        codec.check_rows(677)
    with pytest.raises(UsageError, match="plate: 677 rows"):
        codec.identify(batch, 637, 0)
    assert len(set(codec.identify(batch, 636, 0).column("plate").to_pylist())) == 40
    number = Identifier(name="number", storage="integer", minimum=2**63 - 10)
    with pytest.raises(UsageError, match="11 rows, but minimum has only 10 different values"):
        codec_of((number.model_copy(update={"nullable": True}), FIELDS[-1]))[0].check_rows(11)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: a, kind: identifier, pattern: 'a+'}", r"line 3: fields\[0\]: pattern 'a\+' has a repeat"),
        ("{name: a, kind: text, pattern: '('}", r"line 3: fields\[0\]: '\(' is no regular expression"),
        ("{name: a, kind: identifier, storage: integer, pattern: a}", "whole numbers take minimum"),
        ("{name: a, kind: identifier, minimum: 5}", "minimum is for identifiers of storage: integer"),
        ("{name: a, kind: identifier, storage: integer, minimum: 9223372036854775808}", "less than"),
        ("{name: a, kind: category, pattern: a}", "this key is not known here"),
    ],
)  # fmt: skip
def test_schema_files_that_ask_for_the_impossible(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(f"kind: tabular\nfields:\n- {text}\n")
    with pytest.raises(SpecError, match=message):
        schema_from_yaml(str(path))


def test_a_schema_file_keeps_patterns(tmp_path: Path) -> None:
    schema = Schema(kind="tabular", fields=FIELDS)
    (tmp_path / "schema.yaml").write_text(schema_to_yaml(schema))
    assert schema_from_yaml(str(tmp_path / "schema.yaml")) == schema


def test_text_that_is_learnt_takes_no_pattern() -> None:
    with pytest.raises(ValidationError, match="text 'code' is learnt here, so it takes no pattern"):
        Schema(kind="text", fields=(FIELDS[2],))
