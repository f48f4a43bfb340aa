"""Pieces of words: what is merged, worked out by hand; that texts come back; whose words leave no trace."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genpipe.batch import Batch
from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.pieces import Pieces, learn_merges, words_of
from genpipe.codecs.text import FIRST, UNKNOWN, TextCodec
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.fields import Identifier, Text
from genpipe.schema import Schema

SCHEMA = Schema(kind="text", fields=(Text(name="text"),))
BPE = CodecConfig(tokens="bpe", vocabulary=300)


def batch(texts: list[str | None], schema: Schema = SCHEMA, **more: list[str]) -> pa.RecordBatch:
    return pa.record_batch({"text": texts, **more}, schema=schema.arrow())


def written(seed: int, rows: int = 60) -> list[str | None]:
    rng = np.random.default_rng(seed)
    words = [
        "hello",
        "world",
        "the",
        "lowest",
        "lower",
        "newest",
        "wider",
        "It's",
        "1234",
        "übung",
        "--",
        "\n",
    ]
    return [" ".join(rng.choice(words, rng.integers(1, 20))) for _ in range(rows)] + ["", None]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_the_words_of_a_text_are_all_of_it(text: str) -> None:
    assert "".join(words_of(text)) == text


def test_the_commonest_pair_is_merged_first_and_its_neighbours_are_counted_anew() -> None:
    """low x 5, lower x 2, newest x 6, widest x 3 (Sennrich et al. 2016, figure 1, without the end of a word):
    e s comes 9 times, then es t 9; then l o 7 and lo w 7, of equally common ones that of the lower codes. At
    n e 6, e w 6 and w est 6: e w (codes 3 and 10) comes first, and then n ew.
    """
    codes = {c: i for i, c in enumerate("delnorstiw", start=2)}
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    pieces = Pieces(["", "?", *"delnorstiw"], learn_merges(words, codes, 6), UNKNOWN)
    assert pieces.strings[12:] == ["es", "est", "lo", "low", "ew", "new"]
    assert [pieces.decode([t]) for t in pieces.encode("lowest wow")] == ["low", "est", "?", "w", "o", "w"]
    assert learn_merges({"ab": 1, "cd": 1}, {c: i for i, c in enumerate("abcd")}, 9) == []


def test_runs_of_one_letter_are_merged_from_the_left() -> None:
    merges = learn_merges({"aaaaa": 2}, {"a": 2}, 9)
    assert merges == [(2, 2), (3, 2), (3, 4)]  # aa aa a, aa aaa, aaaaa
    pieces = Pieces(["", "", "a"], merges, UNKNOWN)
    assert pieces.encode("aaaaaaa") == [3, 5] and pieces.sizes == (1, 1, 1, 2, 3, 5)


def test_texts_come_back_in_fewer_tokens_and_through_json() -> None:
    texts = written(0)
    codec = fit(TextCodec, SCHEMA, [batch(texts)], BPE)
    read = TextCodec.from_json(SCHEMA, json.loads(json.dumps(codec.to_json())))
    for one in (codec, read):
        arrays = one.encode(batch(texts), "tokens")
        back = one.decode({**arrays, "condition": arrays["condition"]}, "tokens", np.random.default_rng(0))
        assert back.column("text").to_pylist() == [t or "" for t in texts]
        assert (arrays["x"] < one.spec("tokens").vocabulary[0]).all()
    plain = fit(TextCodec, SCHEMA, [batch(texts)], CodecConfig())
    tokens, characters = (c.encode(batch(texts), "tokens")["mask"].sum() for c in (codec, plain))
    assert tokens < characters / 3
    assert codec.to_json() == read.to_json() and "merges" not in plain.to_json()
    again = TextCodec.from_json(SCHEMA, plain.to_json())
    assert again.spec("tokens") == plain.spec("tokens") and not again.spec("tokens").sizes


@pytest.mark.parametrize("cuts", [2, 7])
def test_any_cut_of_the_texts_makes_the_same_pieces(cuts: int) -> None:
    texts = written(1)
    whole = TextCodec.observe(batch(texts), SCHEMA, BPE)
    parts = np.array_split(np.random.default_rng(cuts).permutation(len(texts)), cuts)
    seen = [TextCodec.observe(batch([texts[i] for i in part]), SCHEMA, BPE) for part in parts]
    merged = reduce(lambda a, b: a.merge(b), seen)
    assert TextCodec.build(SCHEMA, merged, BPE).to_json() == TextCodec.build(SCHEMA, whole, BPE).to_json()


@pytest.mark.parametrize("by_author", [False, True])
def test_a_name_that_few_have_is_in_no_piece(by_author: bool) -> None:
    """Five texts have Willoughby, four Wyboughill; of one author neither is known to be of five. All have the
    letters of both.
    """
    names = ["Willoughby"] * 5 + ["Wyboughill"] * 4 + ["the end"] * 40
    texts: list[str | None] = [f"the king {n} {n} {n} went away W i l o u g h b y" for n in names]
    codec = fit(TextCodec, SCHEMA, [batch(texts)], CodecConfig(tokens="bpe", vocabulary=5000))
    assert codec.pieces and " Willoughby" in codec.pieces.strings
    assert not any("Wy" in s or "yb" in s for s in codec.pieces.strings)
    if by_author:
        schema = Schema(
            kind="text", fields=(Text(name="text"), Identifier(name="author")), entity=("author",)
        )
        rows = batch(texts, schema, author=["one"] * 9 + [str(i) for i in range(40)])
        codec = fit(TextCodec, schema, [rows], CodecConfig(tokens="bpe", vocabulary=5000))
        assert codec.pieces and " king" in codec.pieces.strings
        assert not any("Wi" in s or "by" in s for s in codec.pieces.strings)


def test_a_prompt_is_cut_into_the_same_pieces_and_its_room_is_counted_in_them() -> None:
    codec = fit(TextCodec, SCHEMA, [batch(written(2))], BPE)
    begun = codec.beginning(pa.array(["hello world"]))
    tokens = codec.tokens("hello world").tolist()
    assert begun[0].tolist() == tokens + [-1] * (codec.context - len(tokens)) and len(tokens) < 5
    with pytest.raises(UsageError, match=r"prompt: .*; expected 1 to \d+ tokens, all characters among"):
        codec.beginning(pa.array(["hello world " * 100]))


def test_a_text_of_more_tokens_than_a_record_has_is_cut_and_has_no_end() -> None:
    config = CodecConfig(tokens="bpe", vocabulary=300, context=4)
    codec = fit(TextCodec, SCHEMA, [batch(written(3))], config)
    assert "tokens are learnt up to 4 of them" in codec.notice
    arrays = codec.encode(batch(["the lowest world the newest world", "hello"]), "tokens")
    assert arrays["mask"].tolist() == [[True] * 4, [True, True, False, False]]


def test_nats_are_of_a_character_whatever_the_tokens_are() -> None:
    """Tokens of one and of three characters, each as likely as the other: of x = [2, 2, 0] with its end
    7 characters, of [1, 0] two; 3 ln 3 and 2 ln 3 nats.
    """

    class Even(torch.nn.Module):
        def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*x.shape, 3)

    codec = fit(TextCodec, SCHEMA, [batch(written(0))], BPE)
    spec = codec.spec("tokens").model_copy(update={"shape": (4,), "vocabulary": (3,), "sizes": (1, 1, 3)})
    x = torch.tensor([[2, 2, 0, 0], [1, 0, 0, 0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    family = SequenceModel(SequenceConfig(), spec)
    found = family.holdout_loss(
        {"model": Even()}, Batch(x, torch.zeros(2, 0).long(), mask), Draws(0, total=2)
    )
    assert found["nats"].item() == pytest.approx(2.5 * np.log(3))
    assert found["nats_per_position"].item() == pytest.approx(2.5 * np.log(3) / 4.5)


@pytest.mark.parametrize(
    "merges",
    [[[0, 3]], [[2, 1]], [[2, 10**6]], [[2, 3], [2, 3]], [[2, 2]] + [[FIRST + 12 + i] * 2 for i in range(7)]],
    ids=["end", "unknown", "none", "twice", "long"],
)
def test_merges_of_a_stranger_are_checked(merges: Any) -> None:
    told = fit(TextCodec, SCHEMA, [batch(["abcdefghijkl"] * 9)], CodecConfig()).to_json()
    with pytest.raises(ValueError, match="merge"):
        TextCodec.from_json(SCHEMA, {**told, "merges": merges})
