"""Text: how alike the distributions of characters, pairs, triples and quadruples are.

1 - total variation of character n-gram frequencies, one part for each n. A single document repeated has fair
unigrams, so `Judge.score` scales by the spread of the documents in hashed trigram space. Usefulness without
a label: a back-off n-gram model counted on one text predicts the next character of another.

    N documents · each an int array of code points
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.evaluation.base import Judge, Points, Usefulness, View, total_variation
from genpipe.evaluation.learners import classify

ORDERS = (1, 2, 3, 4)
BUCKETS = 512
CONTEXT = 4
NOTHING = -1
_MIX = np.uint64(0x9E3779B97F4A7C15)


class TextJudge(Judge):
    """View.x: list of N int64 arrays."""

    kind = "text"

    def view(self, table: pa.Table) -> View:
        documents = table.column(self.main("text")[0]).to_pylist()
        return View([code_points(d or "") for d in documents], self.codes(table), self.labels(table))

    def fit(self) -> None:
        self.grams = {n: grams(self.real.x, n) for n in ORDERS}

    def parts(self, view: View) -> dict[str, float]:
        return {f"{n}-grams": 1.0 - total_variation(self.grams[n], grams(view.x, n)) for n in ORDERS}

    def points(self, view: View) -> Points:
        """Square roots of hashed trigram frequencies: Euclidean distance is then the Hellinger distance."""
        key, document = _rolled(view.x, 3)
        place = document * BUCKETS + (key >> 20) % BUCKETS
        counts = np.bincount(place, minlength=len(view) * BUCKETS).reshape(len(view), BUCKETS)
        return Points(np.sqrt(counts / np.maximum(1, counts.sum(1, keepdims=True))), view.codes)

    def scramble(self, view: View, rng: np.random.Generator) -> View:
        """All characters shuffled over all documents: right letters, no words."""
        lengths = np.cumsum([len(d) for d in view.x])[:-1]
        mixed = rng.permutation(np.concatenate(view.x)) if view.x else np.zeros(0, dtype=np.int64)
        return View(np.split(mixed, lengths), view.codes, view.labels)

    def usefulness(self, fit_on: View, test: View) -> Usefulness:
        if fit_on.labels is not None and test.labels is not None:
            x, x_test = (self.points(v).numeric for v in (fit_on, test))
            return classify(x, fit_on.labels, x_test, test.labels, trees=False)
        return Usefulness("next-character accuracy", predict_next(fit_on.x, test.x), 0.0)


def code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


def grams(documents: list[np.ndarray], n: int) -> np.ndarray:
    """Every n-gram of every document as a 63-bit hash; none spans two documents."""
    return _rolled(documents, n)[0]


def _rolled(documents: list[np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """(hash of each n-gram, number of its document)."""
    text, owner = _joined(documents)
    start = (
        np.flatnonzero(owner[: len(text) - n + 1] == owner[n - 1 :])
        if len(text) >= n
        else np.zeros(0, dtype=np.int64)
    )
    return _hash(text, start, n), owner[start]


def _joined(documents: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All characters one after the other, and the document each belongs to."""
    text = np.concatenate([*documents, np.zeros(0, dtype=np.int64)])
    return text, np.repeat(np.arange(len(documents)), [len(d) for d in documents])


def _hash(text: np.ndarray, start: np.ndarray, n: int) -> np.ndarray:
    key = np.full(len(start), n, dtype=np.uint64)
    for i in range(n):
        key = (key ^ text[start + i].astype(np.uint64)) * _MIX
        key ^= key >> np.uint64(29)
    return (key >> np.uint64(1)).astype(np.int64)


def predict_next(fit_on: list[np.ndarray], test: list[np.ndarray]) -> float:
    """Share of next characters guessed right: the commonest successor of the longest context seen, up to
    CONTEXT.
    """
    text, owner = _joined(test)
    at = _with_context(owner, CONTEXT)
    if not len(at):
        return 0.0
    guess = np.full(len(at), NOTHING, dtype=np.int64)
    for n in range(CONTEXT, -1, -1):
        contexts, successors = _commonest(fit_on, n)
        if not len(contexts):
            continue
        asked = _hash(text, at - n, n)
        spot = np.clip(np.searchsorted(contexts, asked), 0, len(contexts) - 1)
        fresh = (guess == NOTHING) & (contexts[spot] == asked)
        guess[fresh] = successors[spot[fresh]]
    return float((guess == text[at]).mean())


def _with_context(owner: np.ndarray, n: int) -> np.ndarray:
    """Positions with at least n characters of the same document before them."""
    return (
        np.flatnonzero(owner[n:] == owner[: len(owner) - n]) + n
        if len(owner) > n
        else np.zeros(0, dtype=np.int64)
    )


def _commonest(documents: list[np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """(contexts in order, the commonest character after each)."""
    text, owner = _joined(documents)
    at = _with_context(owner, n)
    if not len(at):
        return at, at
    pair = np.stack([_hash(text, at - n, n), text[at]], 1)
    pair = pair[np.lexsort((pair[:, 1], pair[:, 0]))]
    starts = np.flatnonzero(np.r_[True, (pair[1:] != pair[:-1]).any(1)])
    counts = np.diff(np.r_[starts, len(pair)])
    context, character = pair[starts].T
    best = np.lexsort((character, -counts, context))
    first = best[np.r_[True, context[best][1:] != context[best][:-1]]]
    return context[first], character[first]
