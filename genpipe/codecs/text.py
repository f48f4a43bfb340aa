"""Text: characters, or pieces of words, as tokens (T,) of one shared vocabulary.

Code 0 ends a text and fills the rest of its record, code 1 stands for a character that too few texts of
training have (`codec.rare_below`), or none, and decodes to U+FFFD; both are codes, not characters, so no
character of the data can collide with them. Codes of characters follow, and then those of pieces (pieces.py),
where there are any. A record holds `context` tokens: a longer text is cut there (sources cut long documents
into records of that size beforehand). Where records are runs of longer texts (`runs` of the field), their
ends are not learnt, and what is drawn ends with its last whole word. `mask` is True on the tokens of
a text and on the first end, so a model learns where texts end; the filling beyond it is masked out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import Arrays, Codec, CodecConfig, RowStats, Stats, check_version
from genpipe.codecs.columns import assemble, only_field
from genpipe.codecs.conditions import ConditionTable
from genpipe.codecs.holders import Holders, entities
from genpipe.codecs.pieces import Pair, Pieces, WordStats, learn_merges
from genpipe.codecs.sketch import add_counts
from genpipe.codecs.stored import TextForm
from genpipe.errors import DataError, UsageError
from genpipe.fields import Text
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

END, UNKNOWN, FIRST = 0, 1, 2
REPLACEMENT = 0xFFFD
UNKNOWN_TEXT = chr(REPLACEMENT)
Marks = Callable[[pa.Array, np.ndarray], tuple[np.ndarray, np.ndarray]]
ROUND = 16  # characters
MOST_CONTEXT = 1024  # of a record, where the recipe does not say
SPARE = 1.1  # times these: of texts as long others may have more tokens


@dataclass(frozen=True)
class TextStats(Stats):
    """characters: how often each code point occurs. texts: in how many texts. longest: characters of the
    longest text. holders: whose texts have each code point; None where every text is an entity. words: what
    pieces are learnt from; None where there are to be none.
    """

    rows: RowStats
    characters: dict[int, int]
    texts: dict[int, int]
    longest: int
    holders: Holders | None = None
    words: WordStats | None = None

    def merge(self, other: TextStats) -> TextStats:
        return TextStats(
            self.rows.merge(other.rows),
            add_counts(self.characters, other.characters),
            add_counts(self.texts, other.texts),
            max(self.longest, other.longest),
            self.holders.merge(other.holders) if self.holders and other.holders else None,
            self.words.merge(other.words) if self.words and other.words else None,
        )

    def entities(self, point: int) -> int:
        """How many are known to have a code point in their texts."""
        if self.holders is None:
            return self.texts[point]
        return int(self.holders.count(np.array([point], np.uint64))[0])


class TextCodec(Codec):
    kind = "text"
    layouts = ("tokens",)

    def __init__(
        self,
        schema: Schema,
        points: tuple[int, ...],
        context: int,
        unknown: float,
        conditions: ConditionTable,
        merges: Sequence[Pair] = (),
    ) -> None:
        """points: code points in order, codes FIRST and on. unknown: largest share of them in training.
        merges: pairs of codes that are one token.
        """
        self.schema, self.points, self.conditions = schema, points, conditions
        self.context, self.unknown = context, unknown
        self.pieces = pieces_of(points, merges) if merges else None
        self.field = only_field(schema, "text")
        self.runs = isinstance(self.field, Text) and self.field.runs

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> TextStats:
        column = batch.column(only_field(schema, "text").name)
        lengths = pc.utf8_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        points, number = _code_points(column).astype(np.int64), max(1, len(column))
        row = np.repeat(np.arange(len(column)), lengths)
        once, text = np.divmod(np.unique(points * number + row), number)
        who = entities(batch, schema) if config.rare_below else None
        held = None
        if who is not None:
            held = Holders.of(once.astype(np.uint64), who[text], least=config.rare_below)
        rows, longest = RowStats.of(batch, schema, config), int(lengths.max(initial=0))
        words = None
        if config.tokens == "bpe":
            words = WordStats.of([t or "" for t in column.to_pylist()], who, config.rare_below)
        return TextStats(rows, _counted(points), _counted(once), longest, held, words)

    @classmethod
    def build(cls, schema: Schema, stats: TextStats, config: CodecConfig) -> TextCodec:
        stats.rows.check(config)
        kept = tuple(sorted(p for p in stats.characters if stats.entities(p) >= config.rare_below))
        if not kept:
            raise DataError("NOTHING", found="no characters to learn", expected="texts that are not empty")
        total = sum(stats.characters.values())
        lost, longest = total - sum(stats.characters[p] for p in kept), stats.longest + 1
        runs = only_field(schema, "text").runs
        if runs:  # without an end
            longest -= 1
        merges = list[Pair]()
        if stats.words is not None:
            first = pieces_of(kept, ())
            most = config.vocabulary - len(first.strings)
            merges = learn_merges(stats.words.common(max(1, config.rare_below)), first.codes, most)
            pieces = pieces_of(kept, merges)
            found = max(len(pieces.encode(t)) for t in stats.words.longest)
            longest = min(longest, math.ceil(SPARE * found) + (not runs))
        if k := config.rare_below:  # one text's length and its odd characters are told roughly
            lost, longest = -(-lost // k) * k, -(-longest // ROUND) * ROUND
        unknown, context = lost / max(total, lost), min(config.context or MOST_CONTEXT, longest)
        codec = cls(schema, kept, context, unknown, stats.rows.table(schema, config), merges)
        if context < longest:
            how = "codec.context takes more, or ingest them in shorter records"
            what = "tokens" if merges else "characters"
            codec.notice = f"texts of up to {longest} {what} are learnt up to {context} of them; {how}"
        return codec

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        vocabulary = (FIRST + len(self.points) + (len(self.pieces.merges) if self.pieces else 0),)
        return TensorSpec(
            layout="tokens",
            shape=(self.context,),
            dtype="int32",
            vocabulary=vocabulary,
            sizes=self.pieces.sizes if self.pieces else (),
            ends=True,
            conditions=self.conditions.sizes,
        )

    @cached_property
    def _known(self) -> np.ndarray:
        return np.asarray(self.points, dtype=np.uint32)

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        self.check_layout(layout)
        x, lengths = self._tokens(batch.column(self.field.name))
        mask = np.arange(self.context) < lengths[:, None] + (not self.runs)
        return {"x": x, "mask": mask, "condition": self.conditions.codes(batch)}

    def _tokens(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(B, T) tokens and (B,) how many each text has."""
        if self.pieces:
            found = [self.pieces.encode(t or "") for t in column.to_pylist()]
            x = np.full((len(found), self.context), END, dtype=np.int32)
            for row, tokens in zip(x, found, strict=True):
                row[: len(tokens)] = tokens[: self.context]
            return x, np.array([len(tokens) for tokens in found], dtype=np.int64)
        lengths = pc.utf8_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        codes = self._codes(column)
        place = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        row = np.repeat(np.arange(len(column)), lengths)
        fits = place < self.context
        x = np.full((len(column), self.context), END, dtype=np.int32)
        x[row[fits], place[fits]] = codes[fits]
        return x, lengths

    def _codes(self, column: pa.Array) -> np.ndarray:
        """The codes of all characters of a column, one after the other."""
        characters = _code_points(column)
        near = np.minimum(np.searchsorted(self._known, characters), len(self._known) - 1)
        return np.where(self._known[near] == characters, near + FIRST, UNKNOWN).astype(np.int32)

    def tokens(self, text: str) -> np.ndarray:
        """(N,) the tokens of a text of any length, without an end."""
        if self.pieces:
            return np.array(self.pieces.encode(text), dtype=np.int32)
        return self._codes(pa.array([text]))

    def beginning(self, texts: pa.Array) -> np.ndarray:
        """(B, T) the tokens of texts that rows begin with, -1 beyond them. Raises UsageError where one has a
        character that was not learnt, or leaves no room for more.
        """
        for text in texts.unique().to_pylist():
            unknown = sorted({c for c in text if ord(c) not in self.points})
            tokens = len(self.tokens(text))
            if unknown or not 0 < tokens < self.context:
                found = f"{text[:60]!r}" + (f", with {', '.join(map(repr, unknown[:10]))}" if unknown else "")
                known, what = "".join(map(chr, self.points))[:200], "tokens" if self.pieces else "characters"
                expected = f"1 to {self.context - 1} {what}, all characters among {known!r}"
                raise UsageError("PROMPT", where="prompt", found=found, expected=expected)
        x, lengths = self._tokens(texts)
        return np.where(np.arange(self.context) < lengths[:, None], x, -1)

    def decode(self, arrays: Arrays, layout: str, rng: np.random.Generator) -> pa.RecordBatch:
        self.check_layout(layout)
        x = np.clip(arrays["x"], 0, self.spec(layout).vocabulary[0] - 1)
        over = np.concatenate([x, np.zeros((len(x), 1), x.dtype)], axis=1) == END
        lengths = over.argmax(1)
        texts = self._texts(x, lengths)
        if self.runs:
            whole = lengths == x.shape[1]
            texts = [_to_last_word(t) if w else t for t, w in zip(texts, whole.tolist(), strict=True)]
        made = self.conditions.columns(self.schema, arrays["condition"])
        return assemble(self.schema, made | {self.field.name: pa.array(texts, pa.string())}, len(x), rng)

    def _texts(self, x: np.ndarray, lengths: np.ndarray) -> list[str]:
        """The texts of (B, T) tokens, so many of each."""
        if self.pieces:
            return [self.pieces.decode(row[:n].tolist()) for row, n in zip(x, lengths.tolist(), strict=True)]
        table = np.concatenate([[REPLACEMENT, REPLACEMENT], self._known]).astype("<u4")
        keep = np.arange(x.shape[1]) < lengths[:, None]
        joined = table[x[keep]].tobytes().decode("utf-32-le")
        ends = np.cumsum(lengths)
        return [joined[a:b] for a, b in zip((ends - lengths).tolist(), ends.tolist(), strict=True)]

    def marks(self) -> Iterator[tuple[Marks, Sequence[int]]]:
        """What is kept of texts, as numbers, and what tells (numbers of a column's texts, whose they are)."""
        yield text_points, self.points
        if self.pieces:
            yield self.pieces.places, range(len(self.pieces.merges))

    def tolerance(self, layout: str) -> dict[str, float]:
        """Share of changed characters, of texts that fit `context`."""
        self.check_layout(layout)
        return dict.fromkeys(self.schema.conditions, 0.0) | {self.field.name: self.unknown}

    def to_json(self) -> dict[str, Any]:
        content = {"points": list(self.points), "context": self.context, "unknown": self.unknown}
        if self.pieces:
            content["merges"] = [list(pair) for pair in self.pieces.merges]
        return self.header() | content | {"conditions": self.conditions.model_dump(mode="json")}

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> TextCodec:
        check_version(cls.kind, data)
        form = TextForm.model_validate({n: data[n] for n in TextForm.model_fields if n in data})
        table = ConditionTable.read(schema, data["conditions"])
        merges = [(a, b) for a, b in form.merges]
        return cls(schema, tuple(form.points), form.context, form.unknown, table, merges)


def _to_last_word(text: str) -> str:
    """The text up to the last blank of its second half, if it has one."""
    blank = max(text.rfind(mark, len(text) // 2) for mark in (" ", "\n", "\t"))
    return text if blank < 0 else text[: blank + 1]


def pieces_of(points: Sequence[int], merges: Sequence[Pair]) -> Pieces:
    """Tokens of a codec: the end, what is unknown, characters, pieces."""
    return Pieces(["", UNKNOWN_TEXT, *map(chr, points)], merges, UNKNOWN)


def text_points(column: pa.Array, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(code points of all texts, of whom each is); who: (B,) of whom each text is."""
    lengths = pc.utf8_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return _code_points(column).astype(np.int64), np.repeat(who, lengths)


def _counted(values: np.ndarray) -> dict[int, int]:
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), counts.tolist(), strict=True))


def _code_points(column: pa.Array) -> np.ndarray:
    """The code points of all texts of a column, one after the other."""
    return np.frombuffer("".join(t or "" for t in column.to_pylist()).encode("utf-32-le"), dtype="<u4")
