"""What the holdout says, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_dataset import small_dataset
from torch import Tensor

from genpipe.codecs import CODECS
from genpipe.codecs.base import fit
from genpipe.training.score import CHUNK, Scorer, spread


class Echo:
    """A family whose loss is the mean of a batch, and whose samples are the held-out rows."""

    roles = sample_roles = publishes = ("model",)
    metrics = ("nats",)

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def holdout_loss(self, nets: Any, batch: Any, rng: Any) -> dict[str, Tensor]:
        return {"nats": batch.x[:, 0].mean(), "rows": torch.tensor(float(batch.size))}

    def sample(self, nets: Any, condition: Tensor, rng: Any) -> Tensor:
        return torch.from_numpy(self.rows[np.arange(len(condition)) % len(self.rows)])


def test_pieces_of_the_holdout_count_by_their_rows(tmp_path: Path) -> None:
    """300 rows come as 256 and 44: the mean is that of all, and the mean size (256² + 44²) / 300."""
    dataset = small_dataset(str(tmp_path / "people"), rows=60, holdout=300)
    codec = fit(CODECS["tabular"], dataset.schema, dataset.batches("train"))
    real = codec.encode(dataset.table("holdout").combine_chunks().to_batches()[0], "vector")["x"]
    score = Scorer(Echo(real), dataset, codec, "vector", seed=0)  # type: ignore[arg-type]
    found = score({"model": torch.nn.Identity()}, 1)
    assert CHUNK == 256
    assert found["loss"] == found["holdout.nats"] == pytest.approx(real[:, 0].mean(), abs=1e-6)
    assert found["holdout.rows"] == pytest.approx((256**2 + 44**2) / 300)


def test_spread_is_a_share_of_that_of_real_rows() -> None:
    real = np.array([[0.0, 0.0], [2.0, 4.0]])
    assert spread(real / 4, real) == pytest.approx(0.25)
    assert spread(np.ones((3, 2)), real) == 0.0
    assert spread(real, np.ones((3, 2))) == 1.0  # real rows that are all alike


class Noise(Echo):
    """Samples that are the numbers drawn for their rows, with the condition added."""

    def sample(self, nets: Any, condition: Tensor, rng: Any) -> Tensor:
        self.most = max(getattr(self, "most", 0), len(condition))
        return rng.normal(*self.rows.shape[1:]) + condition.sum(1)[(...,) + (None,) * (self.rows.ndim - 1)]


def test_samples_drawn_in_pieces_are_those_drawn_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that 128 pixels a side take no gigabytes, and what is drawn at once changes no score."""
    dataset = small_dataset(str(tmp_path / "people"), rows=60, holdout=300)
    codec = fit(CODECS["tabular"], dataset.schema, dataset.batches("train"))
    real = codec.encode(dataset.table("holdout").combine_chunks().to_batches()[0], "vector")["x"]
    found = []
    for values in (10**9, 40 * real.shape[1]):
        monkeypatch.setattr("genpipe.training.score.VALUES", values)
        family = Noise(real)
        found.append(Scorer(family, dataset, codec, "vector", seed=0).sample({})["x"])  # type: ignore[arg-type]
        assert family.most == (1000 if values == 10**9 else 40)
    assert np.array_equal(*found)
