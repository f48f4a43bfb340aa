"""Real data that ships inside packages genpipe needs anyway, so that the first run needs no network.

builtin:digits   1797 handwritten digits, 8x8 grey (E. Alpaydin, C. Kaynak, UCI 1998; in scikit-learn)
builtin:titanic  1309 passengers, mixed types with missing values (OpenML 40945; in scikit-learn's tests)
"""

from __future__ import annotations

import csv
import functools
import gzip
import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError, unknown
from genpipe.fields import BLOB, Category, Identifier, Image, Integer, Number
from genpipe.schema import Schema
from genpipe.sources.base import Observed, Options, Reject, Rows, Source
from genpipe.sources.pictures import to_png
from genpipe.sources.tabular.fingerprint import Fingerprint

Loaded = tuple[Schema, pa.RecordBatch, list[str]]


class BuiltinStats(Observed):
    def merge(self, other: BuiltinStats) -> BuiltinStats:
        return self


class BuiltinSource(Source):
    """One small table in memory, with a schema known beforehand."""

    def __init__(self, name: str, options: Options) -> None:
        if name not in BUILTINS:
            raise unknown("built-in source", f"builtin:{name}", [f"builtin:{n}" for n in BUILTINS])
        super().__init__((), options)
        self.name = name

    @property
    def kind(self) -> str:  # type: ignore[override]
        return load(self.name)[0].kind

    @property
    def identity(self) -> list[Any]:
        _, batch, _ = load(self.name)
        fingerprint = Fingerprint()
        fingerprint.add(batch)
        return [self.name, fingerprint.hexdigest()]

    def observe(self, unit: int) -> BuiltinStats:
        return BuiltinStats()

    def schema(self, stats: BuiltinStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        schema = load(self.name)[0]
        return schema.model_validate(
            schema.model_dump() | ({"target": target} if target else {}) | ({"key": key} if key else {})
        )

    def notices(self, stats: BuiltinStats) -> list[str]:
        return load(self.name)[2]

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        batch = load(self.name)[1]
        yield Rows(batch.cast(schema.arrow()))


@functools.cache
def load(name: str) -> Loaded:
    return BUILTINS[name]()


def packaged(package: str, path: str, name: str) -> str:
    """The text of a gzipped file inside an installed package, without the seconds its import takes."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or []:
        file = Path(folder, path)
        if file.exists():
            return gzip.decompress(file.read_bytes()).decode()
    raise DataError(
        "BUILTIN",
        where=f"builtin:{name}",
        found=f"this {package} comes without {path}",
        fix="install scikit-learn from its wheel, which ships its data, or ingest a file of your own",
    )


def digits() -> Loaded:
    rows = np.loadtxt(
        io.StringIO(packaged("sklearn", "datasets/data/digits.csv.gz", "digits")), delimiter=","
    )
    pixels = np.rint(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0..16 in the source
    target = rows[:, 64].astype(int).tolist()
    paths = [f"{target[i]}/{i:04d}.png" for i in range(len(rows))]
    blobs = [{"bytes": to_png(picture), "path": path} for picture, path in zip(pixels, paths, strict=True)]
    schema = Schema(
        kind="image",
        target="label",
        fields=(
            Image(
                name="image", height=8, width=8, channels=1, reason="8x8 grey, 17 levels spread over 0..255"
            ),
            Category(name="label", reason="the digit that was written"),
        ),
    )
    labels = pa.array([str(v) for v in target], pa.string())
    return schema, pa.RecordBatch.from_arrays([pa.array(blobs, BLOB), labels], schema=schema.arrow()), []


def titanic() -> Loaded:
    inside = "datasets/tests/data/openml/id_40945/data-v1-dl-16826755.arff.gz"
    text = packaged("sklearn", inside, "titanic")
    head, _, body = text.partition("@data\n")
    names = [line.split("'")[1] for line in head.splitlines() if line.startswith("@attribute")]
    rows = [r for r in csv.reader(io.StringIO(body)) if r]
    raw = {
        name: [None if cell == "?" else cell for cell in column]
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    schema = Schema(
        kind="tabular",
        target="survived",
        fields=(
            Category(name="pclass", reason="first, second or third class"),
            Category(name="survived", reason="the target: 1 = survived"),
            Identifier(name="name", reason="a person's name"),
            Category(name="sex", reason="2 different texts"),
            Number(name="age", nullable=True, decimals=4, reason="years, infants in fractions, 263 missing"),
            Integer(name="sibsp", reason="siblings and spouses aboard"),
            Integer(name="parch", reason="parents and children aboard"),
            Identifier(name="ticket", reason="929 different texts in 1309 rows"),
            Number(name="fare", nullable=True, decimals=4, reason="pounds, 1 missing"),
            Identifier(name="cabin", nullable=True, reason="186 different texts, 1014 missing"),
            Category(
                name="embarked", nullable=True, reason="port: Cherbourg, Queenstown or Southampton, 2 missing"
            ),
            Identifier(name="home.dest", nullable=True, reason="369 different texts, 564 missing"),
        ),
    )
    arrays = [pa.array(raw[f.name], pa.string()).cast(f.arrow()) for f in schema.fields]
    notices = ["columns 'boat' and 'body' were dropped: they are known only because of the outcome"]
    return schema, pa.RecordBatch.from_arrays(arrays, schema=schema.arrow()), notices


BUILTINS: dict[str, Callable[[], Loaded]] = {"digits": digits, "titanic": titanic}
