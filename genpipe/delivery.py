"""Data that is handed over: a folder of Parquet files and nothing else.

    <output>/data/generated-00000.parquet ...  whole from the moment they can be seen
    <output>/manifest.parquet                  no rows; its footer holds what manifest.json holds of a dataset
    .<output>.making/                          beside it, until then: the request, records, parts of attempts

Any reader of Parquet takes the folder as it is (pandas, polars, DuckDB, datasets). On a disk it gets its name
in one step, when all of it is there. On S3, and in a folder that is a mounted volume, the parts
get their names one by one and the manifest last. What earlier versions wrote (manifest.json, and parts below
data/) is read, and gone on with, where and as it is.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from genpipe import store
from genpipe.dataset import Dataset, Manifest, Part, commit, describe
from genpipe.errors import ConflictError, InfrastructureError
from genpipe.parts import DELIVERED, manifest_file
from genpipe.schema import Schema

REQUEST = "request.json"


class Begun(NamedTuple):
    """work: where to write. made: the output, if this request is done. fresh: nobody worked at it before."""

    work: str
    made: Dataset | None = None
    fresh: bool = True


def begin(output: str, mine: Mapping[str, Any]) -> Begun:
    """Take an output for a request. Raises ConflictError where it is another's."""
    mine = json.loads(store.canonical(mine))  # as it is read back
    if store.exists(store.join(output, REQUEST)):  # of an earlier version
        return Begun(output, fresh=claim(output, mine))
    work = working(output)
    if Dataset.exists(output):
        there = Dataset(output)
        _differs(output, there.manifest.origin, mine)
        return Begun(work, there if whole(there) else None, False)
    inside = set(store.names_in(output)) - {work.rsplit("/", 1)[1]}
    if inside and not Dataset.exists(output):  # else somebody has just made it
        raise _others(output)
    try:
        return begin(output, mine) if inside else Begun(work, fresh=_claim(work, mine))
    except FileNotFoundError:  # whoever worked there has finished, and cleared it away
        return begin(output, mine)


def claim(folder: str, mine: Mapping[str, Any]) -> bool:
    """Take a folder for this request; False if the same request took it before."""
    if not store.exists(store.join(folder, REQUEST)) and store.occupied(folder):
        raise _others(folder)
    return _claim(folder, mine)


def _others(folder: str) -> ConflictError:
    found, fix = "a folder with other files", "choose an empty or a new folder"
    return ConflictError("OUTPUT", where=folder, found=found, fix=fix)


def _claim(folder: str, mine: Mapping[str, Any]) -> bool:
    where = store.join(folder, REQUEST)
    try:
        return store.create(where, store.canonical(mine))
    except ConflictError:
        _differs(folder, store.read_json(where), mine)
        raise


def _differs(where: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    if differs := ", ".join(sorted(key for key in mine if theirs.get(key) != mine[key])):
        found = f"the output of another request (other {differs})"
        raise ConflictError("OUTPUT", where=where, found=found, fix="choose another folder")


def working(output: str, attempt: str = "") -> str:
    """Where an output is made: beside it, and in it where nothing can be put beside it."""
    hidden = f".making-{attempt}" if attempt else ".making"
    if store.scheme_of(output) != "file":
        above, _, name = output.rstrip("/").rpartition("/")
        bucket = above.endswith("/")  # nothing is beside that
        return store.join(output, hidden) if bucket else f"{above}/.{name}{hidden}"
    folder = Path(os.path.abspath(store.path_of(output)))
    if os.path.ismount(folder) or (folder.parent.exists() and not os.access(folder.parent, os.W_OK)):
        return str(folder / hidden)
    return str(folder.with_name(f".{folder.name}{hidden}"))


def sidecars(output: str) -> list[str]:
    """The folders in which an output is, or was, made."""
    first = working(output)
    above, _, name = first.rpartition("/")
    return [store.join(above, each) for each in store.names_in(above) if each.startswith(name)]


def whole(dataset: Dataset) -> bool:
    """Whether all that the manifest names is there, in its size."""

    def check(part: Part) -> bool:
        return store.size(store.join(dataset.uri, part.path)) == part.bytes

    with ThreadPoolExecutor(8) as pool:
        return all(pool.map(check, dataset.manifest.parts))


def deliver(
    work: str, output: str, *, name: str, schema: Schema, parts: list[Part], origin: dict[str, Any]
) -> Dataset:
    """Give finished parts, which lie in `work`, their place in the output: what makes it one.

    If somebody did it first for the same request, theirs is returned. Raises ConflictError where the output
    has become another's.
    """
    if work == output:
        return commit(output, name=name, schema=schema, parts=parts, origin=origin)
    flat = [part.model_copy(update={"path": f"data/{part.path.rsplit('/', 1)[1]}"}) for part in parts]
    manifest, data = describe(name=name, schema=schema, parts=flat, origin=origin)
    places = {new.path: store.join(work, old.path) for new, old in zip(flat, parts, strict=True)}
    inner = os.path.dirname(work) == os.path.abspath(output)
    try:
        if store.exists(store.join(output, DELIVERED)):
            _mend(output, manifest, places)
        elif store.scheme_of(output) == "file" and not inner:
            stage = store.join(work, f"whole-{uuid.uuid4().hex}")
            _fill(stage, places, manifest_file(schema, data))
            if not store.move_folder(stage, output):
                _same(output, manifest)
        else:
            _fill(output, places, manifest_file(schema, data))
    except (FileNotFoundError, InfrastructureError):  # whoever was first has removed what both had made
        if not Dataset.exists(output):
            raise
        _same(output, manifest)
    with suppress(InfrastructureError):  # of two at once the other may still write there; it clears away, too
        store.remove(work)
    return Dataset(output)


def _fill(folder: str, places: Mapping[str, str], manifest: bytes) -> None:
    for name, source in places.items():
        store.place(source, store.join(folder, name))
    store.create(store.join(folder, DELIVERED), manifest)


def _mend(output: str, manifest: Manifest, places: Mapping[str, str]) -> None:
    """Put back the parts that were lost or damaged since the output was made."""
    _same(output, manifest)
    for part in manifest.parts:
        where = store.join(output, part.path)
        if store.size(where) != part.bytes and part.path in places:
            store.remove(where)
            store.place(places[part.path], where)


def _same(output: str, manifest: Manifest) -> None:
    if not Dataset.exists(output) or Dataset(output).fingerprint != manifest.fingerprint:
        found, fix = "another result under this name", "choose another folder"
        raise ConflictError("TAKEN", where=output, found=found, fix=fix)
