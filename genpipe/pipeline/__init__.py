"""The pipeline spec: its types (spec.py), and its file (reading.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genpipe.pipeline.spec import Gate, Generate, PipelineSpec, Search, SourceSpec, Train


def load_spec(spec: str | Path | Mapping[str, Any] | PipelineSpec) -> PipelineSpec:
    """A checked spec from a YAML file, a mapping or a spec. Raises SpecError with every problem found.

    What this has returned is not checked again.
    """
    from genpipe.pipeline.reading import check_spec, given

    if isinstance(spec, PipelineSpec):
        if not spec._checked:
            check_spec(spec.model_dump(mode="json", by_alias=True, exclude_unset=True), {}, where=spec.name)
            spec._checked = True
        return spec
    return check_spec(*given(spec))


__all__ = ["Gate", "Generate", "PipelineSpec", "Search", "SourceSpec", "Train", "load_spec"]
