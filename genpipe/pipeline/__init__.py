"""The pipeline spec: its types (spec.py) and its file (reading.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genpipe.pipeline.spec import Gate, Generate, PipelineSpec, Search, Source, Train


def load_spec(spec: str | Path | Mapping[str, Any] | PipelineSpec) -> PipelineSpec:
    """A checked spec from a YAML file, a mapping or a spec. Raises SpecError with every problem found."""
    from genpipe.pipeline.reading import check_spec, read_spec

    if isinstance(spec, PipelineSpec):
        check_spec(spec.model_dump(mode="json", by_alias=True, exclude_unset=True), {}, where=spec.name)
        return spec
    data, lines, where = (dict(spec), {}, "spec") if isinstance(spec, Mapping) else read_spec(Path(spec))
    return check_spec(data, lines, where=where)


def validate(spec: str | Path | Mapping[str, Any] | PipelineSpec) -> PipelineSpec:
    """Check a spec completely and return it; nothing is started or written. Raises SpecError."""
    return load_spec(spec)


__all__ = ["Gate", "Generate", "PipelineSpec", "Search", "Source", "Train", "load_spec", "validate"]
