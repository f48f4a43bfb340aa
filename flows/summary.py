"""What a finished step or pipeline has to say for itself, as one small JSON-able value."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from genpipe.dataset import Dataset


class Summary(BaseModel):
    """Every part is what its step returned. seconds: by stage. fixed: seconds that were not work."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    dataset: dict[str, Any]
    study: dict[str, Any] | None = None
    model: dict[str, Any]
    report: dict[str, Any]
    registered: dict[str, Any] | None = None
    generated: dict[str, Any] | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    fixed: dict[str, float] = Field(default_factory=dict)


def describe(dataset: Dataset) -> dict[str, Any]:
    """A dataset as a small value that can travel between steps."""
    rows = {split: dataset.rows(split) for split in ("train", "holdout", "generated") if dataset.rows(split)}
    return {
        "uri": dataset.uri,
        "name": dataset.name,
        "kind": dataset.schema.kind,
        "fingerprint": dataset.fingerprint,
        "notices": dataset.notices,
        **rows,
    }
