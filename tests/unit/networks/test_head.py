"""The heads that turn network numbers into data."""

from __future__ import annotations

import torch

from genpipe.networks.head import ColumnOutlet, Head, Inlet, alike, gumbel, rank_cosines
from genpipe.networks.outlets import make_outlet
from genpipe.spec import Span, TensorSpec

SIZES = [("a", 1), ("b", 3), ("c", 1), ("d", 2), ("e", 9), ("f", 3), ("g", 1), ("h", 1)]


def mixed() -> TensorSpec:
    spans, at = [], 0
    for name, size in SIZES:
        # "h" is a choice of one, which is always made
        kind = "continuous" if size == 1 and name != "h" else "categorical"
        spans.append(Span(name=name, start=at, size=size, kind=kind))  # type: ignore[arg-type]
        at += size
    return TensorSpec(layout="vector", shape=(at,), dtype="float32", spans=tuple(spans))


def test_each_span_gets_its_own_softmax_and_values_tanh() -> None:
    spec, raw = mixed(), torch.randn(5, 21) * 3
    x = Head(spec)(raw)
    for span in spec.spans:
        part = slice(span.start, span.start + span.size)
        expected = torch.tanh(raw[:, part]) if span.kind == "continuous" else raw[:, part].softmax(1)
        torch.testing.assert_close(x[:, part], expected)


def test_draws_follow_the_logits_and_harden_to_one_hot() -> None:
    spec, head = mixed(), Head(mixed())
    torch.manual_seed(0)
    raw = torch.randn(1, 21).expand(20000, -1)
    x = head.harden(head(raw, gumbel(torch.rand(20000, 21)), temperature=0.3))
    for span in spec.spans:
        part = slice(span.start, span.start + span.size)
        if span.kind == "categorical":
            assert (x[:, part].sum(1) == 1).all() and set(x[:, part].unique().tolist()) <= {0.0, 1.0}
            torch.testing.assert_close(x[:, part].mean(0), raw[0, part].softmax(0), atol=0.015, rtol=0)


def test_gradients_pass_every_column() -> None:
    raw = torch.randn(4, 21, requires_grad=True)
    (Head(mixed())(raw, gumbel(torch.rand(4, 21))) * torch.randn(21)).sum().backward()
    assert raw.grad is not None and torch.isfinite(raw.grad).all()
    assert (raw.grad[:, :20].abs().sum(0) > 0).all()  # the last column is the choice of one


def test_a_vector_of_choices_alone() -> None:
    spec = TensorSpec(
        layout="vector",
        shape=(2,),
        dtype="float32",
        spans=(Span(name="a", start=0, size=2, kind="categorical"),),
    )
    torch.testing.assert_close(Head(spec)(torch.zeros(3, 2)), torch.full((3, 2), 0.5))


def test_columns_have_their_own_vocabulary() -> None:
    spec = TensorSpec(layout="tokens", shape=(3,), dtype="int32", vocabulary=(2, 5, 3))
    inlet = Inlet(spec, 4, scale=0.1)
    assert inlet.embed.weight.shape == (10, 4)  # type: ignore[union-attr]
    first, second = inlet(torch.tensor([[1, 0, 0]])), inlet(torch.tensor([[0]]), start=1)
    torch.testing.assert_close(first[:, 1:2], second)
    assert not torch.allclose(first[:, 1], first[:, 2])  # code 0 of different columns differs


def test_columns_of_like_vocabulary_are_padded_together() -> None:
    sizes = (2, 500, 7, 30, 300, 2)
    assert alike(sizes) == [[0, 2, 5], [3], [4], [1]]  # a column of 300 does not pay for one of 500
    assert alike((100,) * 7 + (99, 3)) == [[8], [0, 1, 2, 3, 4, 5, 6, 7]]
    many = alike(tuple(range(2, 202)))
    assert [t for group in many for t in group] == list(range(200)) and 10 < len(many) < 30
    outlet = ColumnOutlet(TensorSpec(layout="tokens", shape=(6,), dtype="int32", vocabulary=sizes), 4)
    logits = outlet(torch.randn(2, 6, 4))
    assert [tuple(each.shape) for each in logits] == [(3, 2, 7), (1, 2, 30), (1, 2, 300), (1, 2, 500)]
    assert torch.isinf(logits[0]).sum(-1).tolist() == [[5, 5], [0, 0], [5, 5]]


