"""What a codec of tables offers beside encode and decode: its columns one by one."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import Arrays, Codec
from genpipe.codecs.columns import Column, Learnt
from genpipe.codecs.tabular.relations import Relations


class ColumnCodec(Codec):
    """A codec that learns a record column by column, so that some of it may be given and the rest be made.

    columns: all, in order; learnt: those that take positions. relations: what holds between them.
    """

    columns: tuple[Column, ...]
    learnt: tuple[Learnt, ...]
    relations: Relations

    def reduce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return self.relations.reduce(batch)

    @property
    @abstractmethod
    def positions(self) -> list[tuple[Learnt, int, int]]:
        """(column, first, last + 1) of each learnt column's positions as tokens."""

    @abstractmethod
    def observed(self, batch: pa.RecordBatch, *, fill: bool) -> np.ndarray:
        """(B, T) tokens that follow from the columns a batch has; UNOBSERVED where there is none."""

    @abstractmethod
    def holds(self, batch: pa.RecordBatch) -> np.ndarray:
        """(B,) whether each row of the schema holds its constraints and dependencies."""

    @abstractmethod
    def decode(
        self, arrays: Arrays, layout: str, rng: np.random.Generator, given: pa.RecordBatch | None = None
    ) -> pa.RecordBatch:
        """given: values of some columns that stay as they are; what follows from them is made from them."""
