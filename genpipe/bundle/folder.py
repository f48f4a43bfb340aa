"""The bundle's files: written with a manifest last, read back only if they are what the manifest says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from genpipe import store
from genpipe.documents import MAX_DOCUMENT, parse_json
from genpipe.errors import DataError
from genpipe.plugins import installed_plugins

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
AGAIN = "train again, or copy the whole folder"
MAX_MANIFEST = 2**16
MOST_BYTES = {  # of each file; weights of half a billion numbers
    "recipe.json": 2**20,
    "schema.json": 2**25,
    "codec.json": MAX_DOCUMENT,
    "metrics.json": 2**20,
    "origin.json": 2**20,
    "weights.safetensors": 2**31,
}
DOCUMENTS, WEIGHTS = tuple(MOST_BYTES)[:-1], tuple(MOST_BYTES)[-1]


Name = Annotated[str, Field(max_length=1000)]
Scalar = Annotated[str, Field(max_length=10_000)] | bool | int | float | None


class Needed(BaseModel):
    """The package of a plug-in, named so that pip takes it for a name and a version and for nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    distribution: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_-]{0,98}$")

    def __str__(self) -> str:
        return f"{self.distribution}=={self.version}"


class Origin(BaseModel):
    """Where a bundle comes from: plain values, of which `rows` and `plugins` alone are reckoned with.

    plugins: those whose entries the recipe names, by the name of their entry point.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar | dict[Name, Scalar | dict[Name, Scalar]]]
    rows: int = Field(default=0, ge=0, le=2**62, strict=True)
    plugins: dict[Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")], Needed] = Field({}, max_length=100)

    def check_plugins(self, *, where: str) -> None:
        """Raise a DataError that says what to install for a bundle whose plug-ins are not all here."""
        here = {installed.name for installed in installed_plugins()} if self.plugins else set()
        for name, needed in self.plugins.items():
            if name not in here:
                found = f"made with plug-in {name!r} of {needed.distribution}, which is not installed"
                fix = f"if you trust who made it: pip install {needed}"
                raise DataError("PLUGIN", where=where, found=found, fix=fix)

    @property
    def other_versions(self) -> str:
        """What to install for exactly the plug-ins it was made with; empty where they are here."""
        here = {i.name: i.version for i in installed_plugins()} if self.plugins else {}
        other = [str(needed) for name, needed in self.plugins.items() if here.get(name) != needed.version]
        return f"it was made with other versions of plug-ins: pip install {' '.join(other)}" if other else ""


METRICS = TypeAdapter(Annotated[dict[Name, FiniteFloat], Field(max_length=10_000)])


class File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int = Field(ge=0, strict=True)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = Field(ge=FORMAT, le=FORMAT, strict=True)
    files: dict[str, File]


def write_folder(uri: str, documents: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write documents and weights; equal content changes nothing, other content is a conflict."""
    import safetensors.torch  # with torch, which reading documents needs not

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
    """Every file of a bundle, compared with the manifest; the sizes of all before any is read."""
    where = store.join(uri, "manifest.json")
    try:
        told = parse_json(store.read_limited(where, MAX_MANIFEST), where=where)
    except (FileNotFoundError, NotADirectoryError):
        made = "a folder `genpipe train` made"
        raise DataError("NOBUNDLE", where=uri, found="no manifest.json", expected=made) from None
    try:
        files = Manifest.model_validate(told).files
    except ValidationError:
        files = {}
    if set(files) != set(MOST_BYTES):
        expected = f"format {FORMAT} with {', '.join(sorted(MOST_BYTES))}"
        raise DataError("BUNDLE", where=where, found="not the manifest of a bundle", expected=expected)
    for name, file in files.items():
        _check_size(store.join(uri, name), file, MOST_BYTES[name])
    return {name: _read(store.join(uri, name), file) for name, file in files.items()}


def _check_size(where: str, file: File, most: int) -> None:
    if file.bytes > most:
        raise DataError("LIMIT", where=where, found=f"{file.bytes} bytes", expected=f"at most {most}")
    size = store.size(where)
    if size is None:
        raise DataError("BUNDLE", where=where, found="the file is missing", fix=AGAIN)
    if size != file.bytes:
        found = f"{size} bytes: content differs from the manifest"
        raise DataError("SHA256", where=where, found=found, expected=f"{file.bytes} bytes", fix=AGAIN)


def _read(where: str, file: File) -> bytes:
    data = store.read_limited(where, file.bytes)
    if sha256(data) != file.sha256:
        raise DataError("SHA256", where=where, found="content differs from the manifest", fix=AGAIN)
    return data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_document(uri: str, name: str) -> Any:
    """One JSON document of a bundle ("recipe", "origin", ...), without opening the rest."""
    where = store.join(uri, f"{name}.json")
    return parse_json(store.read_limited(where, MOST_BYTES[f"{name}.json"]), where=where)
