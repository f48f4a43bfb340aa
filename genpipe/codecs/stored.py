"""What codec.json may hold, which a stranger may have written: each part is a typed form whose numbers are
finite and in range and whose lengths agree, before anything is made of it; and values a field may have.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genpipe.codecs.endings import GRAINS, MOST, Endings, steps
from genpipe.codecs.pieces import LONGEST
from genpipe.codecs.scale import Axis, Score
from genpipe.fields import AnyField

# what reading a file of the right form but the wrong content can end in
UNREADABLE = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, pa.ArrowException)
FARTHEST = 2**62  # points of a lattice from one another: their differences must fit int64
SHARES_OFF = 1e-3  # from 1 in sum: each is rounded

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Real = Annotated[float, Field(ge=-1e150, le=1e150, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AxisForm(Form):
    step: Annotated[int, Field(ge=0, lt=2**63)]
    decimals: Annotated[int, Field(ge=-100, le=100)] | None
    low: Whole | Real
    high: Whole | Real

    @property
    def whole(self) -> bool:
        return self.step > 0 or self.decimals is not None

    @model_validator(mode="after")
    def _check(self) -> AxisForm:
        ends = (self.low, self.high)
        if self.low > self.high:
            raise ValueError(f"low {self.low} above high {self.high}")
        if self.whole and not all(isinstance(end, int) for end in ends):
            raise ValueError("an axis of whole points ends in fractions")
        if self.whole and self.high - self.low >= FARTHEST:
            raise ValueError("an axis wider than 64 bits")
        if any(abs(end) * max(1, self.step) >= 2**63 for end in ends if self.whole):
            raise ValueError("an axis beyond 64 bits")
        return self

    def points(self, values: list[int] | list[float], what: str) -> np.ndarray:
        """Ascending points of the axis."""
        if self.whole and not all(isinstance(v, int) for v in values):
            raise ValueError(f"{what} between the points of an axis of whole ones")
        points = np.asarray(values, dtype=np.int64 if self.whole else np.float64)
        if (points[1:] <= points[:-1]).any() or (points < self.low).any() or (points > self.high).any():
            raise ValueError(f"{what} that do not ascend from {self.low} to {self.high}")
        return points


class EndingsForm(Form):
    points: Annotated[list[Whole | Real], Field(max_length=MOST)]
    often: list[Share]
    grains: list[list[Share]]
    ladder: Annotated[list[Annotated[int, Field(ge=1, le=10**12)]], Field(max_length=32)] = []

    def read(self, points: np.ndarray, bins: np.ndarray, number: int) -> Endings:
        """points: those kept, and the bin of each, of so many."""
        ladder = tuple(self.ladder)
        if ladder and (self.grains or ladder[0] != 1 or any(b <= a or b % a for a, b in pairwise(ladder))):
            raise ValueError("a ladder whose steps do not divide each other")
        if ladder:
            bins, number = bins * len(ladder) + steps(points, ladder), number * len(ladder)
        often, grains = np.asarray(self.often, np.float64), np.zeros((number, 0))
        if len(often) != len(points) or len(self.grains) not in (0, number):
            raise ValueError("endings of other lengths than their values and bins")
        if np.bincount(bins, often, minlength=number).max(initial=0.0) > 1 + SHARES_OFF:
            raise ValueError("values of a bin that are drawn more often than it")
        if self.grains:
            if any(len(row) != len(GRAINS) for row in self.grains):
                raise ValueError(f"grains of a bin that are not {len(GRAINS)}")
            grains = np.asarray(self.grains, np.float64)
            if (np.abs(grains.sum(1) - 1) > SHARES_OFF).any():
                raise ValueError("grains of a bin that do not add up to 1")
        return Endings(points, bins, often, grains, ladder)


class CellsForm(Form):
    atoms: list[Whole | Real]
    edges: list[list[Real]]
    pieces: Annotated[int, Field(ge=1, le=64)]
    endings: EndingsForm | None = None

    def edge_table(self, axis: AxisForm) -> np.ndarray:
        """(N, pieces + 1), ascending but for what rounding does."""
        if any(len(row) != self.pieces + 1 for row in self.edges):
            raise ValueError(f"edges of bins that are not of {self.pieces} pieces")
        table = np.asarray(self.edges, dtype=np.float64).reshape(-1, self.pieces + 1)
        least = 1e-9 * max(1.0, np.abs(table).max(initial=0.0))
        if (np.diff(table.ravel()) < -least).any():
            raise ValueError("edges that do not ascend")
        if axis.whole and np.abs(table).max(initial=0.0) > FARTHEST:
            raise ValueError("edges beyond 64 bits")
        return table


class ScoreForm(Form):
    knots: Annotated[list[Real], Field(min_length=2, max_length=10_000)]
    scores: Annotated[list[Real], Field(min_length=2, max_length=10_000)]

    def lines(self, axis: AxisForm) -> tuple[np.ndarray, np.ndarray]:
        knots, scores = np.asarray(self.knots, np.float64), np.asarray(self.scores, np.float64)
        if len(knots) != len(scores) or (np.diff(knots) <= 0).any() or (np.diff(scores) <= 0).any():
            raise ValueError("a score that is not increasing")
        if (axis.whole and np.abs(knots).max() > FARTHEST) or np.abs(scores).max() > 1.0 + 1e-9:
            raise ValueError("a score out of range")
        return knots, scores


class ScaleForm(Form):
    axis: AxisForm
    cells: CellsForm
    modes: list[Whole | Real]
    score: ScoreForm | None
    shares: list[Share]
    missing: bool
    written: list[Share] = []

    @model_validator(mode="after")
    def _check(self) -> ScaleForm:
        size = len(self.cells.atoms) + len(self.cells.edges)
        check_shares(self.shares, size + self.missing)
        if self.written:
            check_shares(self.written, len(self.written))
        if not size or not (self.score or self.modes):
            raise ValueError("a scale without values")
        return self


class ChoiceForm(Form):
    values: Annotated[list[str | bool], Field(min_length=1)]
    shares: list[Share]
    rare: Share = 0.0
    missing: bool = False
    label: str | None = None

    @model_validator(mode="after")
    def _check(self) -> ChoiceForm:
        redrawn = self.rare > 0 and self.label is None
        check_shares(self.shares, len(self.values) + redrawn + self.missing)
        if len(set(self.values)) != len(self.values):
            raise ValueError("a value that occurs twice")
        if self.label is not None and self.label not in self.values:
            raise ValueError(f"the label {self.label[:80]!r}, which is none of the values")
        if redrawn and not sum(self.shares[: len(self.values)]) > 0:
            raise ValueError("rare values, and no other to draw for them")
        return self


class FixedForm(Form):
    value: str | bool | Whole | Real | None


class PlaceholderForm(Form):
    missing: Share


class ChannelForm(Form):
    axis: AxisForm | None
    score: ScoreForm | None
    gaps: bool

    @model_validator(mode="after")
    def _check(self) -> ChannelForm:
        if self.axis is None and (self.score or not self.gaps):
            raise ValueError("a channel without an axis")
        return self


class TieForm(Form):
    name: str
    over: bool
    others: Annotated[list[str], Field(min_length=1)]
    clamp: bool


class LookupForm(Form):
    label: str
    columns: Annotated[list[str], Field(min_length=1)]
    made: str
    pairs: Annotated[list[list[str | bool | Whole | Real | None]], Field(min_length=1)]
    snaps: bool

    @model_validator(mode="after")
    def _check(self) -> LookupForm:
        if any(len(pair) != 2 for pair in self.pairs):
            raise ValueError("a pair that is not two")
        return self


class RelationsForm(Form):
    lookups: list[LookupForm]
    extremes: dict[str, Annotated[list[Whole | Real], Field(min_length=2, max_length=2)]]
    broken: dict[str, Annotated[int, Field(ge=0, lt=2**63)]]
    apart: list[str] = []
    nested: list[LookupForm] = []


Steps = Annotated[int, Field(ge=1, le=2**22)]
MOST_WINDOW, MOST_BANDS = 2**20, 2**12


class AudioForm(Form):
    peak: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    range_db: Annotated[float, Field(ge=10, le=200, allow_inf_nan=False)]
    frames: Annotated[int, Field(ge=1, le=2**22)]
    pace: Annotated[list[Steps], Field(min_length=3, max_length=3)] | None
    resolution: Annotated[list[Steps], Field(min_length=3, max_length=3)] | None

    @model_validator(mode="after")
    def _check(self) -> AudioForm:
        window, hop, bands = self.resolution or (2, 1, 1)
        if not (2 * hop <= window <= MOST_WINDOW and window % hop == 0 and bands <= MOST_BANDS):
            raise ValueError(f"windows of {window} samples, {hop} apart, {bands} bands")
        if self.pace and not (self.pace[0] < self.pace[1] and self.pace[2] % 8 == 0):
            raise ValueError(f"a pace of {self.pace}: expected low < high and a multiple of eight steps")
        return self


class TextForm(Form):
    points: Annotated[list[Annotated[int, Field(ge=0, lt=0x110000)]], Field(min_length=1)]
    context: Annotated[int, Field(ge=1, le=65_536)]
    unknown: Annotated[float, Field(ge=-1e-9, le=1, allow_inf_nan=False)]
    merges: Annotated[
        list[Annotated[list[int], Field(min_length=2, max_length=2)]], Field(max_length=65_536)
    ] = []

    @model_validator(mode="after")
    def _check(self) -> TextForm:
        sizes = [0, 0] + [1] * len(self.points)  # of codes; the first two are no characters
        for a, b in self.merges:
            if not (min(a, b) >= 2 and max(a, b) < len(sizes)) or sizes[a] + sizes[b] > LONGEST:
                raise ValueError(f"a merge of {a} and {b}, no two codes before it that are short enough")
            sizes.append(sizes[a] + sizes[b])
        if len({*map(tuple, self.merges)}) < len(self.merges):
            raise ValueError("a merge that comes twice")
        points = np.asarray(self.points)
        if (np.diff(points) <= 0).any() or ((points >= 0xD800) & (points < 0xE000)).any():
            raise ValueError("code points that do not ascend, or are of no character")
        return self


def read_axis(field: AnyField, form: AxisForm) -> Axis:
    """A ValueError where its ends are no values of the field."""
    if (field.kind == "number") == (form.step > 0):
        raise ValueError(f"a step of {form.step} for a column of {field.kind}")
    axis = Axis(field, form.step, form.decimals, form.low, form.high)
    if form.low < form.high:  # else there may have been no point within narrow limits
        check_legal(field, axis.arrow(np.array([form.low, form.high]), None))
    return axis


def read_score(form: ScoreForm | None, axis: AxisForm) -> Score | None:
    return None if form is None else Score(*form.lines(axis))


def check_shares(shares: list[float], size: int) -> None:
    if len(shares) != size:
        raise ValueError(f"{len(shares)} shares of {size} values")
    if abs(sum(shares) - 1.0) > SHARES_OFF:
        raise ValueError(f"shares that sum to {sum(shares):g}")


def check_legal(field: AnyField, column: pa.Array) -> None:
    """Raise a ValueError where a column of the field's type holds what its schema does not allow."""
    if column.null_count and not field.nullable:
        raise ValueError(f"missing values of {field.name!r}, which has none")
    pinned = getattr(field, "values", None)
    if pinned is not None and not pc.all(pc.is_in(column.drop_null(), pa.array(pinned, pa.string()))).as_py():
        raise ValueError(f"values of {field.name!r} that its schema does not list")
    if field.kind in ("number", "integer"):
        ends, limits = pc.min_max(column), (field.minimum, field.maximum)  # type: ignore[union-attr]
        low, high = ends["min"].as_py(), ends["max"].as_py()
        if low is not None and not np.isfinite([low, high]).all():
            raise ValueError(f"values of {field.name!r} that are not finite")
        below = low is not None and limits[0] is not None and low < limits[0]
        if below or (high is not None and limits[1] is not None and high > limits[1]):
            raise ValueError(f"values of {field.name!r} beyond its minimum and maximum")
