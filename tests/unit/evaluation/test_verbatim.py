"""Does a report see that texts recite documents, and give out names that one training document alone has?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.errors import PrivacyError
from genpipe.evaluation import evaluate_tables
from genpipe.evaluation.privacy.attacks import UNSEEN
from genpipe.evaluation.privacy.singling_out import whose
from genpipe.evaluation.privacy.verbatim import RUN, Longest, Verbatim, names, runs
from genpipe.fields import Identifier, Text
from genpipe.schema import Schema

SCHEMA = Schema(kind="text", fields=(Text(name="text"),))
FIRST = ("Anna", "Peter", "Lena", "Paul", "Ida", "Karl", "Emma", "Otto")


def letters(count: int, seed: int) -> pa.Table:
    """Each of somebody of her own; names are put together of few first and many last ones."""
    rng, syllables = np.random.default_rng(seed), ("ba", "den", "ko", "li", "mar", "nu", "ros", "ti", "wei")
    words = ["cough", "knee", "rest", "morning", "tablets", "scan", "week", "sleep", "walk", "heart", "again"]
    texts = []
    for _ in range(count):
        last = "".join(rng.choice(syllables, 3)).capitalize()
        said = " ".join(rng.choice(words, 12))
        texts.append(f"{rng.choice(FIRST)} {last} came in. {said}. Dr. Weber and Mrs Klee agree.")
    return pa.table({"text": texts})


def told(made: pa.Table, train: pa.Table, unseen: pa.Table) -> dict[str, str]:
    asked = Verbatim(made, SCHEMA)
    asked.see(train, whose(train, SCHEMA), member=True)
    asked.see(unseen, whose(unseen, SCHEMA, UNSEEN), member=False)
    return {f.score.name: f.leak for f in asked.findings() if f.score.name != "longest_run"}


def test_runs_lie_within_one_document_and_equal_ones_have_equal_keys() -> None:
    texts = ["x" * (RUN - 1), "ab" * RUN, "", "zzab" + "ab" * RUN]
    keys, place = runs(texts)
    lengths = np.array([len(t) for t in texts])
    assert np.bincount(place, minlength=4).tolist() == np.maximum(0, lengths - RUN + 1).tolist()
    cut = [t[i : i + RUN] for t in texts for i in range(len(t) - RUN + 1)]
    assert len(set(keys.tolist())) == len(set(cut)) > 3
    assert not len(runs(["short", ""])[0]) and not len(runs([])[0])


@pytest.mark.parametrize("cuts", [1, 2, 5, 40])
def test_the_longest_passage_is_found_however_training_comes(cuts: int) -> None:
    rng = np.random.default_rng(cuts)
    learnt, unseen, made = ([random_text(rng) for _ in range(40)] for _ in range(3))
    made[3] = made[3][:20] + learnt[17][5:62] + made[3][20:]
    made[8] = unseen[2][7:30]
    longest = Longest(made)
    for piece in np.array_split(np.array(learnt), cuts):
        longest.see(piece.tolist(), member=True)
    longest.see([*unseen, ""], member=False)
    there = {True: learnt, False: unseen}
    for member, found in longest.best.items():
        cut = [t[i : i + found] for t in made for i in range(len(t) - found + 1)]
        longer = [t[i : i + found + 1] for t in made for i in range(len(t) - found)]
        assert any(c in t for c in cut for t in there[member])
        assert not any(c in t for c in longer for t in there[member])
    assert longest.best[True] >= 57 and 23 <= longest.best[False] < 40
    assert longest.score().unit == "characters" and longest.score().floor == max(map(len, made))
    assert Longest([]).score().value == 0


def random_text(rng: np.random.Generator) -> str:
    return "".join(rng.choice([*"abcdefgh "], rng.integers(70, 100)))


def test_names_are_two_words_with_capitals_in_a_row() -> None:
    keys, place = names(["Saw Anna Weber, then anna weber. A Pole met Jean-Luc d'Or", "ANNA WEBER; Klee"])
    assert place.tolist() == [0, 0, 1]  # Saw Anna, Anna Weber; ANNA WEBER
    assert keys[1] == keys[2] != keys[0]


@pytest.mark.parametrize("seed", range(3))
def test_recited_letters_and_names_are_leaks_and_fresh_letters_are_not(seed: int) -> None:
    train, unseen, fresh = letters(150, seed), letters(100, seed + 10), letters(200, seed + 20)
    rng = np.random.default_rng(seed)
    recited = train["text"].to_numpy()[rng.integers(0, 150, 200)]
    spoilt = ["".join(c if rng.random() > 0.03 else "q" for c in text) for text in recited]
    assert all(told(pa.table({"text": spoilt}), train, unseen).values())
    assert not any(told(fresh, train, unseen).values())
    # the names of one in eight alone, in letters of their own
    given = [" ".join(text.split()[:2]) for text in recited]
    named = [
        " ".join([given[i], *text.split()[2:]]) if i % 8 == 0 else text
        for i, text in enumerate(fresh["text"].to_pylist())
    ]
    found = told(pa.table({"text": named}), train, unseen)
    assert found["names"] and not found["passages"]


def test_what_the_documents_of_one_author_share_is_the_authors_own() -> None:
    schema = Schema(kind="text", fields=(Text(name="text"), Identifier(name="author")), entity=("author",))
    motto = "the quick brown fox jumps over a lazy dog again"
    texts = [f"{motto} {i}" if i < 40 else f"letter {i} of many, about nothing" for i in range(240)]
    train = pa.table({"text": texts, "author": ["one" if i < 40 else f"a{i}" for i in range(240)]})
    unseen = pa.table({"text": letters(100, 1)["text"], "author": [f"b{i}" for i in range(100)]})
    asked = Verbatim(pa.table({"text": [motto] * 50 + letters(50, 2)["text"].to_pylist()}), schema)
    asked.see(train, whose(train, schema), member=True)
    asked.see(unseen, whose(unseen, schema), member=False)
    shown = asked.findings()[0]
    assert shown.score.value == pytest.approx(50 * (len(motto) - RUN + 1) / asked.runs.total)
    assert not shown.leak  # one author, however often: one piece of evidence


def test_a_report_on_texts_that_recite_is_refused() -> None:
    train, unseen, fresh = letters(150, 0), letters(100, 10), letters(200, 20)
    made = pa.concat_tables([fresh.slice(0, 184), train.slice(0, 16)])
    report = evaluate_tables(train, unseen, made, SCHEMA)
    assert report.verdict == "leaks" and report.score("passages").value > 0.03
    assert report.score("longest_run").value == max(map(len, train["text"].to_pylist()[:16]))
    assert report.score("longest_run").ceiling < 60
    with pytest.raises(PrivacyError, match="recites training documents: runs of 32 characters"):
        report.check()
    assert not [s for s in evaluate_tables(train, unseen, fresh, SCHEMA).scores if s.name == "single_values"]
