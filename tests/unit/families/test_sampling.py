"""What top_k, top_p and the guard against repeats leave to draw from, against numbers worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from math import inf, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genpipe.bundle.sampling import Sampling, controls
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.families.gan import GAN
from genpipe.families.sampling import Repeats, SampledConfig
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.recipes import RECIPES
from genpipe.spec import TensorSpec

SHARES = torch.tensor([[0.5, 0.25, 0.15, 0.1], [0.1, 0.2, 0.3, 0.4]])


def kept(**config: Any) -> list[list[bool]]:
    found = SampledConfig(family="sequence", **config).shaped(SHARES.log())
    assert torch.equal(found[found > -inf], SHARES.log()[found > -inf] / config.get("temperature", 1.0))
    return (found > -inf).tolist()


def test_top_k_keeps_the_likeliest() -> None:
    assert kept(top_k=1) == [[True, False, False, False], [False, False, False, True]]
    assert kept(top_k=2) == [[True, True, False, False], [False, False, True, True]]
    assert kept(top_k=4) == kept(top_k=9) == kept() == [[True] * 4] * 2


def test_top_p_keeps_the_fewest_that_have_the_share() -> None:
    """Of row 1 a half and a quarter have .75, of row 2 .4, .3 and .2 have .9; .7 is reached by two."""
    assert kept(top_p=0.7) == [[True, True, False, False], [False, False, True, True]]
    assert kept(top_p=0.8) == [[True, True, True, False], [False, True, True, True]]
    assert kept(top_p=1e-6) == kept(top_k=1)
    assert kept(top_p=1.0) == [[True] * 4] * 2


def test_the_temperature_counts_first() -> None:
    """At ½ the shares of row 1 are as 25 : 6.25 : 2.25 : 1, so the first two have .905; without it .75."""
    assert kept(top_p=0.9, temperature=0.5)[0] == [True, True, False, False]
    assert kept(top_p=0.9)[0] == [True, True, True, False]


def test_what_would_repeat_a_run_is_barred() -> None:
    """After a b c a b a run of three would come twice with c; of b x b nothing would."""
    seen, logits = Repeats(3), torch.zeros(2, 4)
    rows = torch.tensor([[0, 1, 2, 0, 1], [1, 3, 1, 2, 1]])
    for token in rows.unbind(1)[:-1]:
        seen.add(token)
        assert bool((seen.without(logits) == 0).all())
    seen.add(rows[:, -1])
    assert seen.without(logits).tolist() == [[0, 0, -inf, 0], [0, 0, 0, 0]]


def test_a_token_that_alone_is_possible_stays() -> None:
    seen = Repeats(2)
    for _ in range(3):
        seen.add(torch.zeros(1).long())
    assert seen.without(torch.zeros(1, 1)).tolist() == [[0.0]]


class Habit(nn.Module):
    """Says 0, 1, 2, 0, 1, 2, .. nearly surely."""

    def begin(self, c: Tensor) -> int:
        return len(c)

    def step(self, previous: Tensor | None, rows: int) -> tuple[Tensor, int]:
        logits = torch.zeros(rows, 40)
        following = torch.zeros(rows).long() if previous is None else (previous + 1) % 3
        return logits.scatter(1, following.unsqueeze(1), 9.0), rows


@pytest.mark.parametrize("length", [2, 4, 7])
def test_no_run_comes_twice_in_a_sampled_text(length: int) -> None:
    """Of 40 tokens enough may follow each run, so that a text of 40 need not repeat one."""
    spec = TensorSpec(layout="tokens", shape=(40,), dtype="int32", vocabulary=(40,))
    nets, told = {"model": Habit()}, torch.zeros(50, 0).long()
    free = SequenceModel(SequenceConfig(), spec).sample(nets, told, Draws(0, total=50))
    kept = SequenceModel(SequenceConfig(no_repeat=length), spec).sample(nets, told, Draws(0, total=50))
    assert any(len(set(runs(row, length))) < len(runs(row, length)) for row in free.tolist())
    for row in kept.tolist():
        assert len(set(runs(row, length))) == len(runs(row, length))
        assert any((a + 1) % 3 == b for a, b in pairwise(row))  # elsewhere the habit is as it was


def runs(row: list[int], length: int) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + length]) for i in range(len(row) - length + 1)]


def test_what_a_generator_has_not_is_refused_and_named() -> None:
    values = TensorSpec(layout="sequence", shape=(4, 1), dtype="float32")
    recipe = RECIPES["series_recurrent"]()
    family = SequenceModel(recipe.family, values)
    assert controls(family) == ("temperature",)
    with pytest.raises(UsageError, match=r"top_k: 3 for a .* sequence and layout sequence; .*temperature"):
        Sampling(top_k=3).on(recipe, family)
    with pytest.raises(UsageError, match=r"no_repeat: 3 for a generator of family gan; .* sequence"):
        gan = RECIPES["series_gan"]()
        Sampling(no_repeat=3).on(gan, GAN(gan.family, values))
    with pytest.raises(UsageError, match=r"top_p: 1\.5; expected .* above 0 to 1"):
        Sampling.read({"top_p": 1.5})
    with pytest.raises(UsageError, match=r"top_q: 1; expected"):
        Sampling.read({"top_q": 1})


def test_shares_of_a_draw_are_those_of_what_is_kept() -> None:
    """¼ and ¾ of two tokens out of three, the third, least likely one left out: 1 : 3 stays."""

    class Same(Habit):
        def step(self, previous: Tensor | None, rows: int) -> tuple[Tensor, int]:
            return torch.tensor([log(0.2), log(0.6), log(0.2) - 0.1]).expand(rows, -1), rows

    spec = TensorSpec(layout="tokens", shape=(3,), dtype="int32", vocabulary=(3,))
    family = SequenceModel(SequenceConfig(top_k=2), spec)
    x = family.sample({"model": Same()}, torch.zeros(20_000, 0).long(), Draws(0, total=20_000))
    assert not bool((x == 2).any())
    assert (x == 0).float().mean().item() == pytest.approx(0.25, abs=0.009)  # 5 standard deviations


def test_rows_that_have_ended_are_filled_and_sampling_stops_when_all_have() -> None:
    """Ends at the fifth token of every row, in the spec of one that ends and of one that does not."""

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = 0

        def begin(self, c: Tensor) -> int:
            self.steps = 0
            return len(c)

        def step(self, previous: Tensor | None, rows: int) -> tuple[Tensor, int]:
            self.steps += 1
            logits = torch.full((rows, 3), -50.0)
            logits[:, 0 if self.steps == 5 else 2] = 50.0
            return logits, rows

    net, told = Counted(), torch.zeros(4, 0).long()
    spec = TensorSpec(layout="tokens", shape=(100,), dtype="int32", vocabulary=(3,), ends=True)
    x = SequenceModel(SequenceConfig(), spec).sample({"model": net}, told, Draws(0, total=4))
    assert x.tolist() == [[2, 2, 2, 2] + [0] * 96] * 4 and net.steps == 16
    on = SequenceModel(SequenceConfig(), spec.model_copy(update={"ends": False}))
    assert on.sample({"model": net}, told, Draws(0, total=4))[0, 4:7].tolist() == [0, 2, 2]
    assert net.steps == 100
