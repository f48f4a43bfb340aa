"""The bundle's files: written with a manifest last, read back only if they are what the manifest says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from genpipe import store
from genpipe.errors import DataError

FORMAT = 1
DOCUMENTS = ("recipe.json", "schema.json", "codec.json", "metrics.json", "origin.json")
WEIGHTS = "weights.safetensors"
MAX_DOCUMENT, MAX_HEADER, MAX_TENSORS = 64 * 2**20, 16 * 2**20, 100_000
AGAIN = "train again, or copy the whole folder"


def write_folder(uri: str, documents: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write documents and weights; equal content changes nothing, other content is a conflict."""
    content = {name: store.canonical(documents[name]) for name in DOCUMENTS}
    # cloned one by one: tied or sliced tensors share storage, which safetensors refuses
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in sorted(weights.items())}
    content[WEIGHTS] = safetensors.torch.save(tensors)
    write_content(uri, content)


def write_content(uri: str, content: Mapping[str, bytes]) -> None:
    """Data objects first, then the manifest that names them."""
    target = store.join(uri, "manifest.json")
    if not store.exists(target):
        for name, data in content.items():
            store.write_bytes(store.join(uri, name), data)
    files = {name: {"bytes": len(data), "sha256": sha256(data)} for name, data in content.items()}
    store.create(target, store.canonical({"format": FORMAT, "files": files}))


def read_folder(uri: str) -> dict[str, bytes]:
    """Every file of a bundle, compared with the manifest."""
    where = store.join(uri, "manifest.json")
    try:
        manifest = parse_json(store.read_bytes(where), where=where)
    except (FileNotFoundError, NotADirectoryError):
        made = "a folder `genpipe train` made"
        raise DataError("NOBUNDLE", where=uri, found="no manifest.json", expected=made) from None
    names = {*DOCUMENTS, WEIGHTS}
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or set(files) != names or manifest.get("format") != FORMAT:
        expected = f"format {FORMAT} with {', '.join(sorted(names))}"
        raise DataError("BUNDLE", where=where, found="not the manifest of a bundle", expected=expected)
    return {name: _read(store.join(uri, name), record) for name, record in files.items()}


def _read(where: str, record: Any) -> bytes:
    try:
        data = store.read_bytes(where)
    except FileNotFoundError:
        raise DataError("BUNDLE", where=where, found="the file is missing", fix=AGAIN) from None
    if not isinstance(record, dict) or (len(data), sha256(data)) != (
        record.get("bytes"),
        record.get("sha256"),
    ):
        raise DataError("SHA256", where=where, found="content differs from the manifest", fix=AGAIN)
    return data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parse_json(data: bytes, *, where: str) -> Any:
    """JSON of limited size in which no key occurs twice (parsers disagree on which one counts)."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            raise DataError("JSON", where=where, found="a key that occurs twice", fix=AGAIN)
        return result

    if len(data) > MAX_DOCUMENT:
        raise DataError("LIMIT", where=where, found=f"{len(data)} bytes", expected=f"at most {MAX_DOCUMENT}")
    try:
        return json.loads(data, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise DataError("JSON", where=where, found=first_line(error), expected="JSON") from error


def read_weights(data: bytes, *, where: str) -> dict[str, dict[str, Tensor]]:
    """role -> parameter -> tensor, from a safetensors file whose header is small and unambiguous."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 0 < size <= min(MAX_HEADER, len(data) - 8):
        found = f"a header of {size} bytes in a file of {len(data)}"
        raise DataError("WEIGHTS", where=where, found=found, expected=f"at most {MAX_HEADER}", fix=AGAIN)
    header = parse_json(data[8 : 8 + size], where=where)
    names = [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []
    if not 0 < len(names) <= MAX_TENSORS or any("." not in name for name in names):
        expected = f"1 to {MAX_TENSORS}, named role.parameter"
        raise DataError("WEIGHTS", where=where, found=f"{len(names)} tensors", expected=expected)
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise DataError(
            "WEIGHTS", where=where, found=first_line(error), expected="a safetensors file"
        ) from error
    roles: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        role, parameter = name.split(".", 1)
        roles.setdefault(role, {})[parameter] = tensor
    return roles


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_document(uri: str, name: str) -> Any:
    """One JSON document of a bundle ("recipe", "origin", ...), without opening the rest."""
    return parse_json(
        store.read_bytes(store.join(uri, f"{name}.json")), where=store.join(uri, f"{name}.json")
    )
