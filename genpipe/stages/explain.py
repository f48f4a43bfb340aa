"""explain: where a file, dataset, model or run comes from, from what is written in it alone."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genpipe import store
from genpipe.bundle.folder import read_document
from genpipe.dataset import Dataset
from genpipe.documents import parse_json
from genpipe.errors import DataError, UsageError
from genpipe.parts import DELIVERED
from genpipe.registry.relations import holds_tables

PREFIX = b"genpipe."
PLAIN = (".csv", ".jsonl", ".xlsx", ".json", ".txt")


def explain(path: object) -> dict[str, Any]:
    """Lineage of a Parquet part, a dataset's folder, a bundle, a run's folder or "models:/name@alias".

    Returns a flat mapping that begins with `what`. Nothing is looked up elsewhere, so a file that has
    left the store still tells which model version, data, seed and rows it is.
    """
    uri = str(path).rstrip("/")
    if uri.startswith("models:"):
        from genpipe.registry import resolve

        resolved = resolve(uri)
        if resolved.tables:
            return _tables(resolved.uri) | {"what": "registered tables", "model": resolved.reference}
        return {"what": "registered model", "model": resolved.reference, **_bundle(resolved.uri)}
    if uri.endswith(f"/{DELIVERED}") or uri == DELIVERED:
        uri = uri.rpartition("/")[0] or "."
    elif uri.endswith(".parquet") and not Dataset.exists(uri):  # a folder may be called so
        return _file(uri)
    if store.exists(store.join(uri, DELIVERED)):
        return _dataset(uri)
    manifest = store.join(uri, "manifest.json")
    if store.exists(manifest):
        names = store.read_json(manifest)
        return _dataset(uri) if "parts" in names else {"what": "model", **_bundle(uri)}
    if holds_tables(uri):
        return _tables(uri)
    result = store.join(uri, "result.json")
    if store.exists(result):
        told = store.read_json(result)
        return {"what": "run", "model": told["uri"], **_bundle(told["uri"])}
    if found := _by_name(uri):
        return explain(found)
    if uri.lower().endswith(PLAIN):
        found = f"a {uri.rpartition('.')[2]} file, which cannot hold where it is from"
        fix = "explain the dataset that `genpipe generate` names beside it, or deliver .parquet"
        raise DataError("EXPLAIN", where=uri, found=found, expected="a .parquet file or a folder", fix=fix)
    expected = "a .parquet file, or the folder of a dataset, a model or a run that genpipe wrote"
    raise DataError("EXPLAIN", where=uri, found="nothing that genpipe wrote", expected=expected)


def _by_name(word: str) -> str:
    """What a name means: a model, else the dataset; empty where it is none."""
    from genpipe.stages.named_data import dataset_meant
    from genpipe.stages.named_models import model_meant

    if set("/.") & set(word):
        return ""
    for meant in (model_meant, dataset_meant):
        with suppress(DataError, UsageError):
            if (found := meant(word).uri) != word:
                return found
    return ""


def _file(uri: str) -> dict[str, Any]:
    try:
        with store.filesystem(uri).open(store.path_of(uri), "rb") as source:
            footer = pq.read_metadata(source)
    except FileNotFoundError:
        raise DataError("NOFILE", where=uri, found="no such file") from None
    except (pa.ArrowException, OSError) as error:
        found = str(error).splitlines()[0]
        raise DataError("PARQUET", where=uri, found=found, expected="a whole Parquet file") from error
    try:
        own: dict[str, Any] = {
            k[len(PREFIX) :].decode(): v.decode()
            for k, v in (footer.metadata or {}).items()
            if k.startswith(PREFIX)
        }
        own["conditions"] = json.loads(own.get("conditions", "{}"))
    except (ValueError, RecursionError) as error:
        found = f"a damaged footer: {str(error)[:80]}"
        raise DataError("EXPLAIN", where=uri, found=found, expected="a file genpipe wrote") from None
    own.pop("schema", None)
    if origin := own.pop("origin", ""):  # of a delivery in one file
        own |= parse_json(origin.encode(), where=uri)
    if own.keys() == {"conditions"}:
        raise DataError(
            "EXPLAIN", where=uri, found="no lineage in the footer", expected="a file genpipe wrote"
        )
    return {
        "what": "generated file" if "model" in own else "ingested file",
        **own,
        "file_rows": footer.num_rows,
    }


def _dataset(uri: str) -> dict[str, Any]:
    dataset = Dataset(uri)
    splits = {part.split for part in dataset.manifest.parts}
    rows = {split: dataset.rows(split) for split in sorted(splits)}
    about = {
        "name": dataset.name,
        "kind": dataset.schema.kind,
        "fingerprint": dataset.fingerprint,
        "splits": rows,
    }
    what = "generated dataset" if "generated" in splits else "dataset"
    return {"what": what, **about, "parts": len(dataset.manifest.parts), **dataset.manifest.origin}


def _tables(uri: str) -> dict[str, Any]:
    """Of a model of related tables, or of what one made."""
    told = store.read_json(store.join(uri, "tables.json"))
    if "nodes" not in told:
        return {"what": "generated tables", **told["request"], "tables": told["tables"]}
    rows = {node["name"]: node["rows"] for node in told["nodes"]}
    about = {key: told[key] for key in ("name", "fingerprint", "metrics")}
    return {"what": "tables", **about, "rows": rows}


def _bundle(uri: str) -> dict[str, Any]:
    recipe, schema, metrics, origin = (
        read_document(uri, n) for n in ("recipe", "schema", "metrics", "origin")
    )
    about = {"recipe": recipe["name"], "family": recipe["family"]["family"], "kind": schema["kind"]}
    return {**about, "columns": len(schema["fields"]), **origin, "metrics": metrics}
