"""Text: does it recite? Runs of characters and names that the documents of one training entity alone have.

A run of `RUN` characters that one entity alone wrote is a passage of it ("extractable memorisation": Carlini
et al., "Quantifying memorization across neural language models", 2023, arXiv 2202.07646, section 3, there of
50 tokens); two words with capitals in a row, that one entity alone has, are most often a person or a place.
What as many held-out documents share with the generated ones is counted beside (`singling_out.Shown`).
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa

from genpipe.evaluation.privacy.findings import FEWEST, Finding, told
from genpipe.evaluation.privacy.singling_out import Distinct, Shown
from genpipe.evaluation.report import Score
from genpipe.keys import column_keys, run_keys
from genpipe.schema import Schema

RUN = 32  # characters: some six words
PASSAGES = 0.01  # of generated characters, that may begin a run of one training entity beyond chance
NAMES = 0.01  # of generated names, likewise
EXCUSED = 1.0  # times chance, on top
_WORDS = re.compile(r"[^\W\d_][\w'’-]*")


class Verbatim:
    """Of generated texts: give it the training documents, then the held-out ones, and ask."""

    def __init__(self, synthetic: pa.Table, schema: Schema) -> None:
        self.column = schema.of_kind("text")[0].name
        documents = self._documents(synthetic)
        self.runs, self.names = Shown(runs(documents)[0]), Shown(names(documents)[0])
        self.longest = Longest(documents)
        self.sides = {True: Distinct(), False: Distinct()}

    def _documents(self, table: pa.Table) -> list[str]:
        return [text or "" for text in table[self.column].to_pylist()]

    def see(self, table: pa.Table, who: np.ndarray, *, member: bool) -> None:
        self.sides[member].see(who)
        documents = self._documents(table)
        self.longest.see(documents, member=member)
        for shown, found in ((self.runs, runs(documents)), (self.names, names(documents))):
            keys, place = found
            shown.see(keys, who[place], member=member)

    def findings(self, twin: Verbatim | None = None) -> list[Finding]:
        """twin: of texts of a generator that has not learnt the held-out documents, where this one has."""
        members, others = self.sides[True].count, int(self.sides[False].count)
        few = "" if min(members, others) >= FEWEST else "too few documents"
        what = f"runs of {RUN} characters", "names"
        if twin:
            passages = [self.runs.beside(what[0], twin.runs)]
            named = [self.names.beside(what[1], twin.names)]
        else:
            passages = [self.runs.excess(what[0], members, others)]
            named = [self.names.excess(what[1], members, others)]
        return [
            told(
                "passages", "Passages by heart",
                f"share of places in generated texts where {RUN} characters of one training document alone"
                " begin; of real data: of as many unseen documents",
                passages if not few and self.runs.total else [], PASSAGES, excused=EXCUSED,
                reason=few or "no text is that long", leak="It recites training documents",
            ),
            Finding(self.longest.score()),
            told(
                "names", "Names",
                "share of generated names (words with capitals in a row) that one training document alone"
                " has; of real data: as many unseen documents",
                named if not few and self.names.total else [], NAMES, excused=EXCUSED,
                reason=few or "no name was generated",
                leak="It gives out names that one training document alone has",
            ),
        ]  # fmt: skip


class Longest:
    """The longest run of characters that generated texts and real ones of a side have in common.

    A run of n characters has one of n - 1 in it, so by doubling and halving of the length a piece of real
    texts is compared a few times, and once where it has no longer one than those before.
    """

    def __init__(self, made: list[str]) -> None:
        self.made, self.most = made, max(map(len, made), default=0)
        self.best = {True: 0, False: 0}
        self._keys = lru_cache(maxsize=8)(lambda length: np.unique(run_keys(made, length)[0]))

    def see(self, documents: list[str], *, member: bool) -> None:
        low, step = self.best[member], 1
        while self._shared(documents, low + step):
            low, step = low + step, 2 * step
        while step > 1:  # none of low + step
            step //= 2
            low += step if self._shared(documents, low + step) else 0
        self.best[member] = low

    def _shared(self, documents: list[str], length: int) -> bool:
        made = self._keys(length) if length <= self.most else np.zeros(0, np.uint64)
        keys = run_keys(documents, length)[0] if len(made) else made
        if not len(keys):
            return False
        return bool((made[np.minimum(np.searchsorted(made, keys), len(made) - 1)] == keys).any())

    def score(self) -> Score:
        return Score(
            name="longest_run", title="Longest passage", goal="min", unit="characters",
            value=self.best[True], ceiling=self.best[False], floor=self.most,
            meaning="the longest run of characters that generated texts share with a training one; real data:"
            " with an unseen one, of which there are fewer",
        )  # fmt: skip


def runs(documents: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(keys of every run of `RUN` characters, the document each is of)."""
    return run_keys(documents, RUN)


def names(documents: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(keys of every two words with capitals in a row, the document each is of)."""
    found, place = list[str](), list[int]()
    for number, document in enumerate(documents):
        last, end = "", -1
        for match in _WORDS.finditer(document):
            word = match[0]
            capital = word[0].isupper() and len(word) > 1
            if capital and last and document[end : match.start()] == " ":
                found.append(f"{last} {word}".casefold())
                place.append(number)
            last, end = (word if capital else ""), match.end()
    return column_keys(pa.array(found, pa.string())), np.array(place, dtype=np.int64)
