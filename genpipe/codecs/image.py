"""Images: PNG bytes <-> a uint8 grid (C, H, W), exactly.

Ingest has brought every image to one size and to 1 or 3 channels of 8 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import Arrays, Codec, CodecConfig, RowStats, check_version
from genpipe.codecs.columns import assemble, only_field
from genpipe.codecs.conditions import ConditionTable
from genpipe.fields import BLOB, Image
from genpipe.media.png import read_pngs, write_png
from genpipe.schema import Schema
from genpipe.spec import TensorSpec


class ImageCodec(Codec):
    kind = "image"
    layouts = ("grid",)

    def __init__(self, schema: Schema, conditions: ConditionTable) -> None:
        self.schema, self.conditions = schema, conditions
        self.field: Image = only_field(schema, "image")

    @classmethod
    def observes(cls, schema: Schema) -> list[str]:
        return list(dict.fromkeys((*schema.conditions, *schema.about)))

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> RowStats:
        return RowStats.of(batch, schema, config)

    @classmethod
    def build(cls, schema: Schema, stats: RowStats, config: CodecConfig) -> ImageCodec:
        stats.check(config)
        return cls(schema, stats.table(schema, config))

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        shape = (self.field.channels, self.field.height, self.field.width)
        return TensorSpec(layout="grid", shape=shape, dtype="uint8", conditions=self.conditions.sizes)

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        channels, height, width = self.spec(layout).shape
        blobs = batch.column(self.field.name).field("bytes").to_pylist()
        x = read_pngs(blobs, height=height, width=width, channels=channels, where=self.field.name)
        return {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2)), "condition": self.conditions.codes(batch)}

    def decode(self, arrays: Arrays, layout: str, rng: np.random.Generator) -> pa.RecordBatch:
        self.check_layout(layout)
        pixels = np.ascontiguousarray(np.asarray(arrays["x"], dtype=np.uint8).transpose(0, 2, 3, 1))
        blobs = [{"bytes": write_png(p), "path": None} for p in pixels]
        made = self.conditions.columns(self.schema, arrays["condition"])
        return assemble(self.schema, made | {self.field.name: pa.array(blobs, BLOB)}, len(pixels), rng)

    def tolerance(self, layout: str) -> dict[str, float]:
        self.check_layout(layout)
        return dict.fromkeys(self.schema.conditions, 0.0) | {self.field.name: 0.0}

    def to_json(self) -> dict[str, Any]:
        return self.header() | {"conditions": self.conditions.model_dump(mode="json")}

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> ImageCodec:
        check_version(cls.kind, data)
        return cls(schema, ConditionTable.read(schema, data["conditions"]))
