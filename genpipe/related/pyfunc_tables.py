"""Related tables as an MLflow model ("models from code"): MLflow stores this text and runs it on loading.

Nothing is pickled; the bundles and relations beside it are opened and verified by the installed genpipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.models import set_model

from genpipe.bundle.generator import BLOCK_ROWS
from genpipe.errors import UsageError, unknown
from genpipe.registry.gate import guard
from genpipe.registry.package import fingerprint_of
from genpipe.registry.serving import Served, check_limits, check_published, go_on
from genpipe.related.generate import rows_of
from genpipe.related.panel_generate import sample_flat
from genpipe.related.sample import sample_tables
from genpipe.related.train import open_tables
from genpipe.settings import read_settings
from genpipe.stages.generate.shards import open_bundle
from genpipe.training.device import resolve_device


class ServedTables(Served):
    """predict(frame, params): the rows of one table. Of what was one flat table these rows again.

    frame: empty. params: table, by default the first; rows, of the tables without parents; seed. For the same
    rows and seed the keys of all tables agree, however often and in whatever order they are asked for.
    """

    def load_context(self, context: Any) -> None:
        where = context.artifacts["tables"]
        check_published(context, fingerprint_of(where))
        self.trained = open_tables(where)
        self.names = [node.name for node in self.trained.nodes if node.schema_]
        table = {} if self.trained.panel else {"table": self.names[0]}
        self.defaults = {**table, "rows": 100, "seed": 0}
        self.last: tuple[tuple[int, int], dict[str, pa.Table]] | None = None
        device = resolve_device(read_settings().device)
        for uri in self.trained.models.values():
            assert open_bundle(uri, device).nets  # built before the first two requests could do it at once
        guard(self)

    def weigh(self, columns: Sequence[str], rows: int, asked: Mapping[str, Any]) -> float:
        if not self.trained.panel and asked["table"] not in self.names:
            raise unknown("table", asked["table"][:80], self.names, where="params")
        if columns:
            raise UsageError(
                "CONDITION",
                found=f"column {columns[0][:80]!r}",
                expected="an empty frame: related tables take no conditions",
            )
        made = cells = 0.0
        for root, number in rows_of(self.trained, asked["rows"]).items():
            family = self.trained.family(root)
            if self.trained.panel:
                number = -(-number * family[0].rows // family[-1].rows)
            for node in family:
                own = number * node.rows / max(1, family[0].rows)
                made, cells = made + own, cells + own * len(node.own)
        check_limits(made, cells)
        return made / BLOCK_ROWS["tabular"]

    def make(self, frame: pd.DataFrame, asked: Mapping[str, Any]) -> pd.DataFrame:
        key, last = (asked["rows"], asked["seed"]), self.last
        if self.trained.panel:
            return sample_flat(
                self.trained, rows=key[0], seed=key[1], progress=lambda event: go_on()
            ).to_pandas()
        if last is None or last[0] != key:  # the other tables are asked for next
            made = sample_tables(self.trained, rows=key[0], seed=key[1], progress=lambda event: go_on())
            last = self.last = key, made
        return last[1][asked["table"]].to_pandas()


set_model(ServedTables())
