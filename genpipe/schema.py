"""A schema: the fields of a dataset in their order, and what holds of them together.

A Schema is what ingest infers once (with a reason per field), prints as a file a person may edit, and
obeys from then on. The kinds of fields are in genpipe/fields.py.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from genpipe.constraints import AnyConstraint
from genpipe.derivations import derivations
from genpipe.errors import DataError, few
from genpipe.fields import AnyField, Text
from genpipe.kinds import DataKind
from genpipe.pattern import MOST_PATTERNS

LATER = ("constraints", "entity", "structs")


class Schema(BaseModel):
    """Fields in column order.

    target: the label column, for conditional generation and train-on-synthetic tests.
    key: the columns whose hash decides the split; empty = the entity, or else the whole row.
    entity: the columns that together name whom rows are about, where one has several rows: what is kept of
    any value is kept because so many entities have it, not so many rows.
    constraints: what holds between columns of every row of a table (genpipe/constraints.py).
    structs: names of which the fields `name.part` are parts, as one column held them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: DataKind
    fields: tuple[AnyField, ...]
    target: str | None = None
    key: tuple[str, ...] = ()
    entity: tuple[str, ...] = ()
    constraints: tuple[AnyConstraint, ...] = ()
    structs: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _few_patterns(cls, data: Any) -> Any:
        """A field counts the strings of its pattern, so how many there are is asked before."""
        fields = data.get("fields") if isinstance(data, dict) else None
        fields = fields if isinstance(fields, list | tuple) else ()
        patterns = [str(f.get("pattern")) for f in fields if isinstance(f, dict)]
        if len(set(patterns)) > MOST_PATTERNS:
            raise ValueError(f"{len(set(patterns))} different patterns; at most {MOST_PATTERNS} are allowed")
        return data

    @model_validator(mode="after")
    def _check(self) -> Schema:
        names = [f.name for f in self.fields]
        twice = sorted(n for n, times in Counter(names).items() if times > 1)
        if twice:
            raise ValueError(f"field names must differ, got twice: {few(twice)}")
        target = (self.target,) if self.target else ()
        for role, wanted in (("target", target), ("key", self.key), ("entity", self.entity)):
            for name in wanted:
                if name not in names:
                    raise ValueError(f"{role} {name!r} is not a field; fields are {few(names)}")
        if self.constraints and self.kind != "tabular":
            raise ValueError(f"constraints are between columns of a table, this is {self.kind}; remove them")
        try:
            derivations(self.constraints, self.fields, self.conditions)
        except OverflowError:  # a limit times its decimals is no float any more
            raise ValueError(
                "a limit of too many digits; leave out its field's decimals or the limit"
            ) from None
        patterned = [f.name for f in self.fields if isinstance(f, Text) and f.pattern is not None]
        if self.kind == "text" and patterned:
            raise ValueError(f"text {patterned[0]!r} is learnt here, so it takes no pattern")
        return self

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without them the file, and every fingerprint of it, is as it was before there were any."""
        return {k: v for k, v in dump(self).items() if v or k not in LATER}

    @property
    def about(self) -> tuple[str, ...]:
        """The columns that name whom rows are about; none = every row is an entity of its own."""
        return self.entity or self.key

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields)

    def field(self, name: str) -> AnyField:
        return next(f for f in self.fields if f.name == name)

    def of_kind(self, *kinds: str) -> tuple[AnyField, ...]:
        return tuple(f for f in self.fields if f.kind in kinds)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The fields a generator is conditioned on: the target, where it is a choice of few."""
        if self.target and self.field(self.target).kind in ("category", "boolean"):
            return (self.target,)
        return ()

    @property
    def forms(self) -> dict[str, str]:
        """How texts of columns are written (genpipe/written/), of those that say so."""
        found = {f.name: getattr(f, "format", None) for f in self.fields}
        return {name: form for name, form in found.items() if form}

    def arrow(self) -> pa.Schema:
        """Arrow schema with this schema, and Hugging Face features for images and audio, as metadata."""
        fields = [pa.field(f.name, f.arrow(), nullable=f.nullable) for f in self.fields]
        media = {f.name: {"_type": f.kind.capitalize()} for f in self.of_kind("image", "audio")}
        metadata = {"genpipe.schema": self.model_dump_json()}
        if media:
            metadata["huggingface"] = json.dumps({"info": {"features": media}})
        return pa.schema(fields, metadata=metadata)

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> Schema:
        raw = (schema.metadata or {}).get(b"genpipe.schema")
        if raw is None:
            raise DataError(
                "SCHEMA", found="Parquet file without a genpipe schema", expected="a file genpipe wrote"
            )
        return cls.model_validate_json(raw)
