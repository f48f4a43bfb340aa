"""Does a bundle hold what only few have? Its files are read against the training split they come from.

Every text in them, every number a codec keeps, every pair of a look-up is a claim that at least k entities
back; one pass over the rows finds those that have fewer. A number that is no value but a mark (an end, a cut,
a knot) is backed by whoever lies as near as it is round: within half of the power of two it is a multiple of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.bundle.folder import read_document
from genpipe.bundle.generator import Bundle
from genpipe.codecs.base import Codec
from genpipe.codecs.channel import channel_values
from genpipe.codecs.columns import Fixed
from genpipe.codecs.holders import Holders, entities, hash_values
from genpipe.codecs.scale import Axis, Score
from genpipe.codecs.series import SeriesCodec
from genpipe.codecs.sketch import hash_column, hash_rows, to_numpy
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.codecs.tabular.lookups import from_plain, plain, together
from genpipe.codecs.tabular.numeric import Scale
from genpipe.codecs.text import TextCodec
from genpipe.dataset import Dataset
from genpipe.errors import PrivacyError

# words of codec.json itself, and what a training run writes into origin.json
_STRUCTURE = """version kind columns conditions relations type values shares rare missing label axis step
decimals low high cells atoms edges pieces endings often grains ladder written modes score knots scores
value names lookups made pairs snaps extremes broken channels gaps points context unknown peak frames
range_db choice scale fixed placeholder tabular image series text audio apart ties nested over others pace
merges"""
_ORIGIN = """stage name dataset_fingerprint seed minutes tag code codec run_id dataset_uri rows protected
step plugins incidents final twin twin_uri judged_uri judged_fingerprint from from_fingerprint from_dataset
codec_dataset_uri"""
STRUCTURE, ORIGIN = frozenset(_STRUCTURE.split()), frozenset(_ORIGIN.split())


def check_held(bundle: Bundle, dataset: Dataset) -> None:
    """Raise a PrivacyError that names the columns of which the bundle holds what fewer than k entities have.

    dataset: the one it was trained on. With `codec.rare: keep` nothing is asked of it.
    """
    if bundle.recipe.codec.rare == "keep":
        return
    found = few_held(bundle, dataset, bundle.recipe.codec.rare_below)
    if found:
        told = "; ".join(f"{column}: {n} {what}" for (column, what), n in sorted(found.items()))
        raise PrivacyError(
            "PEOPLE",
            where=bundle.uri,
            found=f"values that fewer than {bundle.recipe.codec.rare_below} entities have ({told})",
            expected="none",
            fix="train again, with codec.rare: protect, or say that it may hold them with codec.rare: keep",
        )


def few_held(bundle: Bundle, dataset: Dataset, k: int) -> dict[tuple[str, str], int]:
    """(column, what) -> how many of these the bundle holds though fewer than k entities have them."""
    codec, rows = bundle.codec, 0
    claims: list[_Words | _Pairs | _Marks] = [*_words(bundle, k), *_pairs(codec, k), *_marks(codec, k)]
    for batch in dataset.batches("train"):
        who = entities(batch, dataset.schema)
        if who is None:
            who = np.arange(rows, rows + batch.num_rows).astype(np.uint64)
        rows += batch.num_rows
        seen = codec.reduce(batch)
        for claim in claims:
            claim.see(seen, who)
    found: dict[tuple[str, str], int] = {}
    words = [claim for claim in claims if isinstance(claim, _Words)]
    known = np.concatenate([np.zeros(0, np.uint64), *(c.hashes[c.counts() >= k] for c in words)])
    for claim in claims:
        if n := claim.few(known):
            found[claim.column, claim.what] = found.get((claim.column, claim.what), 0) + n
    return found


class _Counted:
    """Claims about hashed values: those that some entities have, but fewer than k."""

    what = "values"

    def __init__(self, column: str, hashes: np.ndarray, k: int) -> None:
        self.column, self.hashes, self.k = column, np.unique(hashes), k
        self.holders: Holders | None = None

    def add(self, hashes: np.ndarray, who: np.ndarray) -> None:
        mine = np.isin(hashes, self.hashes)
        held = Holders.of(hashes[mine], who[mine], least=self.k)
        self.holders = held if self.holders is None else self.holders.merge(held)

    def few(self, known: np.ndarray) -> int:
        """known: hashes of what enough entities have in another column."""
        counts = self.counts()
        return int(((counts > 0) & (counts < self.k) & ~np.isin(self.hashes, known)).sum())

    def counts(self) -> np.ndarray:
        held = self.holders
        return held.count(self.hashes) if held is not None else np.zeros(len(self.hashes), np.int64)


class _Words(_Counted):
    """Texts of the bundle, in a column of text."""

    def see(self, batch: pa.RecordBatch, who: np.ndarray) -> None:
        column = batch.column(self.column)
        there = column.is_valid().to_numpy(zero_copy_only=False)
        self.add(hash_column(column)[there], who[there])


class _Pairs(_Counted):
    """What a look-up holds of two columns."""

    what = "pairs"

    def __init__(self, column: str, sources: list[str], hashes: np.ndarray, k: int) -> None:
        super().__init__(column, hashes, k)
        self.sources = sources

    def see(self, batch: pa.RecordBatch, who: np.ndarray) -> None:
        keys = [batch.column(name) for name in self.sources]
        key = plain(keys[0]) if len(keys) == 1 else together(keys)
        self.add(hash_rows([key, plain(batch.column(self.column))], batch.num_rows), who)


class _Marks:
    """Stretches of a column of numbers, low to high, in each of which k entities must lie if any does.

    places: (values of a batch, whose) -> (places to compare, whose).
    """

    what = "numbers"

    def __init__(self, column: str, places: Any, stretches: Iterable[tuple[float, float]], k: int) -> None:
        self.column, self.places, self.k = column, places, k
        self.open: dict[tuple[float, float], set[int]] = {s: set() for s in stretches}

    def see(self, batch: pa.RecordBatch, who: np.ndarray) -> None:
        if not self.open:
            return
        places, whose = self.places(batch.column(self.column), who)
        order = np.argsort(places, kind="stable")
        places, whose = places[order], whose[order]
        low, high = np.array(list(self.open)).T
        first, stop = np.searchsorted(places, low), np.searchsorted(places, high, "right")
        for stretch, a, b in zip(list(self.open), first, stop, strict=True):
            self.open[stretch].update(np.unique(whose[a:b])[: self.k].tolist())
            if len(self.open[stretch]) >= self.k:
                del self.open[stretch]

    def few(self, known: np.ndarray) -> int:
        return sum(bool(who) for who in self.open.values())


def _words(bundle: Bundle, k: int) -> Iterator[_Words]:
    schema = bundle.schema
    origin = {n: v for n, v in read_document(bundle.uri, "origin").items() if n not in ORIGIN}
    codec, metrics = (read_document(bundle.uri, n) for n in ("codec", "metrics"))
    reasons = [f.reason for f in schema.fields]
    texts = set(_texts([codec, *metrics.values(), origin, reasons])) - STRUCTURE - set(schema.names)
    fields = [f for f in schema.fields if f.arrow() == pa.string()]
    if isinstance(bundle.codec, ColumnCodec):
        fields += [t.field for t in bundle.codec.relations.tied]
    for field in fields:
        public = {*(getattr(field, "values", None) or ()), bundle.recipe.codec.label}
        if mine := sorted(texts - public):
            yield _Words(field.name, hash_values(mine, pa.string()), k)


def _texts(document: Any) -> Iterator[str]:
    """Every text of a JSON document, keys too."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from _texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value)


