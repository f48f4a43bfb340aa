"""The verbs on a generator, one door for whoever asks: the library, the command line and the flows.

A verb looks at what it is handed. A set of related tables (a spec with `tables`, or what was made of one)
goes to genpipe/related/, all else to genpipe/stages/, where the options are described. What a verb needs is
loaded when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genpipe.dataset import Dataset
    from genpipe.evaluation.report import Report
    from genpipe.pipeline import PipelineSpec
    from genpipe.registry import Registered
    from genpipe.related.generate import GeneratedTables
    from genpipe.related.spec import TablesSpec
    from genpipe.related.train import TrainedTables
    from genpipe.stages.train.process import TrainedModel


def train(data: Any, **options: Any) -> TrainedModel | TrainedTables:
    """Train a generator of a dataset (stages/train/verb.py), or of related tables from their spec: a YAML
    file, a mapping or a TablesSpec (related/train.py).
    """
    if _is_spec(data):
        from genpipe.related.train import train_tables

        return train_tables(data, **options)
    from genpipe.stages.train.verb import train

    return train(data, **options)


def evaluate(model: object, dataset: object = None, **options: Any) -> Report:
    """Judge a generator by held-out rows (stages/evaluate/verb.py), or one of related tables by held-out
    families (related/evaluate.py), where another such model takes the place of a dataset.
    """
    if _of_tables(model):
        from genpipe.related.evaluate import evaluate_tables

        return evaluate_tables(model, dataset, **_without(options, "real_examples", "folds"))
    from genpipe.stages.evaluate.verb import evaluate

    return evaluate(model, dataset, **options)  # type: ignore[arg-type]


def evaluate_or_say(model: object, dataset: object = None, **options: Any) -> Report:
    """`evaluate`, which `unchecked=REASON` lets go on where too few entities tell nothing."""
    from genpipe.stages.checked import unless_unchecked

    return unless_unchecked(evaluate, model, dataset, **options)


def register(model: object, **options: Any) -> Registered:
    """Give a generator a name and a version in MLflow (stages/register.py, related/register.py)."""
    if _of_tables(model):
        from genpipe.related.register import register_tables

        return register_tables(model, **options)
    from genpipe.stages.register import register

    return register(model, **options)


def generate(model: object, **options: Any) -> Dataset | GeneratedTables:
    """Generate rows (stages/generate/verb.py), or related tables (related/generate.py)."""
    if _of_tables(model):
        from genpipe.related.generate import generate_tables

        return generate_tables(model, **options)
    from genpipe.stages.generate.verb import generate

    return generate(model, **options)


def validate(spec: str | Path | Mapping[str, Any] | PipelineSpec | TablesSpec) -> PipelineSpec | TablesSpec:
    """Check a spec completely and return it; nothing is started or written. Raises SpecError.

    A spec with `tables` is one of related tables.
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


def _of_tables(model: object) -> bool:
    """Whether a generator, as whoever made or names it gives it, is one of related tables."""
    from genpipe.registry import holds_tables, resolve

    uri = str(model)
    return resolve(uri).tables if uri.startswith("models:") else holds_tables(uri)


def _is_spec(data: Any) -> bool:
    """Whether it is a spec and no dataset."""
    if isinstance(data, str | Path):
        return str(data).endswith((".yaml", ".yml"))
    return isinstance(data, Mapping) or hasattr(data, "tables")


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}
