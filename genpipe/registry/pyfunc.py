"""A package as a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` understand.

Its code is a module of ours (pyfunc_model.py for a bundle), stored as text; its needs are genpipe and the
exact versions it was made with; no path of this machine stays in it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from genpipe.registry.package import Package
from genpipe.schema import Schema
from genpipe.version import __version__

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

NEEDS = (
    "torch",
    "mlflow",
    "pyarrow",
    "numpy",
    "pandas",
    "pydantic",
    "safetensors",
    "fsspec",
    "s3fs",
    "scipy",
    "pillow",
)


def save_pyfunc(folder: Path, package: Package, code: Path, *, model_id: str, allow: str = "") -> None:
    """Write the MLflow model folder of a package, served by `code`. allow: verbs beside generating."""
    import mlflow.pyfunc
    from mlflow.models import Model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*An input example was not provided")  # the signature is explicit
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(code),
            artifacts={package.artifact: str(package.folder)},
            signature=signature(package.schema, package.asked),
            pip_requirements=[*requirements(), *package.plugins],
            mlflow_model=Model(model_id=model_id),
            model_config={"bundle_fingerprint": package.fingerprint, "model_id": model_id, "allow": allow},
            metadata={"genpipe": __version__, "columns": columns(package.schema)},
        )
    # MLflow notes where things came from; those folders are nobody's business, and loading does not need them
    text = (folder / "MLmodel").read_text()
    for private in (str(package.folder), str(folder), str(code.parent)):
        text = re.sub(re.escape(private) + r"/?", "", text)
    (folder / "MLmodel").write_text(text)


def requirements() -> list[str]:
    pinned = [f"genpipe=={__version__}"]
    for package in NEEDS:
        try:
            pinned.append(f"{package}=={version(package).split('+')[0]}")
        except PackageNotFoundError:
            continue
    return pinned


def signature(schema: Schema, asked: Mapping[str, Any]) -> ModelSignature:
    """Outputs: the ingest schema. asked: params by default. No inputs: MLflow would drop the columns of a
    frame that they do not name, where `predict` refuses them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, TensorSpec
    from mlflow.types import Schema as Columns

    made: list[ColSpec | TensorSpec] = [
        ColSpec(_kind(f.arrow()), f.name, required=not f.nullable) for f in schema.fields
    ]
    kinds = {int: "long", str: "string"}
    parameters = [ParamSpec(name, kinds[type(value)], value) for name, value in asked.items()]
    return ModelSignature(outputs=Columns(made), params=ParamSchema(parameters))


def columns(schema: Schema) -> dict[str, str]:
    """Column -> MLflow type of what a frame may hold, in `metadata` of the model; none of them is required.
    Those that this model's publisher or generator does not take are refused with the reason.
    """
    kinds = {f.name: f.arrow() for f in schema.fields}
    flat = {n: k for n, k in kinds.items() if not (pa.types.is_nested(k) or pa.types.is_binary(k))}
    return {name: str(_kind(kind).name) for name, kind in flat.items()}


def _kind(arrow: pa.DataType) -> Any:
    """Arrow type -> MLflow type."""
    from mlflow.types import DataType
    from mlflow.types.schema import Array, Object, Property

    if pa.types.is_list(arrow):
        return Array(_kind(arrow.value_type))
    if pa.types.is_struct(arrow):
        return Object([Property(f.name, _kind(f.type), required=False) for f in arrow])
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow):
        return DataType.datetime
    return {
        pa.float64(): DataType.double,
        pa.int64(): DataType.long,
        pa.bool_(): DataType.boolean,
        pa.string(): DataType.string,
        pa.binary(): DataType.binary,
    }[arrow]
