"""What a stranger may send us, as functions of bytes: each reads them as the product does.

A GenpipeError is an answer; any other exception is a finding. The fast tests call these with what Hypothesis
draws, `run.py` with what a coverage-guided fuzzer finds.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow

from genpipe.dataset import Dataset
from genpipe.errors import GenpipeError, SpecError
from genpipe.fields import BLOB, Audio
from genpipe.media.png import read_pngs
from genpipe.media.wav import read_clips
from genpipe.pattern import language
from genpipe.pipeline.reading import check_spec
from genpipe.recipe import Recipe
from genpipe.related.spec import check_tables
from genpipe.schema import Schema
from genpipe.sources import open_source
from genpipe.sources.base import Reject
from genpipe.sources.schema_file import schema_from_yaml
from genpipe.yaml_file import read_yaml

FOLDER = Path(tempfile.mkdtemp(prefix="genpipe-fuzz-"))
TABLE = b"a,b,c\n" + b"".join(b"%d,%d.5,x%d\n" % (i, i, i % 3) for i in range(30))
PEOPLE = FOLDER / "people.csv"
PEOPLE.write_bytes(TABLE)


def ingest(kind: str, name: str, data: bytes, **options: object) -> None:
    """Both passes of ingest over one file."""
    path = FOLDER / name
    path.write_bytes(data)
    try:
        source = open_source(str(path), kind=kind, options={"memory": 96 * 2**20, **options})
        for unit in range(len(source.units)):
            stats, rejects = source.observe(unit), list[Reject]()
            if stats.rejects:
                return
            schema = source.schema(stats, target=None, key=())
            for rows in source.read(unit, schema, skip=frozenset(), rejects=rejects):
                assert rows.batch.schema.equals(schema.arrow())
    except GenpipeError:
        pass
    finally:
        path.unlink()


def spec(data: bytes) -> None:
    try:
        found, lines = read_yaml(data, "spec")
        if not isinstance(found, dict):
            return
        for part in (found.get("source"), *_mappings(found.get("tables"))):
            if isinstance(part, dict):  # nobody's disk or network is searched by a fuzzer
                part["path" if part is found.get("source") else "source"] = str(PEOPLE)
        if isinstance(found.get("source"), str):
            found["source"] = {"path": str(PEOPLE)}
        (check_tables if "tables" in found else check_spec)(found, lines, "spec")
    except GenpipeError as error:
        assert not isinstance(error, SpecError) or len(error.problems) <= 101


def _mappings(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else []


def schema(data: bytes) -> None:
    path = FOLDER / "schema.yaml"
    path.write_bytes(data)
    with contextlib.suppress(GenpipeError):
        schema_from_yaml(str(path))


def pattern(data: bytes) -> None:
    try:
        strings = language(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return
    for number in {0, strings.size // 2, strings.size - 1}:
        strings[number].encode()


def image(data: bytes) -> None:
    ingest("image", "a.png", data, max_pixels=2**16)


def idx(data: bytes) -> None:
    (FOLDER / "t-labels-idx1-ubyte").write_bytes(IDX_LABELS)
    ingest("image", "t-images-idx3-ubyte", data)


def pixels(data: bytes) -> None:
    with contextlib.suppress(GenpipeError):
        read_pngs([data], height=4, width=3, channels=1)


def waves(data: bytes) -> None:
    with contextlib.suppress(GenpipeError):
        read_clips(pa.array([{"bytes": data, "path": None}], BLOB), Audio(name="a", rate=8000, frames=64))


def manifest(data: bytes) -> None:
    folder = FOLDER / "dataset"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(data)
    try:
        dataset = Dataset(str(folder))
        dataset.schema, dataset.rows("train"), dataset.parts
    except GenpipeError:
        pass


def recipe(data: bytes) -> None:
    with contextlib.suppress(ValueError, GenpipeError):
        Recipe.model_validate_json(data)


def stored_schema(data: bytes) -> None:
    with contextlib.suppress(ValueError, GenpipeError):
        Schema.model_validate_json(data)


def _wav() -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(np.arange(64, dtype="<i2").tobytes())
    return sink.getvalue()


def _picture(format: str) -> bytes:
    sink = io.BytesIO()
    Pillow.fromarray(np.arange(12, dtype=np.uint8).reshape(4, 3)).save(sink, format)
    return sink.getvalue()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(30)), "b": [f"x{i % 3}" for i in range(30)]}), sink)
    return sink.getvalue()


IDX_LABELS = struct.pack(">II", 0x801, 3) + bytes(3)
IDX = struct.pack(">IIII", 0x803, 3, 4, 5) + bytes(60)
SPEC = b"""name: people
source: {path: people.csv, target: c, holdout: 0.2, options: {delimiter: ','}}
search: {recipes: [tabular_gan], vary: {adversarial: [hinge], learning_rate: {low: 0.1, high: 1, log: true}}}
train: {workers: 0, seed: 1}
gate: {fidelity: 0.5}
generate: {rows: 10, conditions: {c: x1}}
"""
TABLES = b"""name: shop
tables:
  a: {source: a.csv, key: id}
  b: {source: b.csv, key: [x, id], parent: a, foreign_key: x, references: {y: a}, order_by: z}
gate: {relative: 0.8}
"""
SCHEMA = b"""kind: tabular
target: c
key: [i]
fields:
- {name: i, kind: identifier, pattern: '[A-Z]{3}-\\d{6}'}
- {name: a, kind: number, decimals: 2, minimum: 0.5}
- {name: b, kind: integer, maximum: 9}
- {name: c, kind: category, values: ['x', 'y']}
- {name: t, kind: timestamp, unit: ms}
constraints:
- {type: inequality, low: b, high: a}
"""
JSONL = b"".join(b'{"a": %d, "b": "x%d", "c": null}\n' % (i, i % 3) for i in range(30))
PATTERNS = [b"[A-Z]{3}-\\d{6}", b"(a|b(c|){2})?", b"((a?){3}){0,2}", b"[^\\W\\d]{1,4}$", "é{2}".encode()]

Target = Callable[[bytes], None]
# name -> what reads the bytes, and whole examples to begin with
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "spec": (spec, [SPEC, TABLES]),
    "schema": (schema, [SCHEMA]),
    "pattern": (pattern, PATTERNS),
    "wav": (lambda data: ingest("audio", "7_a_1.wav", data, label="none"), [_wav()]),
    "waves": (waves, [_wav()]),
    "idx": (idx, [IDX]),
    "image": (image, [_picture(f) for f in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "AVIF")]),
    "pixels": (pixels, [_picture("PNG"), _picture("JPEG")]),
    "csv": (lambda data: ingest("tabular", "a.csv", data), [TABLE]),
    "jsonl": (lambda data: ingest("tabular", "a.jsonl", data), [JSONL]),
    "parquet": (lambda data: ingest("tabular", "a.parquet", data), [_parquet()]),
    "gzip": (lambda data: ingest("tabular", "a.csv.gz", data), [gzip.compress(TABLE, mtime=0)]),
    "manifest": (
        manifest,
        [b'{"format": 1, "name": "a", "schema": {"kind": "text", "fields": []}, "parts": []}'],
    ),
    "recipe": (recipe, [b'{"kind": "tabular"}']),
    "stored_schema": (stored_schema, [b'{"kind": "tabular", "fields": [{"kind": "number", "name": "a"}]}']),
}
