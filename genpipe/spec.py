"""What a network may know of the data: a layout, a shape and where each field lies. Never a column.

Layouts (without the batch axis):  vector (D,) · grid (C, H, W) · sequence (T, C) · tokens (T,)
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Layout = Literal["vector", "grid", "sequence", "tokens"]
LAYOUTS: tuple[str, ...] = ("vector", "grid", "sequence", "tokens")
UNOBSERVED = -1  # in place of a token: not given, to be drawn
RANK = {"vector": 1, "grid": 3, "sequence": 2, "tokens": 1}


class Span(BaseModel):
    """Columns [start, start+size) of a vector: one scalar in [-1, 1], or a one-hot choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    start: int
    size: int
    kind: Literal["continuous", "categorical"]


class TensorSpec(BaseModel):
    """The contract between a codec and the networks.

    vocabulary: for tokens only. One number = shared by all positions (text); T numbers = one per
        position (a table, one column a position).
    frequencies: where positions have their own vocabulary, the share of each token in the training split.
    sizes: of a vocabulary that all positions share, how many characters each token stands for; () = one.
    ends: whether token 0 ends a row, after which nothing counts.
    ordered: positions whose tokens are ranks of a quantity.
    spans: for vector only; they tile [0, D) in order.
    conditions: number of classes of each condition field; a Batch's `condition` is (B, K) integers.
    periods: of series, the longest first, which the others divide. Then the last condition is the place in
        the longest at which a series begins, and it moves on by one a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    layout: Layout
    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8", "int32"]
    spans: tuple[Span, ...] = ()
    vocabulary: tuple[int, ...] = ()
    frequencies: tuple[tuple[float, ...], ...] = ()
    sizes: tuple[int, ...] = ()
    ends: bool = False
    ordered: tuple[bool, ...] = ()
    conditions: tuple[int, ...] = ()
    periods: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> TensorSpec:
        if len(self.shape) != RANK[self.layout]:
            raise ValueError(f"layout {self.layout} has rank {RANK[self.layout]}, got shape {self.shape}")
        if self.layout == "tokens" and len(self.vocabulary) not in (1, self.shape[0]):
            raise ValueError(f"tokens need one vocabulary or one per position, got {len(self.vocabulary)}")
        if self.frequencies and tuple(map(len, self.frequencies)) != self.vocabulary:
            raise ValueError("frequencies need one share per token of every position")
        if self.sizes and (len(self.sizes),) != self.vocabulary:
            raise ValueError("sizes need one number per token of one vocabulary")
        if self.periods and self.conditions[-1:] != self.periods[:1]:
            raise ValueError("periods need the place in the longest as the last condition")
        if self.layout == "vector" and sum(s.size for s in self.spans) != self.shape[0]:
            raise ValueError(f"spans cover {sum(s.size for s in self.spans)} of {self.shape[0]} columns")
        return self
