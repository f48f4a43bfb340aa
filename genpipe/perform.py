"""Doing what a request says: which stage does it, and whether related tables are meant.

A request looks at what it is handed: a set of related tables (a spec with `tables`, or what was made of one)
goes to genpipe/related/, all else to genpipe/stages/. What does it is loaded when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from genpipe.databases import is_database
from genpipe.errors import UsageError
from genpipe.one_file import one_file, write_file, write_tables
from genpipe.progress import Progress, silent
from genpipe.requests import (
    Anomaly,
    Classify,
    Clean,
    Cluster,
    Compress,
    Doctor,
    Edit,
    Encode,
    Evaluate,
    Forget,
    Generate,
    Impute,
    Ingest,
    Interpolate,
    Likelihood,
    OnRows,
    Promote,
    Reconstruct,
    Register,
    Request,
    Train,
    Tune,
)

R = TypeVar("R", bound=Request)
# where each request is done: of one generator, and of related tables
STAGES: dict[type[Request], tuple[str, str]] = {
    Ingest: ("genpipe.stages.ingest.verb", "ingest"),
    Train: ("genpipe.stages.train.verb", "train"),
    Tune: ("genpipe.stages.tune.verb", "tune"),
    Evaluate: ("genpipe.stages.evaluate.verb", "evaluate"),
    Register: ("genpipe.stages.register", "register"),
    Generate: ("genpipe.stages.generate.verb", "generate"),
    Impute: ("genpipe.stages.rows.verb", "impute"),
    Likelihood: ("genpipe.stages.rows.verb", "likelihood"),
    Encode: ("genpipe.stages.latent.rows", "encode_rows"),
    Reconstruct: ("genpipe.stages.latent.rows", "reconstruct"),
    Anomaly: ("genpipe.stages.latent.rows", "anomaly"),
    Compress: ("genpipe.stages.latent.rows", "compress"),
    Cluster: ("genpipe.stages.latent.probe", "cluster"),
    Classify: ("genpipe.stages.latent.probe", "classify"),
    Edit: ("genpipe.stages.latent.edit", "edit"),
    Interpolate: ("genpipe.stages.latent.interpolate", "interpolate"),
    Clean: ("genpipe.stages.clean", "clean"),
    Forget: ("genpipe.stages.forget", "forget"),
    Promote: ("genpipe.stages.promote", "promote"),
    Doctor: ("genpipe.stages.doctor", "doctor"),
}
TABLES: dict[type[Request], tuple[str, str]] = {
    Evaluate: ("genpipe.related.evaluate", "evaluate_tables"),
    Register: ("genpipe.related.register", "register_tables"),
    Generate: ("genpipe.related.panel_generate", "generate"),
}
NOT_FOR_TABLES: dict[type[Request], tuple[str, ...]] = {
    Train: ("recipe", "seed", "minutes", "by", "final", "from_model", "name", "tag"),
    Evaluate: ("real_examples",),
    Generate: ("conditions", "temperature", "top_k", "top_p", "no_repeat", "no_copies"),
}


def request(kind: type[R], given: Mapping[str, Any]) -> R:
    """The request that a verb's parameters in Python are: paths are texts, what stands for data or a model is
    named by its URI, and a recipe's file is read.
    """
    keys = {name: field.alias or name for name, field in kind.model_fields.items()}
    taken = {name: _text_of(given[key]) for name, key in keys.items() if key in given}
    for name in {"dataset", "model", "source"} & taken.keys():
        if hasattr(taken[name], "__arrow_c_stream__") or hasattr(taken[name], "__dataframe__"):
            found, expected = "a data frame", "the name of data, or what genpipe.ingest(frame) returns"
            if name == "source":
                expected = "a file: frame.to_parquet(FILE) writes one"
            raise UsageError("FRAME", where=name, found=found, expected=expected)
    for name in {"dataset", "model", "from_model"} & taken.keys():
        taken[name] = None if taken[name] is None else str(taken[name])
    if isinstance(recipe := taken.get("recipe"), str) and is_spec(recipe):
        from genpipe.pipeline.reading import read_spec

        taken["recipe"] = read_spec(Path(recipe).expanduser())[0]
    return kind.of(**taken)


def _text_of(value: Any) -> Any:
    if isinstance(value, list | tuple) and any(isinstance(each, os.PathLike) for each in value):
        return [_text_of(each) for each in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


OfOne = Impute | Likelihood | OnRows | Interpolate  # asked of a generator of single rows alone


def perform(asked: Request, progress: Progress = silent, **more: Any) -> Any:
    """Do what a request says. more: what the library hands over as an object, such as a report."""
    tables, spec = False, more.pop("spec", None)
    if spec is None:
        asked, _ = meant(asked)
    if isinstance(asked, Generate | OfOne) and one_file(asked.output):
        return _as_file(asked, progress)
    if isinstance(asked, Train):
        tables = spec is not None or is_spec(asked.dataset)
        if not tables and has_entity(asked):
            from genpipe.related.panel_train import by_entity, train_panel

            if by_entity(asked):
                check_for_panel(asked)
                return train_panel(asked, progress=progress)
    elif isinstance(asked, Evaluate | Register | Generate):
        tables = of_tables(asked.model)
    elif isinstance(asked, OfOne) and of_tables(asked.model):
        found, fix = "a generator of several tables", "train the table with --by row (by='row')"
        raise UsageError("TABLES", where=asked.model, found=found, expected="one of single rows", fix=fix)
    if tables:
        check_for_tables(asked)
    if tables and isinstance(asked, Train):
        from genpipe.related.train import train_tables

        return train_tables(asked.dataset if spec is None else spec, workers=asked.workers, progress=progress)
    module, name = (TABLES if tables else STAGES)[type(asked)]
    return getattr(import_module(module), name)(asked, progress=progress, **more)


def _as_file(asked: Generate | OfOne, progress: Progress) -> Any:
    """Make the rows in the store, then the one file of them; returns the dataset in the store."""
    output = str(asked.output)
    made = perform(asked.model_copy(update={"output": None}), progress)
    if is_database(output):
        write_tables(dict(made.items()) if hasattr(made, "datasets") else {made.name: made}, output)
        return made
    if hasattr(made, "datasets"):
        found, fix = "one file for several tables", "name a folder"
        raise UsageError("OUTPUT", where=output, found=found, expected="a folder", fix=fix)
    write_file(made, output)
    return made


def meant(asked: Request) -> tuple[Any, list[str]]:
    """The request with URIs in place of names that people say, and in words what was taken for them."""
    from genpipe.stages.named_data import Meant, dataset_meant

    found = dict[str, Meant]()
    if isinstance(asked, Train | Tune | Evaluate) and asked.dataset and not is_spec(asked.dataset):
        # related tables are judged by the rows of another such model
        other = isinstance(asked, Evaluate) and of_tables(asked.dataset)
        found |= {} if other else {"dataset": dataset_meant(asked.dataset)}
    if isinstance(asked, OnRows | Interpolate) and asked.dataset:
        found["dataset"] = dataset_meant(asked.dataset)
    if isinstance(asked, Train) and asked.from_model:
        from genpipe.stages.named_models import model_meant

        found["from_model"] = model_meant(asked.from_model)
    if isinstance(asked, Evaluate | Register | Generate | OfOne):
        from genpipe.stages.named_models import model_meant  # with the registry and torch

        found["model"] = model_meant(asked.model, newest=isinstance(asked, Evaluate | Register))
        if isinstance(asked, OfOne):
            found["model"] = _own_run(asked, found["model"])
    uris = {name: each.uri for name, each in found.items()}
    return asked.model_copy(update=uris), [each.said for each in found.values() if each.said]


def _own_run(asked: Any, found: Any) -> Any:
    """The run of a name whose champion is published for generating alone, if there is one."""
    from genpipe.registry import resolve
    from genpipe.stages.named_models import model_meant
    from genpipe.stages.rows.blocks import allows

    by_name = found.uri.startswith("models:/") and not set("@:/") & set(asked.model)
    if not by_name or allows(resolve(found.uri), type(asked).__name__.lower()):
        return found
    run = model_meant(asked.model, newest=True)
    return found if run.uri.startswith("models:/") else run


def of_tables(model: str) -> bool:
    """Whether a generator, as whoever made or names it gives it, is one of related tables."""
    from genpipe.registry import holds_tables, resolve

    return resolve(model).tables if model.startswith("models:") else holds_tables(model)


def has_entity(asked: Train) -> bool:
    """Whether rows are about somebody who may have several, so that they may be learnt by entity."""
    from genpipe.dataset import Dataset

    return asked.by == "entity" or (asked.by is None and bool(Dataset(asked.dataset).schema.entity))


def is_spec(data: str) -> bool:
    """Whether it names a spec and no dataset."""
    return data.endswith((".yaml", ".yml", ".json"))


def check_for_panel(asked: Train) -> None:
    """Raise where rows are to be learnt by entity from an earlier model, which learnt rows."""
    if asked.from_model:
        found, fix = "rows that are learnt entity by entity", "say --by row (by='row'), or leave it out"
        raise UsageError("FROM", where="from", found=found, expected="single rows", fix=fix)


def check_for_tables(asked: Request) -> None:
    """Raise where something is asked for that related tables do not have."""
    for name in NOT_FOR_TABLES.get(type(asked), ()):
        if (value := getattr(asked, name)) != type(asked).model_fields[name].default:
            fix = "say it in the spec, or leave it out" if isinstance(asked, Train) else "leave it out"
            if isinstance(asked, Generate):
                fix += "; a flat table takes it if it is trained with --by row (by='row')"
            found = f"{value!r} for related tables"
            raise UsageError("TABLES", where=name, found=found, expected="nothing of the kind", fix=fix)
