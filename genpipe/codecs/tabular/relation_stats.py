"""What is known of the relations of a table's columns: pairs that are looked up, rows that break rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from genpipe.codecs.holders import Holders, merge_holders
from genpipe.codecs.sketch import add_counts, hash_rows
from genpipe.codecs.tabular.dependencies import Found, merge_dependencies
from genpipe.codecs.tabular.lookups import Pairs, coded, count_pairs, from_plain, plain, together
from genpipe.errors import DataError
from genpipe.fields import AnyField


@dataclass(frozen=True)
class RelationStats:
    """pairs: of each column that is looked up, and holders: who has each, where entities are named. broken:
    rows that break each inequality or sum."""

    pairs: dict[str, Pairs] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    found: Found = field(default_factory=dict)
    holders: dict[str, Holders] = field(default_factory=dict)

    def merge(self, other: RelationStats) -> RelationStats:
        return RelationStats(
            {name: add_counts(pairs, other.pairs[name]) for name, pairs in self.pairs.items()},
            add_counts(self.broken, other.broken),
            merge_dependencies(self.found, other.found),
            merge_holders(self.holders, other.holders),
        )

    def held(self, name: str, sources: Sequence[AnyField], made: AnyField) -> Pairs:
        """How many entities are known to have each pair of a column that the schema says is looked up."""
        pairs = self.pairs[name]
        if name not in self.holders or not pairs:
            return pairs
        keys, partners = zip(*pairs, strict=True)
        one = plain(from_plain(list(keys), sources[0])) if len(sources) == 1 else pa.array(keys, pa.string())
        hashed = hash_rows([one, plain(from_plain(list(partners), made))], len(pairs))
        return dict(zip(pairs, self.holders[name].count(hashed).tolist(), strict=True))


def observe_pairs(
    keys: list[pa.Array], partners: pa.Array, who: np.ndarray | None, k: int
) -> tuple[Pairs, Holders | None]:
    """(how many rows have each pair, and who has). who: whom each row is about; None = one of its own."""
    key = plain(keys[0]) if len(keys) == 1 else together(keys)
    pairs = count_pairs(coded(key), coded(partners))
    if who is None:
        return pairs, None
    return pairs, Holders.of(hash_rows([key, plain(partners)], len(who)), who, least=k)


def check_broken(broken: dict[str, int], rows: int) -> None:
    """A constraint that most of the training rows break is an error."""
    for label, bad in broken.items():
        if 2 * bad > rows:
            raise DataError(
                "CONSTRAINT",
                where=label,
                found=f"{bad} of {rows} training rows break it",
                expected="at most half of them",
                fix="correct or remove the constraint in the schema file, or correct the data",
            )
