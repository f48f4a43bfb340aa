"""Pieces of words as tokens: byte-pair encoding (Sennrich et al. 2016, "Neural machine translation of rare
words with subword units", section 3.2) over the characters of a codec.

The commonest pair of neighbours inside words becomes a token of its own, again and again. It is learnt from
words that enough entities have, so every piece is part of such a word: a vocabulary tells nobody's name.
Characters, and not bytes, are what it begins with, as a codec knows few of them and those that too few
entities have are unknown whatever the tokens are. So what is drawn is always a text.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.holders import Holders, hash_values
from genpipe.codecs.sketch import add_counts

WORDS = re.compile(r" ?[^\W\d_]+| ?\d{1,3}| ?[^\w\s]+|_|\s")  # with the blank before; all of a text
LONGEST = 64  # characters of a word that is learnt from
LONG_TEXTS = 64  # the longest, by which it is told how many tokens a record has
BEGINNING = 2**14  # characters of each of these
CACHED = 2**17  # words whose tokens are remembered

Pair = tuple[int, int]


def words_of(text: str) -> list[str]:
    """The words of a text, one after the other: together they are the text."""
    return WORDS.findall(text)


@dataclass(frozen=True)
class WordStats:
    """counts: how often each word comes. texts: in how many texts. holders: whose they are, by a hash of the
    word; None where every text is an entity. longest: the longest texts, their beginnings.
    """

    counts: dict[str, int]
    texts: dict[str, int]
    holders: Holders | None
    longest: tuple[str, ...]

    @classmethod
    def of(cls, texts: list[str], who: np.ndarray | None, least: int) -> WordStats:
        counts, once = Counter[str](), Counter[str]()
        owner = list[int]()
        for row, text in enumerate(texts):
            found = Counter(word for word in words_of(text) if len(word) <= LONGEST)
            counts.update(found)
            once.update(found.keys())
            owner += [row] * len(found)
        held = None
        if who is not None:
            each = [w for text in texts for w in Counter(v for v in words_of(text) if len(v) <= LONGEST)]
            held = Holders.of(hash_values(each, pa.string()), who[owner], least=least)
        return cls(dict(counts), dict(once), held, _longest(texts))

    def merge(self, other: WordStats) -> WordStats:
        return WordStats(
            add_counts(self.counts, other.counts),
            add_counts(self.texts, other.texts),
            self.holders.merge(other.holders) if self.holders and other.holders else None,
            _longest([*self.longest, *other.longest]),
        )

    def common(self, least: int) -> dict[str, int]:
        """The words that so many entities have."""
        words = list(self.counts)
        if self.holders is None:
            return {w: self.counts[w] for w in words if self.texts[w] >= least}
        held = self.holders.count(hash_values(words, pa.string()))
        return {w: self.counts[w] for w, n in zip(words, held.tolist(), strict=True) if n >= least}


def _longest(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({t[:BEGINNING] for t in texts}, key=lambda t: (-len(t), t))[:LONG_TEXTS])


def learn_merges(words: Mapping[str, int], codes: Mapping[str, int], most: int) -> list[Pair]:
    """At most `most` pairs of tokens, in the order in which they are merged; merge i is token
    max(codes) + 1 + i.

    words: how often each comes. codes: of single characters; those without one are in no pair. Of pairs as
    common as each other the one of the lowest codes comes first, so the order of words decides nothing.
    """
    held = [([codes.get(c, -1) for c in word], words[word]) for word in sorted(words) if len(word) <= LONGEST]
    counts, where = Counter[Pair](), defaultdict[Pair, set[int]](set)
    for i, (tokens, often) in enumerate(held):
        for pair in _pairs(tokens):
            counts[pair] += often
            where[pair].add(i)
    queue = [(-often, pair) for pair, often in counts.items()]
    heapq.heapify(queue)
    merges, new = list[Pair](), max(codes.values()) + 1
    while queue and len(merges) < most:
        often, pair = heapq.heappop(queue)
        if counts[pair] != -often:  # an older count: the newer one is in the queue, too
            continue
        if -often < 2:
            break
        merges.append(pair)
        changed = set[Pair]()
        for i in where.pop(pair):
            tokens, times = held[i]
            joined = join(tokens, pair, new)
            for sign, each in ((-times, tokens), (times, joined)):
                for one in _pairs(each):
                    counts[one] += sign
                    changed.add(one)
                    if sign > 0:
                        where[one].add(i)
            held[i] = (joined, times)
        for one in changed:
            if counts[one] > 0:
                heapq.heappush(queue, (-counts[one], one))
        new += 1
    return merges


def _pairs(tokens: Sequence[int]) -> list[Pair]:
    return [pair for pair in pairwise(tokens) if min(pair) >= 0]


def join(tokens: Sequence[int], pair: Pair, new: int) -> list[int]:
    """The tokens with `new` in place of the pair, from the left."""
    out, i = list[int](), 0
    while i < len(tokens):
        both = i + 1 < len(tokens) and tokens[i] == pair[0] and tokens[i + 1] == pair[1]
        out.append(new if both else tokens[i])
        i += 2 if both else 1
    return out


class Pieces:
    """strings: of every token."""

    def __init__(self, strings: Sequence[str], merges: Sequence[Pair], unknown: int) -> None:
        """strings: of the tokens before the merges; those of codes that are no characters are empty."""
        self.strings, self.merges, self.unknown = list(strings), tuple(merges), unknown
        self.codes = {s: code for code, s in enumerate(self.strings) if s}
        self.rank = {pair: len(strings) + i for i, pair in enumerate(self.merges)}
        for a, b in self.merges:
            self.strings.append(self.strings[a] + self.strings[b])
        self._cache = dict[str, list[int]]()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Characters of every token; a code that is none counts as one."""
        return tuple(max(1, len(s)) for s in self.strings)

    def places(self, column: pa.Array, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(numbers of the merges whose pieces a text has, of whom it is), over all texts of a column."""
        found, whose = list[np.ndarray](), list[np.ndarray]()
        for number, piece in enumerate(self.strings[len(self.strings) - len(self.merges) :]):
            there = pc.match_substring(column, piece).fill_null(False).to_numpy(zero_copy_only=False)
            whose.append(who[there])
            found.append(np.full(len(whose[-1]), number))
        return np.concatenate(found), np.concatenate(whose)

    def encode(self, text: str) -> list[int]:
        return [token for word in words_of(text) for token in self._word(word)]

    def _word(self, word: str) -> list[int]:
        if (known := self._cache.get(word)) is None:
            known = [self.codes.get(c, self.unknown) for c in word]
            while len(known) > 1:
                pair = min(pairwise(known), key=lambda p: self.rank.get(p, np.inf))
                if (new := self.rank.get(pair)) is None:
                    break
                known = join(known, pair, new)
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[word] = known
        return known

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join([self.strings[t] for t in tokens])
