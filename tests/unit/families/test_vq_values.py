"""Quantisers and the two trainings of VQ, against numbers worked out by hand."""

from __future__ import annotations

from math import log, pi
from typing import Any

import pytest
import torch
from told import Given
from torch import Tensor, nn

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.families.base import Nets
from genpipe.families.quantise import REVIVAL, Codebook, FiniteScalar
from genpipe.families.vq import VQ, VQConfig
from genpipe.networks.convolutional import Conv1dConfig
from genpipe.spec import TensorSpec
from genpipe.training.optim import AdamW

FAR = 50.0  # where tanh is flat
SPEC = TensorSpec(layout="sequence", shape=(4, 1), dtype="float32", conditions=(2,))
NONE = torch.zeros(2, 1, dtype=torch.long)


def column(*values: float) -> Tensor:
    """(1, Z, 1): one code at one position."""
    return torch.tensor(values).view(1, -1, 1)


@pytest.mark.parametrize(
    ("levels", "z", "value", "token"),
    [
        ((3,), (0.0,), (0.0,), 1),  # -1, 0, 1 are tokens 0, 1, 2
        ((3,), (FAR,), (1.0,), 2),
        ((3,), (-FAR,), (-1.0,), 0),
        ((4,), (0.0,), (0.0,), 2),  # an even number: -1, -½, 0, ½
        ((4,), (-0.1,), (0.0,), 2),  # 1.5 tanh(.346 - .1) - ½ = -.14
        ((4,), (FAR,), (0.5,), 3),
        ((4,), (-FAR,), (-1.0,), 0),
        ((3, 4), (FAR, -FAR), (1.0, -1.0), 2),  # the first number counts by 1, the second by 3
        ((3, 4), (-FAR, FAR), (-1.0, 0.5), 9),
    ],
)
def test_a_number_is_rounded_to_the_nearest_level(
    levels: tuple[int, ...], z: tuple[float, ...], value: tuple[float, ...], token: int
) -> None:
    codes, tokens = FiniteScalar(levels)(column(*z))
    assert codes.flatten().tolist() == pytest.approx(value) and tokens.item() == token


