"""The rows `generate_tables` writes, in memory: for evaluation, and for who asks the registered model."""

from __future__ import annotations

from itertools import starmap

import pyarrow as pa

from genpipe.stages.generate_tables import Writer, jobs_of, make_family
from genpipe.stages.train_tables import TrainedTables


class _Kept(Writer):
    """Keeps what it is given."""

    def _flush(self, name: str) -> None:
        pass


def sample_tables(
    trained: TrainedTables, *, rows: int | None = None, seed: int = 0, device: str = "cpu"
) -> dict[str, pa.Table]:
    """Every table with its keys; the same rows and seed give the same tables, as `generate_tables` does."""
    kept = _Kept(trained, "", seed, {})
    for made in starmap(make_family, jobs_of(trained, rows, seed, device)):
        kept.add(made)
    return {
        node.name: pa.concat_tables([node.schema_.arrow().empty_table(), *kept.held[node.name]])
        for node in trained.nodes
        if node.schema_
    }
