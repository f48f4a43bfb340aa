"""The class of a row given some of its columns, by Bayes' rule, against numbers worked out by hand.

Class a comes three times as often as b. Column 1 is token 1 with share ¾ in class a and ½ in class b.
"""

from __future__ import annotations

from math import inf, log

import pytest
import torch
from torch import nn

from genpipe.bundle.observed import draw_condition, log_share
from genpipe.codecs.conditions import ConditionTable
from genpipe.draws import Draws
from genpipe.families.trees import Forest, Trees, TreesConfig
from genpipe.spec import UNOBSERVED, TensorSpec

TABLE = ConditionTable.from_counts(("class",), {("a",): 30, ("b",): 10})
SPEC = TensorSpec(layout="tokens", shape=(1,), dtype="int32", vocabulary=(2,), conditions=(2,))
ROWS = 1000


def nets() -> dict[str, nn.Module]:
    forest = Forest(SPEC, 2)
    forest.feature[:], forest.left[:], forest.right[:] = 1, -1, -2  # by the class
    forest.shares[:] = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    return {"model": forest}


@pytest.mark.parametrize(
    ("token", "share"), [(UNOBSERVED, 0.25), (1, 0.5 / (0.5 + 3 * 0.75)), (0, 0.5 / (0.5 + 3 * 0.25))]
)
def test_a_class_is_drawn_by_its_share_times_the_odds_of_what_is_known(token: int, share: float) -> None:
    known, free = torch.full((ROWS, 1), token), torch.full((ROWS, 1), UNOBSERVED)
    drawn = draw_condition(Trees(TreesConfig(), SPEC), nets(), TABLE, known, free, Draws(0, total=ROWS))
    assert drawn.float().mean().item() == pytest.approx(share, abs=0.003)


def test_a_class_that_is_told_stays() -> None:
    told = (torch.arange(ROWS) % 2).unsqueeze(1)
    known = torch.zeros(ROWS, 1).long()
    assert torch.equal(
        draw_condition(Trees(TreesConfig(), SPEC), nets(), TABLE, known, told, Draws(0, total=ROWS)), told
    )


def test_the_share_of_a_class_is_that_of_the_training_split() -> None:
    pairs = ConditionTable.from_counts(("one", "two"), {("a", "x"): 3, ("b", "y"): 1})
    found = log_share(pairs, torch.tensor([[0, 0], [1, 1], [0, 1]]))
    assert found.tolist() == pytest.approx([log(0.75), log(0.25), -inf])