@pytest.mark.parametrize("levels", [(2,), (8, 6, 5), (3, 4, 2)])
def test_every_token_has_a_code_of_its_own_that_stays_what_it_is(levels: tuple[int, ...]) -> None:
    quantiser = FiniteScalar(levels)
    tokens = torch.arange(quantiser.codes).unsqueeze(0)
    codes = quantiser.values(tokens)
    assert codes.shape == (1, len(levels), quantiser.codes) and len(codes[0].t().unique(dim=0)) == len(
        tokens[0]
    )
    reach, offset, shift, size = (
        getattr(quantiser, n).view(1, -1, 1) for n in ("reach", "offset", "shift", "size")
    )
    z = ((codes * (size // 2) + offset) / reach).atanh() - shift
    torch.testing.assert_close(quantiser(z)[0], codes)
    assert torch.equal(quantiser(z)[1], tokens)


def test_the_gradient_passes_through_the_rounding() -> None:
    """Of three levels: d/dz 1.001 tanh(z) at 0 is 1.001, as if nothing were rounded."""
    z = column(0.0).requires_grad_()
    FiniteScalar((3,))(z)[0].sum().backward()
    assert z.grad is not None and z.grad.item() == pytest.approx(1.001)


def book(*codes: float) -> Codebook:
    made = Codebook(len(codes), 1, 0.25)
    made.book.data = torch.tensor(codes).unsqueeze(1)
    return made


def test_the_nearest_code_is_taken_and_both_are_drawn_together() -> None:
    """z = .4, codes 0 and 1: token 0, codebook .16, commitment .25 · .16; the code drawn beside it (1, as the
    first of the seed's numbers says) adds .01 · .36.
    """
    found, z = book(0.0, 1.0), column(0.4).requires_grad_()
    codes, tokens = found(z)
    assert codes.item() == pytest.approx(0.0) and tokens.item() == 0
    seed = next(s for s in range(9) if Draws(s, total=1).integers(2, 1).item() == 1)
    terms = found.terms(z, tokens, Draws(seed, total=1))
    assert terms["codebook"].item() == pytest.approx(0.16 + REVIVAL * 0.36)
    assert terms["commitment"].item() == pytest.approx(0.04)
    (codes.sum() + terms["commitment"]).backward()
    assert z.grad is not None and z.grad.item() == pytest.approx(1 + 0.25 * 2 * 0.4)
    assert found.book.grad is None, "the commitment is the encoder's alone"


def test_a_dead_code_comes_back() -> None:
    """Rows near 0 and 2, codes at 0 and 30: the second is nearest to no row, until it has come near."""
    found = book(0.0, 30.0)
    z, optimizer = torch.tensor([0.0, 2.0]).view(2, 1, 1), AdamW(found, betas=(0.9, 0.99), weight_decay=0.0)
    assert found(z)[1].unique().tolist() == [0]
    for step in range(900):
        optimizer.zero_grad()
        found.terms(z, found(z)[1], Draws(step, total=2))["codebook"].backward()
        optimizer.step(0.05)
    assert found(z)[1].flatten().tolist() == [0, 1]
    assert found.book.flatten().tolist() == pytest.approx([0.0, 2.0], abs=0.1)


class Uniform(nn.Module):
    """A model to which all tokens are as likely, but the wanted ones, each `e**bias` times."""

    def __init__(self, codes: int, wanted: list[int] | None = None, bias: float = 0.0) -> None:
        super().__init__()
        self.codes, self.wanted = codes, wanted
        self.bias = nn.Parameter(torch.tensor(bias))

    def _logits(self, rows: int, place: int) -> Tensor:
        logits = torch.zeros(rows, self.codes)
        if self.wanted is not None:
            logits[:, self.wanted[place]] += self.bias
        return logits

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.stack([self._logits(len(x), t) for t in range(x.shape[1])], 1)

    def begin(self, c: Tensor) -> tuple[int, int]:
        return len(c), 0

    def step(self, previous: Tensor | None, state: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        rows, t = state
        return self._logits(rows, t), (rows, t + 1)


def game(model: nn.Module, **config: Any) -> tuple[VQ, Nets]:
    """Two tokens of three levels for four steps of one channel: the encoder says -∞ and ∞, the decoder
    repeats each code, halved, twice.
    """
    family = VQ(
        VQConfig(
            levels=(3,), halvings=1, width_rate=1.0, encoder=Conv1dConfig(), decoder=Conv1dConfig(),
            critic=Conv1dConfig(), **config,
        ),
        SPEC,
    )  # fmt: skip
    decoder = Given(lambda z, c: torch.atanh(z / 2).repeat_interleave(2, 2).transpose(1, 2))
    decoder.quantiser = FiniteScalar((3,))
    encoder = Given(lambda x, c: torch.tensor([-FAR, FAR]).expand(len(x), 1, 2))
    return family, {"encoder": encoder, "decoder": decoder, "model": model}


def test_the_bound_is_the_row_given_its_codes_and_the_codes() -> None:
    """Codes -1 and 1 are decoded as -½ -½ ½ ½; a row of zeros is ½ off four times, of width 1: 4 (.125 +
    ½ ln 2π). Two codes of three are ln 9 nats under an even prior, 2 ln(1 + 2/e) under one that knows them.
    """
    rows = Batch(torch.zeros(2, 4, 1), NONE)
    reconstruction = 4 * (0.125 + 0.5 * log(2 * pi))
    for model, nats in ((Uniform(3), log(9)), (Uniform(3, [0, 2], 1.0), 2 * log(1 + 2 / torch.e))):
        family, nets = game(model, adversarial_weight=0.0)
        found = {n: v.item() for n, v in family.holdout_loss(nets, rows, Draws(0, total=2)).items()}
        expected = {"bound": reconstruction + nats, "reconstruction": reconstruction, "code_nats": nats}
        assert found == pytest.approx(expected)


def test_each_phase_teaches_its_own_networks() -> None:
    torch.manual_seed(0)
    small, spec = Conv1dConfig(width=8), SPEC.model_copy(update={"shape": (8, 1)})
    family = VQ(VQConfig(levels=(3, 3), encoder=small, decoder=small, critic=small, share=0.25), spec)
    assert [(p.name, p.trains, p.begin, p.end) for p in family.phases] == [
        ("autoencoder", ("encoder", "decoder"), 0.0, 0.25),
        ("critic", ("critic",), 0.0, 0.25),
        ("penalty", ("critic",), 0.0, 0.25),
        ("prior", ("model",), 0.25, 1.0),
    ]
    nets, rows = family.build(), Batch(torch.rand(2, 8, 1), NONE)
    for phase in family.phases:
        for net in nets.values():
            net.requires_grad_(True)
            net.zero_grad()
        terms = family.loss(phase.name, nets, rows, Draws(0, total=2))
        torch.stack(list(terms.values())).sum().backward()
        reached = {r for r, net in nets.items() for p in net.parameters() if p.grad is not None}
        also = {"critic"} if phase.name == "autoencoder" else set()
        assert reached == set(phase.trains) | also, phase.name


def test_a_sample_is_decoded_from_the_tokens_of_the_prior() -> None:
    """A prior that is sure of tokens 2 and 1: codes 1 and 0, decoded ½ ½ 0 0; a temperature of 100 undoes
    what it knows.
    """
    family, nets = game(Uniform(3, [2, 1], 50.0))
    assert family.prior(nets, NONE, Draws(0, total=2)).tolist() == [[1.0, 0.0]] * 2
    assert family.sample(nets, NONE, Draws(0, total=2))[0].flatten().tolist() == pytest.approx(
        [0.5, 0.5, 0, 0]
    )
    bold, nets = game(Uniform(3, [2, 1], 9.0), temperature=100.0)
    many = torch.zeros(500, 1, dtype=torch.long)
    shares = [(bold.prior(nets, many, Draws(0, total=500)) == v).float().mean().item() for v in (-1, 0, 1)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)


def test_without_a_critic_a_series_gets_the_predicted_noise() -> None:
    z = torch.tensor([[1.0, 0.0]]).expand(2, 2)
    for weight, spread in ((1.0, 0.0), (0.0, 0.1)):
        family, nets = game(Uniform(3), adversarial_weight=weight)
        nets["decoder"].log_scale.data.fill_(log(0.1))  # type: ignore[union-attr, operator]
        many = z.repeat(500, 1)
        x = family.decode(nets, many, torch.zeros(1000, 1).long(), Draws(0, total=1000))
        assert x[:, 0].std().item() == pytest.approx(spread, abs=0.01)
        assert x.mean(0).flatten().tolist() == pytest.approx([0.5, 0.5, 0, 0], abs=0.02)


def test_too_many_halvings_and_codes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"halvings: 2, after which .* leaves one position; expected a map"):
        VQ(VQConfig(halvings=2), SPEC)
    with pytest.raises(ValueError, match=r"levels .* make 100000 codes; at most 65536"):
        VQConfig(levels=(10, 10, 10, 10, 10))
