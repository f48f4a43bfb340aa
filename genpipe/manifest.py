"""What names the parts of a Dataset: `manifest.json`, or, of data that was handed over, the footer of
`manifest.parquet` (delivery.py). Small, read whole, and checked before anything in it is believed.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from genpipe import store
from genpipe.documents import first_line, parse_json
from genpipe.errors import DataError
from genpipe.parts import AGAIN, DELIVERED, OF_ANOTHER, Part, manifest_in
from genpipe.schema import Schema

SPLITS = ("train", "holdout", "generated")
FORMAT, SHARING = 1, 2  # SHARING: parts of another version are among those it names
MAX_MANIFEST = 2**26


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = Field(default=FORMAT, ge=FORMAT, le=SHARING)
    name: str
    schema_: Schema
    parts: tuple[Part, ...]
    origin: dict[str, Any]
    fingerprint: str


def describe(
    *, name: str, schema: Schema, parts: list[Part], origin: dict[str, Any], in_order: bool = False
) -> tuple[Manifest, bytes]:
    """What a manifest says of parts, and its text. in_order: they are not to be ordered by their names."""
    parts = sorted(
        parts, key=lambda p: (SPLITS.index(p.split), "" if in_order else p.path.rsplit("/", 1)[-1])
    )
    content = [schema.model_dump(mode="json"), [(p.split, p.rows, p.sha256) for p in parts]]
    manifest = Manifest(
        format=SHARING if any(OF_ANOTHER.fullmatch(p.path) for p in parts) else FORMAT,
        name=name,
        schema_=schema,
        parts=tuple(parts),
        origin=origin,
        fingerprint=store.digest(content),
    )
    return manifest, manifest.model_dump_json(indent=1).encode()


def read_manifest(uri: str) -> Manifest:
    """Of the dataset in a folder; DataError where there is none, or none that can be read."""
    where = store.join(uri, "manifest.json")
    try:
        try:
            data = store.read_limited(where, MAX_MANIFEST)
        except FileNotFoundError:
            file = store.join(uri, DELIVERED)
            data = manifest_in(store.read_limited(file, MAX_MANIFEST), where=file)
        return Manifest.model_validate(parse_json(data, where=where))
    except FileNotFoundError:
        found, expected = "no manifest.json", "a folder `genpipe ingest` made"
        raise DataError("NODATASET", where=uri, found=found, expected=expected) from None
    except ValueError as error:
        raise DataError("MANIFEST", where=where, found=first_line(error), fix=AGAIN) from error