def test_an_ordered_column_learns_curves_that_training_can_bend_anywhere() -> None:
    """Before a step, near options have near logits; the free weights reach every single option."""
    shares = (tuple([0.02] * 50), (0.5, 0.5))
    spec = TensorSpec(
        layout="tokens",
        shape=(2,),
        dtype="int32",
        vocabulary=(50, 2),
        frequencies=shares,
        ordered=(True, True),
    )
    torch.manual_seed(0)
    outlet = ColumnOutlet(spec, 8)
    h = torch.randn(64, 8)
    logits = outlet.at(h, 0).detach()
    assert float((logits[:, 1:] - logits[:, :-1]).abs().mean()) < 0.3 * float(logits.std(1).mean())
    whole = outlet(h.unsqueeze(1).expand(-1, 2, -1))
    group, place = outlet.place[0]
    torch.testing.assert_close(whole[group][place, :, :50], logits)
    optimizer = torch.optim.Adam(outlet.parameters(), lr=0.05)
    for _ in range(150):  # a spike at one option where h[0] is positive
        loss = torch.nn.functional.cross_entropy(outlet.at(h, 0), torch.where(h[:, 0] > 0, 7, 30))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_one_position_alone_gets_what_it_gets_among_all() -> None:
    torch.manual_seed(0)
    sizes, h = (2, 500, 7, 30, 300, 2), torch.randn(2, 6, 4)
    outlet = make_outlet(TensorSpec(layout="tokens", shape=(6,), dtype="int32", vocabulary=sizes), 4)
    logits = outlet(h)
    for group, each in zip(alike(sizes), logits, strict=True):
        for i, t in enumerate(group):
            torch.testing.assert_close(outlet.at(h[:, t], t), each[i][:, : sizes[t]])
    shared = make_outlet(TensorSpec(layout="tokens", shape=(3,), dtype="int32", vocabulary=(7,)), 4)
    torch.testing.assert_close(shared.at(h[:, 1], 1), shared(h)[:, 1])


def test_waves_of_log_odds_tell_the_last_hundredth_of_the_rows_apart() -> None:
    """To cosines of ranks the last options of a tail are one; near options stay near all the same."""
    shares = [*[0.0098] * 100, *[0.0004] * 50]
    plain, tails = (rank_cosines(shares, 32, power=0.5, tails=t) for t in (0, 8))
    assert plain.shape == tails.shape == (150, 32)
    assert rank_cosines(shares, 32, power=0.5).equal(plain)
    torch.testing.assert_close(tails[:, :24], plain[:, :24])

    def apart(found: torch.Tensor, a: int, b: int) -> float:
        return float((found[a] - found[b]).norm())

    assert apart(tails, -1, -10) > 3 * apart(plain, -1, -10)
    assert apart(tails, -1, -2) < apart(tails, -1, -10) < apart(tails, -1, 50)
    assert rank_cosines([0.5, 0.5], 2, power=1.0, tails=8).isfinite().all()


def test_a_recipe_of_before_has_the_outlet_of_before() -> None:
    spec = TensorSpec(
        layout="tokens",
        shape=(1,),
        dtype="int32",
        vocabulary=(50,),
        frequencies=((0.02,) * 50,),
        ordered=(True,),
    )
    before, now = ColumnOutlet(spec, 8), ColumnOutlet(spec, 8, tails=8)
    assert before.curve_0.shape == (1, 8, 24) and now.curve_0.shape == (1, 8, 32)
