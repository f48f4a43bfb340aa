"""Sequential classification trees: p(x) = Π p(x_t | x_<t, condition), one tree a table column, whose leaves
hold the shares of the column's codes.

The method of synthpop (Reiter 2005, "Using CART to Generate Partially Synthetic Public Use Microdata",
Journal of Official Statistics 21; Nowok, Raab & Dibben 2016, "synthpop", Journal of Statistical Software 74),
where a leaf keeps its training rows. Here it keeps shares, and these lean on those of its ancestors (m-branch
smoothing: Ferri, Flach & Hernández-Orallo 2003, "Improving the AUC of Probabilistic Estimation Trees"), so
that no handful of rows speaks alone. Nothing is trained by gradients: `finish` fits all there is.

B rows · T columns · L leaves at most · N = L - 1 inner nodes · V codes of all columns together
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from genpipe.batch import Batch
from genpipe.draws import Draws, cumulated
from genpipe.families import cart
from genpipe.families.base import Nets, Phase, without_barred
from genpipe.families.sampling import SampledConfig
from genpipe.spec import TensorSpec

CELLS = 2**24  # leaves x codes of a forest: 64 MB
MOST_ROWS = 1_000_000


class TreesConfig(SampledConfig):
    """leaf_minimum: training rows in a leaf, at least. leaves: of a tree, at most (fewer where columns have
    more codes than `CELLS` would hold).

    smoothing: rows' worth of its parent's shares that each node's own are mixed with; 0 mixes nothing in.
    code_minimum: a leaf says how often a code comes if so many of its rows have it; of rarer ones it has only
    the sum, dealt out as in its parent. 1 lets every single row speak.
    Without a number as `suited.fitted_to` says.
    prune: trees are cut back to what left-out rows confirm (`cart.pruned`); without a word, those of few rows
    (`suited.fitted_to`).
    given: columns, the first ones, that are given to every row it ever makes, and so not learnt.
    shared: columns, the first of these, that all rows about one entity have in common: such rows are left out
    together.
    """

    family: Literal["trees"] = "trees"
    leaf_minimum: int = Field(
        default=20, ge=2, le=1_000_000, json_schema_extra={"search": {"choices": [10, 20, 50, 100]}}
    )
    leaves: int = Field(
        default=256, ge=2, le=65_536, json_schema_extra={"search": {"choices": [64, 128, 256, 512]}}
    )
    smoothing: float = Field(
        default=20.0, ge=0, le=1e9, json_schema_extra={"search": {"low": 5.0, "high": 100.0, "log": True}}
    )
    code_minimum: int | None = Field(default=None, ge=1, le=1_000_000)
    prune: bool | None = None
    given: int = Field(default=0, ge=0, le=2**31, exclude_if=lambda given: given == 0)
    shared: int = Field(default=0, ge=0, le=2**31, exclude_if=lambda shared: shared == 0)

    @field_validator("leaf_minimum", "smoothing", mode="before")
    @classmethod
    def _read_older(cls, value: Any, info: ValidationInfo) -> Any:
        """None, as recipes of an earlier version have where they left it to the data."""
        return cls.model_fields[str(info.field_name)].default if value is None else value


class Forest(nn.Module):
    """One tree a column. Unfitted, each is a single leaf with the column's shares.

    feature, threshold, left, right: (T, N), of inner nodes, the root first: a row goes left if its value of
    `seen` is at most the threshold. A child is an inner node, or -1 - leaf. shares: (L, V).
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    shares: Tensor

    def __init__(self, spec: TensorSpec, leaves: int) -> None:
        super().__init__()
        self.spec, self.ends = spec, [0, *accumulate(spec.vocabulary)]
        leaves = max(2, min(leaves, CELLS // self.ends[-1]))
        for name, value in (("feature", 0), ("threshold", 0), ("left", -1), ("right", -1)):
            self.register_buffer(name, torch.full((spec.shape[0], leaves - 1), value))
        shares = spec.frequencies or tuple((1 / size,) * size for size in spec.vocabulary)
        self.register_buffer("shares", torch.tensor([s for own in shares for s in own]).repeat(leaves, 1))
        self.register_load_state_dict_post_hook(_check_loaded)  # type: ignore[no-untyped-call]

    def predict(self, t: int, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Each row's leaf in the tree of column t, (B,), and the shares it holds, (B, codes of the column).

        seen: (B, 1 + K + t) whole numbers: 0, the condition, the columns before t.
        """
        feature, threshold, left, right = self.feature[t], self.threshold[t], self.left[t], self.right[t]
        at = torch.zeros_like(seen[:, 0])
        for _ in range(len(feature)):
            inner = at >= 0
            if not inner.any():
                break
            node = at.clamp_min(0)
            goes_left = seen.gather(1, feature[node, None]).squeeze(1) <= threshold[node]
            at = torch.where(inner, torch.where(goes_left, left[node], right[node]), at)
        leaf = -1 - at
        return leaf, self.shares[leaf, self.ends[t] : self.ends[t + 1]]

    def fit(
        self, t: int, seen: np.ndarray, codes: np.ndarray, config: TreesConfig, fold: np.ndarray, *, seed: int
    ) -> None:
        """Grow the tree of column t for its codes (B,), given `seen` as in `predict`; fold: `cart.folds`."""
        size = self.spec.vocabulary[t]
        ordered = bool(self.spec.ordered) and self.spec.ordered[t]
        least, criterion = config.code_minimum or 1, "log_loss" if config.prune else "gini"
        growth = cart.Growth(config.leaf_minimum, len(self.shares), config.smoothing, least, criterion)
        told = (seen, codes, cart.coarse(codes, size, ordered=ordered), size, growth)
        tree = cart.pruned(*told, fold, seed=seed) if config.prune else cart.grown(*told, seed=seed)
        inner = tree.left >= 0
        number = np.where(inner, inner.cumsum() - 1, -(~inner).cumsum())
        for mine, found in (
            (self.feature, tree.feature[inner]),
            (self.threshold, tree.threshold[inner]),
            (self.left, number[tree.left[inner]]),
            (self.right, number[tree.right[inner]]),
        ):
            mine[t, : len(found)] = torch.from_numpy(found.astype(np.int64))
        shares = tree.shares(growth)[~inner]
        self.shares[: len(shares), self.ends[t] : self.ends[t + 1]] = torch.from_numpy(shares)


def _check_loaded(forest: Forest, _: Any) -> None:
    """Raise a ValueError unless every walk from a root ends in a leaf and looks only at what it is given."""
    columns, nodes = forest.feature.shape
    seen = 1 + len(forest.spec.conditions) + torch.arange(columns).unsqueeze(1)
    node = torch.arange(nodes)
    sound = (forest.feature >= 0) & (forest.feature < seen)
    for child in (forest.left, forest.right):  # inner nodes come after their parents
        sound &= torch.where(child >= 0, child > node, -1 - child < len(forest.shares)) & (child < nodes)
    if not bool(sound.all()):
        column, at = sound.logical_not().nonzero()[0].tolist()
        raise ValueError(f"node {at} of the tree of column {column} leads nowhere")
    if bool((forest.shares < 0).any()):
        raise ValueError("shares below 0")


class Trees:
    Config: ClassVar[type[Any]] = TreesConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"columns"})
    network_roles: ClassVar[Mapping[str, str]] = {}
    roles: ClassVar[tuple[str, ...]] = ("model",)
    sample_roles: ClassVar[tuple[str, ...]] = ("model",)
    publishes: ClassVar[tuple[str, ...]] = ("model",)
    metrics: ClassVar[tuple[str, ...]] = ("nats", "nats_per_position")
    has_temperature: ClassVar[bool] = True
    controls: ClassVar[tuple[str, ...]] = ("temperature", "top_k", "top_p")
    phases: tuple[Phase, ...] = ()
    takes_observed = "first"

    def __init__(self, config: TreesConfig, spec: TensorSpec) -> None:
        self.config, self.spec = config, spec

    def build(self) -> dict[str, nn.Module]:
        return {"model": Forest(self.spec, self.config.leaves)}

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """There is no phase to ask for."""
        return {}

    def finish_rows(self, rows: int) -> int:
        """Every row once: a row seen twice would count twice towards a leaf's minimum."""
        return min(rows, MOST_ROWS)

    @torch.no_grad()
    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Fit every tree to the rows of the batch."""
        forest, codes = nets["model"], batch.x.cpu().numpy()
        assert isinstance(forest, Forest)
        given = seen_first(batch.condition).cpu().numpy()
        seen = np.asfortranarray(np.concatenate([given, codes], 1), dtype=np.float32)  # read by columns
        first = self.config.shared
        rows = np.concatenate([given, codes[:, :first] if first else codes], 1)
        fold = cart.folds(rows, together=first > 0)
        for t in range(self.config.given, codes.shape[1]):
            seed = int(torch.randint(2**31, (1,), generator=rng.generator))
            forest.fit(t, seen[:, : given.shape[1] + t], codes[:, t], self.config, fold, seed=seed)

    @torch.no_grad()
    def sample(self, nets: Nets, condition: Tensor, rng: Draws, observed: Tensor | None = None) -> Tensor:
        """Rows of one leaf draw its shares nearly exactly (`Draws.systematic`). observed: see
        `PartialConditioning`.
        """
        forest, seen = nets["model"], seen_first(condition)
        assert isinstance(forest, Forest)
        for t in range(self.spec.shape[0]):
            leaf, shares = forest.predict(t, seen)
            logits = self.config.shaped(shares.log())
            if observed is not None:
                logits = without_barred(logits, observed[:, t])
            drawn = rng.systematic(cumulated(logits), leaf)
            if observed is not None:
                drawn = torch.where(observed[:, t] >= 0, observed[:, t], drawn)
            seen = torch.cat([seen, drawn.unsqueeze(1)], 1)
        return seen[:, -self.spec.shape[0] :]

    @torch.no_grad()
    def log_probability(self, nets: Nets, observed: Tensor, condition: Tensor) -> Tensor:
        forest, x = nets["model"], observed.clamp_min(0)
        assert isinstance(forest, Forest)
        seen = torch.cat([seen_first(condition), x], 1)
        before, out = seen.shape[1] - x.shape[1], torch.zeros(x.shape, device=x.device)
        for t in range(self.config.given, x.shape[1]):
            _, shares = forest.predict(t, seen[:, : before + t])
            out[:, t] = shares.gather(1, x[:, t, None]).squeeze(1).clamp_min(cart.SMALLEST).log()
        return torch.where(observed >= 0, out, 0.0)

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Nats per row, and per column."""
        nll = -self.log_probability(nets, batch.x, batch.condition).sum(1).mean()
        return {"nats": nll, "nats_per_position": nll / self.spec.shape[0]}


def seen_first(condition: Tensor) -> Tensor:
    """(B, 1 + K): a constant, for the column that has nothing else to go by, and the condition."""
    return nn.functional.pad(condition, (1, 0))
