"""The generator as an MLflow model ("models from code"): MLflow stores this text and runs it on loading.

Nothing is pickled; the weights are the bundle beside it, opened and verified by the installed genpipe.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from genpipe.bundle import Bundle
from genpipe.errors import UsageError
from genpipe.seeds import derive


class Generator(PythonModel):
    """predict(frame, params): new rows.

    frame: with condition columns, one new row for each of its rows; without columns or rows, `rows` rows.
    params: rows, seed, and conditions, a JSON object of column -> value that holds for all rows.
    """

    def load_context(self, context: Any) -> None:
        self.bundle = Bundle.open(context.artifacts["bundle"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        asked = {"rows": 100, "seed": 0, "conditions": "{}", **(params or {})}
        conditions = parse(asked["conditions"])
        frame = pd.DataFrame() if model_input is None else pd.DataFrame(model_input)
        if not len(frame.columns) or not len(frame):
            table = self.bundle.sample(int(asked["rows"]), seed=int(asked["seed"]), conditions=conditions)
            return table.to_pandas()
        made = []
        groups = frame.groupby(list(frame.columns), dropna=False, sort=True)
        for number, (values, rows) in enumerate(groups):
            own = {
                name: value for name, value in zip(frame.columns, values, strict=True) if not pd.isna(value)
            }
            seed = derive(int(asked["seed"]), "predict", number)
            sample = self.bundle.sample(len(rows), seed=seed, conditions=conditions | own)
            made.append(sample.to_pandas().set_index(rows.index))
        return pd.concat(made).loc[frame.index]


def parse(text: str) -> dict[str, Any]:
    try:
        conditions = json.loads(text or "{}")
    except ValueError:
        conditions = None
    if not isinstance(conditions, dict):
        raise UsageError(
            "CONDITION", where="conditions", found=repr(text), expected='JSON such as {"species": "cat"}'
        )
    return conditions


set_model(Generator())
