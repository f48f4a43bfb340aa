"""A packed critic (PacGAN) judges several rows at once: which, in which order, and the same at any split."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.families.gan import GAN, GANConfig, packed, packed_spec
from genpipe.networks.mlp import MLPConfig
from genpipe.spec import Span, TensorSpec

SPEC = TensorSpec(
    layout="vector",
    shape=(3,),
    dtype="float32",
    spans=(
        Span(name="a", start=0, size=1, kind="continuous"),
        Span(name="b", start=1, size=2, kind="categorical"),
    ),
    conditions=(2,),
)
SHAPES = {"vector": (3,), "grid": (2, 4, 4), "sequence": (5, 2)}


def game(pack: int, **changes: object) -> GAN:
    small = MLPConfig(width=8)
    return GAN(GANConfig.model_validate({"pack": pack, "generator": small, "critic": small, **changes}), SPEC)


def batch_of(rows: int) -> Batch:
    g = torch.Generator().manual_seed(0)
    choice = torch.nn.functional.one_hot(torch.randint(2, (rows,), generator=g), 2)
    x = torch.cat([torch.rand(rows, 1, generator=g), choice], 1)
    return Batch(x, torch.randint(2, (rows, 1), generator=g))


def losses(family: GAN, nets: dict, batch: Batch, rng: Draws, phase: str) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in family.loss(phase, nets, batch, rng).items()}


def test_rows_lie_side_by_side_and_channels_stay_apart() -> None:
    vector = torch.arange(12.0).view(4, 3)
    assert torch.equal(packed(vector, 2), vector.view(2, 6))
    series = torch.arange(40.0).view(4, 5, 2)
    assert torch.equal(packed(series, 2)[1], torch.cat([series[2], series[3]], 1))
    pictures = torch.arange(128.0).view(4, 2, 4, 4)
    assert torch.equal(packed(pictures, 4)[0], torch.cat(list(pictures)))
    assert packed(vector, 1) is vector


@pytest.mark.parametrize("layout", SHAPES)
def test_the_packed_spec_is_that_of_packed_rows(layout: str) -> None:
    shape = SHAPES[layout]
    spans = SPEC.spans if layout == "vector" else ()
    spec = TensorSpec.model_validate(
        {"layout": layout, "shape": shape, "dtype": "float32", "spans": spans, "conditions": (2, 3)}
    )
    wide = packed_spec(spec, 3)
    assert packed(torch.zeros(6, *shape), 3).shape == (2, *wide.shape)
    assert wide.conditions == (2, 3) * 3 and len(wide.spans) == 3 * len(spans)
    if spans:
        assert [s.start for s in wide.spans] == [0, 1, 3, 4, 6, 7]
        assert len({s.name for s in wide.spans}) == len(wide.spans)


@pytest.mark.parametrize("layout", SHAPES)
def test_a_packed_game_of_every_layout_trains_and_is_scored(layout: str) -> None:
    spec = SPEC if layout == "vector" else TensorSpec.model_validate(
        {"layout": layout, "shape": SHAPES[layout], "dtype": "float32", "conditions": (2,)}
    )  # fmt: skip
    family = GAN(GANConfig(pack=2, generator=MLPConfig(width=8), critic=MLPConfig(width=8)), spec)
    nets = family.build()
    rows = Batch(torch.rand(6, *spec.shape), torch.zeros(6, 1).long())
    for phase in family.phases:
        sum(family.loss(phase.name, nets, rows, Draws(0, total=6)).values(), torch.zeros(())).backward()
    assert all(p.grad is not None for net in nets.values() for p in net.parameters())
    scored = family.holdout_loss(nets, rows, Draws(0, total=6))
    assert all(value.isfinite() for value in scored.values())


@pytest.mark.parametrize("phase", ["critic", "generator"])
@pytest.mark.parametrize("penalty", ["r1", "gradient_penalty"])
def test_two_workers_play_the_same_game_as_one(phase: str, penalty: str) -> None:
    family, batch = game(4, penalty=penalty), batch_of(16)
    nets = family.build()
    whole = losses(family, nets, batch, Draws(3, total=16), phase)
    halves = [
        losses(
            family,
            nets,
            Batch(batch.x[start : start + 8], batch.condition[start : start + 8]),
            Draws(3, total=16, start=start, stop=start + 8),
            phase,
        )
        for start in (0, 8)
    ]
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value)


def test_the_critic_reads_the_rows_of_a_pack_together() -> None:
    """Alone each row looks real; side by side they are seen to be all the same."""
    family = game(4)
    nets, batch = family.build(), batch_of(8)
    one = Batch(batch.x[:1].expand(8, -1), batch.condition)
    scores = nets["critic"](packed(batch.x, 4), packed(batch.condition.repeat(1, 2).float(), 4))
    assert scores.shape == (2,)
    mixed, alike = (losses(family, nets, b, Draws(0, total=8), "critic") for b in (batch, one))
    assert mixed["critic"] != alike["critic"]


def test_a_batch_that_makes_no_whole_packs_says_what_to_set() -> None:
    family = game(4)
    with pytest.raises(UsageError, match=r"batch_size: 6 rows a worker in packs of 4; .*multiple of 4"):
        family.loss("critic", family.build(), batch_of(6), Draws(0, total=6))


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_any_number_of_holdout_rows_is_scored(rows: int) -> None:
    family = game(4)
    found = family.holdout_loss(family.build(), batch_of(rows), Draws(0, total=rows))
    assert set(found) == {"critic", "gap"} and all(value.isfinite() for value in found.values())


def test_samples_do_not_depend_on_the_critic() -> None:
    condition = torch.tensor([[0], [1], [1]])
    drawn = []
    for pack in (1, 4):
        family = game(pack)
        torch.manual_seed(0)
        drawn.append(family.sample(family.build(), condition, Draws(0, total=3)))
    assert torch.equal(*drawn)
