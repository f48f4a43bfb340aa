"""The verbs, one door for whoever asks in Python: a verb's parameters become a request, which is performed.

What comes of it is described where it is done (see genpipe/perform.py). The names and defaults are those
of genpipe/requests/, written out here for editors; tests/unit/test_requests.py compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpipe.perform import perform, request
from genpipe.progress import Progress, silent
from genpipe.requests import (
    Evaluate,
    Generate,
    Impute,
    Ingest,
    Likelihood,
    Register,
    Train,
    Tune,
)
from genpipe.requests.signature import documented

if TYPE_CHECKING:
    from genpipe.dataset import Dataset
    from genpipe.evaluation.report import Report
    from genpipe.pipeline import PipelineSpec
    from genpipe.recipe import Recipe
    from genpipe.registry import Registered
    from genpipe.related.generate import GeneratedTables
    from genpipe.related.spec import TablesSpec
    from genpipe.related.train import TrainedTables
    from genpipe.schema import Schema
    from genpipe.stages.train.process import TrainedModel
    from genpipe.stages.tune.study import TuneResult


@documented(Ingest)
def ingest(
    source: str | Path | Sequence[str] | Any,
    *,
    name: str | None = None,
    kind: str | None = None,
    target: str | None = None,
    key: str | Sequence[str] | None = None,
    entity: str | Sequence[str] | None = None,
    holdout: float = 0.2,
    schema: str | Path | Schema | None = None,
    workers: int | None = None,
    on_bad_file: str = "fail",
    max_bad: float = 0.01,
    min_rows: int = 20,
    progress: Progress = silent,
    **options: Any,
) -> Dataset:
    """Read raw data into an immutable, typed, fingerprinted Dataset. The same input again does no work.

    source may be a data frame (pandas, Polars, Arrow), and schema a Schema. Any other keyword is an option of
    the kind of data (genpipe/sources/<kind>.py).
    """
    given, more = _framed(locals())
    if schema is not None and not isinstance(schema, str | Path):
        given, more["schema"] = given | {"schema": None}, schema
    return perform(request(Ingest, given), progress, **more)


@documented(Train)
def train(
    dataset: str | Path | Dataset | Mapping[str, Any] | TablesSpec,
    *,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    workers: int = 0,
    seed: int = 0,
    minutes: float | None = None,
    by: str | None = None,
    final: str = "train",
    from_model: object = None,
    name: str | None = None,
    tag: str = "",
    progress: Progress = silent,
) -> TrainedModel | TrainedTables:
    """Train a generator of a dataset; returns the finished run, at once if this request was trained before.

    A spec of related tables (a YAML file, a mapping or a TablesSpec) gives one generator a table. What it
    says itself (recipe, seed, minutes, name) is not asked for beside it.
    """
    if isinstance(dataset, Mapping) or hasattr(dataset, "tables"):
        return perform(request(Train, locals() | {"dataset": "spec.yaml"}), progress, spec=dataset)
    return perform(request(Train, locals()), progress)


@documented(Tune)
def tune(
    dataset: str | Dataset,
    *,
    recipes: Sequence[str] | None = None,
    vary: Mapping[str, Any] | None = None,
    trials: int = 8,
    minutes: float | None = None,
    workers: int = 0,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = silent,
) -> TuneResult:
    """Search losses, architectures, sizes and learning rates; returns the best recipe and the leaderboard.

    Whichever of trials and minutes is spent first ends the search.
    """
    return perform(request(Tune, locals()), progress)


@documented(Evaluate)
def evaluate(
    model: object,
    dataset: object = None,
    *,
    rows: int | None = None,
    seed: int = 0,
    real_examples: bool = False,
    folds: int | None = None,
    progress: Progress = silent,
) -> Report:
    """Score a generator against held-out rows; of related tables against held-out families.

    Returns the Report, with the URIs of what was written.
    """
    return perform(request(Evaluate, locals()), progress)


@documented(Register)
def register(
    model: object,
    *,
    name: str | None = None,
    report: Report | None = None,
    despite: str = "",
    unchecked: str = "",
    allow: Sequence[str] = (),
    progress: Progress = silent,
) -> Registered:
    """Give a generator a name and a version in MLflow; it becomes champion if it beats the present one.

    report: what `evaluate` returned; without one the model is evaluated now.
    """
    return perform(request(Register, locals()), progress, report=report)


@documented(Generate)
def generate(
    model: object,
    *,
    rows: int | Mapping[str, int] | None = None,
    output: str | Path | None = None,
    conditions: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    no_repeat: int | None = None,
    no_copies: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    rows_per_part: int | None = None,
    name: str | None = None,
    tag: str = "",
    progress: Progress = silent,
) -> Dataset | GeneratedTables:
    """Generate rows into Parquet. Same seed, same bytes, on any number of workers; a killed run resumes.

    Returns a Dataset (split "generated"), or of related tables one each, by their names.
    """
    return perform(request(Generate, locals()), progress)


@documented(Impute)
def impute(
    model: object,
    source: str | Path | Any,
    *,
    output: str | Path | None = None,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Dataset:
    """Fill the missing values of a table so that they fit the rest of their row; split "generated".

    What is there stays as it is; columns that are absent are made, too (genpipe/stages/rows/verb.py).
    source may be a data frame.
    """
    given, more = _framed(locals())
    return perform(request(Impute, given), progress, **more)


@documented(Likelihood)
def likelihood(
    model: object,
    source: str | Path | Any,
    *,
    output: str | Path | None = None,
    name: str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Dataset:
    """How likely a table generator finds each row; split "generated".

    Adds `log_probability` and `least_likely`, the column that surprises most (genpipe/stages/rows/verb.py).
    source may be a data frame.
    """
    given, more = _framed(locals())
    return perform(request(Likelihood, given), progress, **more)


def _framed(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what is asked, a data frame that was handed over in place of a source)."""
    from genpipe.sources.tabular.frame import is_frame

    source = given["source"]
    return (given | {"source": "frame"}, {"frame": source}) if is_frame(source) else (given, {})


def validate(spec: str | Path | Mapping[str, Any] | PipelineSpec | TablesSpec) -> PipelineSpec | TablesSpec:
    """Check a spec completely and return it; nothing is started or written. Raises SpecError.

    A spec with `tables` is one of related tables. One that was checked before is not checked again.
    """
    from genpipe.pipeline import PipelineSpec, load_spec
    from genpipe.pipeline.reading import check_spec, given
    from genpipe.related.spec import TablesSpec, check_tables, load_tables

    if isinstance(spec, TablesSpec):
        return load_tables(spec)
    if isinstance(spec, PipelineSpec):
        return load_spec(spec)
    data, lines, where = given(spec)
    return (check_tables if "tables" in data else check_spec)(data, lines, where)


def score(model: object, source: str, **options: Any) -> Dataset:
    """The earlier name of `likelihood`."""
    return likelihood(model, source, **options)


def train_tables(spec: Any, *, workers: int = 0, progress: Progress = silent) -> TrainedTables:
    """The earlier name of `train` for a spec of related tables."""
    from genpipe.related.train import train_tables

    return train_tables(spec, workers=workers, progress=progress)


def generate_tables(
    model: object,
    *,
    rows: int | Mapping[str, int] | None = None,
    output: str | Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> GeneratedTables | Dataset:
    """The earlier name of `generate` for a generator of related tables."""
    from genpipe.related.panel_generate import generate

    return generate(request(Generate, locals()), progress=progress)
