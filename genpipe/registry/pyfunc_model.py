"""The generator as an MLflow model ("models from code"): MLflow stores this text and runs it on loading.

Nothing is pickled; the weights are the bundle beside it, opened and verified by the installed genpipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model

from genpipe.bundle import Bundle
from genpipe.bundle.generator import MAX_DRAWS
from genpipe.bundle.sampling import Sampling
from genpipe.errors import UsageError
from genpipe.registry.follow import follow
from genpipe.registry.gate import guard
from genpipe.registry.serving import Served, Watched, check_columns, check_limits, check_published

AGAIN = 16  # times that rows which are given in part are drawn where they break a constraint


class ServedGenerator(Served):
    """predict(frame, params): new rows.

    frame: one new row for each of its rows, with the values it has; without columns or rows, `rows` rows.
    Values of other columns than the target make it imputation, which the publisher must have allowed.
    params: rows, seed, conditions, a JSON object of column -> value that holds for all rows, and sampling,
    one such as {"temperature": 0.8, "top_p": 0.95}.
    """

    def load_context(self, context: Any) -> None:
        self.defaults = {"rows": 100, "seed": 0, "conditions": "{}", "sampling": "{}"}
        self.bundle = Watched.open(context.artifacts["bundle"])
        check_published(context, self.bundle.fingerprint)
        self.allowed = str((getattr(context, "model_config", None) or {}).get("allow", "")).split(",")
        assert self.bundle.nets  # built before the first two requests could do it at once
        schema = self.bundle.schema
        values = schema.kind != "tabular" and int(np.prod(self.bundle.spec.shape))
        self.width = max(len(schema.names), values)
        guard(self)

    def weigh(self, columns: Sequence[str], rows: int, asked: Mapping[str, Any]) -> float:
        check_columns(columns, self.bundle.schema.names)
        self.check_allowed(columns)
        number = rows if columns and rows else asked["rows"]
        check_limits(number, number * self.width)
        self.sampled(asked)
        wanted = self.bundle.check_conditions(parse(asked["conditions"]))
        if wanted.filters:  # drawn until enough rows fit
            return MAX_DRAWS
        again = AGAIN if set(columns) - set(self.bundle.schema.conditions) else 1
        return again * number / self.bundle.block_rows

    def check_allowed(self, columns: Sequence[str]) -> None:
        """Raise UsageError for rows that are given in part, unless the publisher allows to impute them."""
        given = [name for name in columns if name not in self.bundle.schema.conditions]
        if given and "impute" not in self.allowed:
            only = ", ".join(self.bundle.schema.conditions) or "none"
            raise UsageError(
                "NOTALLOWED",
                where="frame",
                found=f"column {given[0]!r}: rows to impute, which this model's publisher does not allow",
                expected=f"an empty frame, or columns among {only}",
                fix="ask for rows with params, or have it published with --allow impute",
            )

    def sampled(self, asked: Mapping[str, Any]) -> Bundle:
        """The generator at what is asked of its sampling."""
        return self.bundle.at(Sampling.read(parse(asked["sampling"], "sampling")))

    def make(self, frame: pd.DataFrame, asked: Mapping[str, Any]) -> pd.DataFrame:
        conditions = parse(asked["conditions"])
        if len(frame.columns) and len(frame):
            return follow(self.sampled(asked), frame, conditions, seed=asked["seed"])
        return (
            self.sampled(asked).sample(asked["rows"], seed=asked["seed"], conditions=conditions).to_pandas()
        )


EXAMPLES = {"conditions": {"species": "cat"}, "sampling": {"temperature": 0.8}}


def parse(text: str, name: str = "conditions") -> dict[str, Any]:
    try:
        told = json.loads(text or "{}")
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        expected = f"JSON such as {json.dumps(EXAMPLES[name])}"
        raise UsageError("CONDITION", where=name, found=repr(text), expected=expected)
    return told


set_model(ServedGenerator())
