"""Related tables as an MLflow model ("models from code"): MLflow stores this text and runs it on loading.

Nothing is pickled; the bundles and relations beside it are opened and verified by the installed genpipe.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from genpipe.errors import UsageError, unknown
from genpipe.stages.generate import check_numbers
from genpipe.stages.sample_tables import sample_tables
from genpipe.stages.train_tables import open_tables


class Generator(PythonModel):
    """predict(frame, params): the rows of one table.

    frame: empty. params: table, by default the first; rows, of the tables without parents; seed. For the same
    rows and seed the keys of all tables agree, however often and in whatever order they are asked for.
    """

    def load_context(self, context: Any) -> None:
        self.trained = open_tables(context.artifacts["tables"])
        self.names = [node.name for node in self.trained.nodes if node.schema_]
        self.last: tuple[tuple[int, int], dict[str, pa.Table]] | None = None

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        asked = {"table": self.names[0], "rows": 100, "seed": 0, **(params or {})}
        table, key = str(asked["table"]), (int(asked["rows"]), int(asked["seed"]))
        if table not in self.names:
            raise unknown("table", table, self.names, where="params")
        check_numbers(rows=(key[0], 1), seed=(key[1], 0))
        if model_input is not None and len(columns := pd.DataFrame(model_input).columns):
            raise UsageError(
                "CONDITION",
                found=f"column {columns[0]!r}",
                expected="an empty frame: related tables take no conditions",
            )
        if self.last is None or self.last[0] != key:  # the other tables are asked for next
            self.last = key, sample_tables(self.trained, rows=key[0], seed=key[1])
        return self.last[1][table].to_pandas()


set_model(Generator())
