"""The pipeline spec: its types (spec.py), those of related tables (tables.py), and its file (reading.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpipe.pipeline.spec import Gate, Generate, PipelineSpec, Search, Source, Train

if TYPE_CHECKING:
    from genpipe.pipeline.tables import TablesSpec


def load_spec(spec: str | Path | Mapping[str, Any] | PipelineSpec) -> PipelineSpec:
    """A checked spec from a YAML file, a mapping or a spec. Raises SpecError with every problem found."""
    from genpipe.pipeline.reading import check_spec, given

    if isinstance(spec, PipelineSpec):
        check_spec(spec.model_dump(mode="json", by_alias=True, exclude_unset=True), {}, where=spec.name)
        return spec
    return check_spec(*given(spec))


def validate(spec: str | Path | Mapping[str, Any] | PipelineSpec | TablesSpec) -> PipelineSpec | TablesSpec:
    """Check a spec completely and return it; nothing is started or written. Raises SpecError.

    A spec with `tables` is one of related tables.
    """
    from genpipe.pipeline.reading import check_spec, given
    from genpipe.pipeline.tables import TablesSpec, check_tables, load_tables

    if isinstance(spec, TablesSpec):
        return load_tables(spec)
    if isinstance(spec, PipelineSpec):
        return load_spec(spec)
    data, lines, where = given(spec)
    return (check_tables if "tables" in data else check_spec)(data, lines, where)


__all__ = ["Gate", "Generate", "PipelineSpec", "Search", "Source", "Train", "load_spec", "validate"]