def _pairs(codec: Codec, k: int) -> Iterator[_Pairs]:
    for lookup in codec.relations.looked_up if isinstance(codec, ColumnCodec) else ():
        keys, partners = zip(*lookup.pairs, strict=True)
        one = len(lookup.sources) == 1
        key = plain(from_plain(list(keys), lookup.sources[0])) if one else pa.array(keys, pa.string())
        hashes = hash_rows([key, plain(from_plain(list(partners), lookup.field))], len(keys))
        yield _Pairs(lookup.field.name, [s.name for s in lookup.sources], hashes, k)


def _marks(codec: Codec, k: int) -> Iterator[_Marks]:
    if isinstance(codec, TextCodec):
        for places, marks in codec.marks():
            yield _Marks(codec.field.name, places, [(float(m), float(m)) for m in marks], k)
    for channel in codec.channels if isinstance(codec, SeriesCodec) else ():
        if channel.axis is not None:
            places = _Places(channel.axis, series=True)
            yield _Marks(channel.field.name, places, _ends(channel.axis), k)
            yield _Marks(channel.field.name, places, _knots(channel.axis, channel.score), k)
    for column in codec.columns if isinstance(codec, ColumnCodec) else ():
        name = column.field.name
        if isinstance(column, Fixed) and isinstance(column.value, int | float):
            yield _Marks(name, _storage, [(column.value, column.value)], k)
        if isinstance(column, Scale):
            kept = column.cells.endings.points if column.cells.endings else ()
            exact = {(float(p), float(p)) for p in (*column.cells.atoms, *column.modes, *kept)}
            yield _Marks(name, _Places(column.axis), [*exact, *_ends(column.axis)], k)
            yield _Marks(name, _Places(column.axis), _knots(column.axis, column.score), k)
            yield _Marks(name, _Rest(column), _edges(column), k)


