"""The rows `generate_tables` makes, in memory: for evaluation, and for who asks the registered model."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import pyarrow as pa

from genpipe.progress import Progress, silent
from genpipe.related.generate import generate_tables
from genpipe.requests import Generate


def sample_tables(
    model: object, *, rows: int | None = None, seed: int = 0, progress: Progress = silent
) -> dict[str, pa.Table]:
    """Every table with its keys; the same rows and seed give the same tables."""
    with TemporaryDirectory(prefix="genpipe-tables-") as scratch:
        output = f"{scratch}/tables"
        asked = Generate.of(model=str(model), rows=rows, seed=seed, output=output, workers=0)
        made = generate_tables(asked, progress=progress)
        return {name: dataset.table("generated") for name, dataset in made.items()}
