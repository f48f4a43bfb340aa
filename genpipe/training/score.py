"""The holdout's verdict on a generator in training: what early stopping, search and the screen watch.

Samples go the whole way back (`family.sample`, `codec.decode`) and are compared as records, so that the
score means the same for every family and layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from genpipe.batch import to_arrays, to_batch
from genpipe.codecs.base import Arrays, Codec
from genpipe.dataset import Dataset
from genpipe.draws import Draws
from genpipe.errors import DataError, QualityError
from genpipe.evaluation import Fidelity
from genpipe.families.base import Family
from genpipe.seeds import numpy_rng
from genpipe.training.data import join
from genpipe.training.guard import SPREAD

ROWS = 1000
STEPS = 2**15  # rows x positions that may be sampled one after the other
CHUNK = 256
VALUES, LEAST = 2**18, 32  # sampled at once, of rows that do not depend on one another; so many rows at least


class Scorer:
    """Call it with networks: fidelity to the holdout, the family's holdout loss and the spread of samples.

    Every call draws the same conditions and the same noise, so two scores differ by the networks alone.
    """

    def __init__(
        self, family: Family, dataset: Dataset, codec: Codec, layout: str, *, seed: int, device: str = "cpu"
    ) -> None:
        self.family, self.codec, self.layout, self.seed, self.device = family, codec, layout, seed, device
        self.spec = codec.spec(layout)
        positions = self.spec.shape[0] if layout in ("tokens", "sequence") else 1
        self.rows = min(ROWS, max(128, STEPS // positions))
        real = validation_rows(dataset)
        self.fidelity = Fidelity(real, dataset.schema, seed=seed)
        self.real: Arrays = codec.encode(real.combine_chunks().to_batches()[0], layout)

    def __call__(self, nets: Mapping[str, nn.Module], step: int) -> dict[str, float]:
        try:
            arrays = self.sample(nets)
        except QualityError:
            return {"fidelity": float("nan")}  # the guard's business
        found = {SPREAD: spread(arrays["x"], self.real["x"])}
        if np.isfinite(arrays["x"]).all():
            batch = self.codec.decode(arrays, self.layout, numpy_rng(self.seed, "score", "decode"))
            try:
                found["fidelity"] = self.fidelity.score(pa.Table.from_batches([batch]))
            except QualityError:
                found["fidelity"] = float("nan")  # the guard's business
        if not set(self.family.roles) <= set(nets):
            return found  # what is published has no critic any more to ask
        losses = self.holdout_losses(nets)
        return found | {"loss": next(iter(losses.values()))} | {f"holdout.{n}": v for n, v in losses.items()}

    @torch.no_grad()
    def sample(self, nets: Mapping[str, nn.Module]) -> Arrays:
        """Encoded samples under conditions drawn as often as the training split has them."""
        conditions = self.codec.draw_conditions(self.rows, numpy_rng(self.seed, "score", "conditions"))
        condition = torch.from_numpy(conditions).to(self.device).long()
        if self.spec.layout == "tokens":  # drawn evenly over all of them
            rng = Draws(self.seed, "score", "sample", total=self.rows, device=self.device)
            return to_arrays(self.family.sample(nets, condition, rng), condition, self.spec)
        at_once = max(LEAST, VALUES // math.prod(self.spec.shape))
        parts = []
        for start in range(0, self.rows, at_once):
            stop = min(self.rows, start + at_once)
            rng = Draws(
                self.seed, "score", "sample", total=self.rows, start=start, stop=stop, device=self.device
            )
            asked = condition[start:stop]
            parts.append(to_arrays(self.family.sample(nets, asked, rng), asked, self.spec))
        return join(parts)

    @torch.no_grad()
    def holdout_losses(self, nets: Mapping[str, nn.Module]) -> dict[str, float]:
        total = len(self.real["x"])
        sums: dict[str, float] = {}
        for start in range(0, total, CHUNK):
            stop = min(total, start + CHUNK)
            batch = to_batch({k: a[start:stop] for k, a in self.real.items()}, self.spec, self.device)
            rng = Draws(self.seed, "score", "loss", total=total, start=start, stop=stop, device=self.device)
            for name, value in self.family.holdout_loss(nets, batch, rng).items():
                sums[name] = sums.get(name, 0.0) + float(value) * (stop - start) / total
        return sums


def spread(samples: np.ndarray, real: np.ndarray) -> float:
    """How much samples vary from row to row, as a share of how much real rows do; 1 where those do not."""
    wide = float(real.std(axis=0, dtype=np.float64).mean())
    return float(samples.std(axis=0, dtype=np.float64).mean()) / wide if wide > 0 else 1.0


def validation_rows(dataset: Dataset) -> pa.Table:
    """The holdout's rows that training may choose by (`Dataset.validation`)."""
    total = dataset.rows("holdout")
    if total < 2:
        raise DataError(
            "NOHOLDOUT",
            where=dataset.uri,
            found=f"{total} rows in the holdout split",
            expected="at least 2, to score a model on rows it has not seen",
            fix="ingest more rows, or raise holdout",
        )
    return dataset.rows_at("holdout", dataset.validation)