def _storage(column: pa.Array, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, valid = to_numpy(column)
    return values[valid], who[valid]


class _Places:
    """Where the values of a column lie on an axis, beyond its ends too."""

    def __init__(self, axis: Axis, *, series: bool = False) -> None:
        self.axis, self.series = axis, series

    def __call__(self, column: pa.Array, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, whose = channel_values(column, who) if self.series else _storage(column, who)
        return self.axis.places(values), whose


class _Rest:
    """Coordinates of the values that are no atoms."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    def __call__(self, column: pa.Array, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, whose = _storage(column, who)
        points, cells = self.scale.axis.points(values), self.scale.cells
        rest = ~np.isin(self.scale.axis.places(values), cells.atoms)
        return cells.coordinate(points[rest]), whose[rest]


def _ends(axis: Axis) -> list[tuple[float, float]]:
    """Of the ends of an axis, unless they are the schema's."""
    values, _ = to_numpy(axis.arrow(np.array([axis.low, axis.high]), None))
    limits = [getattr(axis.field, "minimum", None), getattr(axis.field, "maximum", None)]
    beyond = [_beyond(axis.low, 1), _beyond(axis.high, -1)]
    return [e for e, v, limit in zip(beyond, values, limits, strict=True) if limit is None or v != limit]


def _knots(axis: Axis, score: Score | None) -> list[tuple[float, float]]:
    if score is None:
        return []
    origin = axis.low if axis.whole else 0.0
    return _all_marks(score.knots, (axis.low - origin, axis.high - origin), origin)


def _edges(scale: Scale) -> list[tuple[float, float]]:
    axis, cells = scale.axis, scale.cells
    if not axis.whole:
        return _all_marks(np.unique(cells.edges), (axis.low, axis.high), 0.0)
    # between the points of a lattice: rounded are the first after an edge, and the last before the end
    marks = np.unique(cells.edges) + 0.5
    marks[-1:] -= 1
    return _all_marks(marks, (0.0, axis.high - axis.low - len(cells.atoms)), -0.5)


def _all_marks(marks: np.ndarray, told: tuple[float, float], shift: float) -> list[tuple[float, float]]:
    """The stretches of ascending marks; the first and the last are ends. told: ends of the axis, which are
    told as such. shift: from a mark to the places compared.
    """
    out = [_near(m, shift) for m in marks[1:-1] if m not in told]
    if len(marks) and marks[0] not in told:
        out.append(_beyond(marks[0], 1, shift))
    if len(marks) and marks[-1] not in told:
        out.append(_beyond(marks[-1], -1, shift))
    return out


def _near(mark: float, shift: float) -> tuple[float, float]:
    """Around a mark, as wide as it is round."""
    wide = _roundness(mark) / 2
    return mark + shift - wide, mark + shift + wide


def _beyond(end: float, sign: int, shift: float = 0.0) -> tuple[float, float]:
    """What lies at or beyond an end, or inside it, twice as far as it is round."""
    inside = end + shift + sign * 2 * _roundness(end)
    return (-np.inf, inside) if sign > 0 else (inside, np.inf)


def _roundness(number: float) -> float:
    """The greatest power of two that a number is a multiple of."""
    top, bottom = float(number).as_integer_ratio()
    return float(top & -top) / bottom if top else np.inf
