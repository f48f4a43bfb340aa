"""How rows begin: a prompt that texts go on from, a history that series are continued after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.bundle.mix import Mix, mix_of
from genpipe.codecs.base import Codec
from genpipe.codecs.series import SeriesCodec
from genpipe.codecs.tabular.numeric import LARGEST
from genpipe.codecs.text import TextCodec
from genpipe.errors import UsageError

PROMPT, HISTORY = "prompt", "history"


@dataclass(frozen=True)
class Beginning:
    """prompts: of texts. steps: of series, channel -> (n,) float64."""

    codec: TextCodec | SeriesCodec
    prompts: Mix | None = None
    steps: Mapping[str, np.ndarray] | None = None

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """(rows, T) tokens, -1 beyond a prompt; or (rows, T, C) values, NaN beyond the history."""
        if isinstance(self.codec, TextCodec):
            assert self.prompts is not None
            return self.codec.beginning(self.prompts.draw(rows, rng))
        assert self.steps is not None
        return np.repeat(self.codec.beginning(self.steps)[None], rows, 0)

    def told(self, classes: np.ndarray, begun: np.ndarray) -> np.ndarray:
        """Conditions, (rows, K), where the steps that are given say at which place of a season they are."""
        return classes if self.steps is None else self.codec.placed(classes, begun)  # type: ignore[union-attr]

    def exact(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with the history as it was given, which codes hold up to their width."""
        return batch if self.steps is None else self.codec.with_beginning(batch, self.steps)  # type: ignore[union-attr]


def parse_beginning(codec: Codec, conditions: dict[str, Any], takes_observed: str) -> Beginning | None:
    """What rows begin with, taken out of the conditions; None = nothing is said of it.

    Raises UsageError where a generator makes no row from its beginning on, or cannot begin so.
    """
    name = PROMPT if isinstance(codec, TextCodec) else HISTORY if isinstance(codec, SeriesCodec) else ""
    if name not in conditions or name in codec.schema.names:
        return None
    asked = conditions.pop(name)
    if takes_observed == "none":
        fix = (
            "text_lstm, text_gru, text_gpt"
            if name == PROMPT
            else "series_recurrent, series_in_turn or series_transformer"
        )
        found = "a generator that does not make rows from their beginning on"
        raise UsageError("CONDITION", where=name, found=found, expected=f"one such as {fix}")
    if isinstance(codec, TextCodec):
        prompts = mix_of(asked, pa.string(), where=name)
        if prompts.values.null_count:
            raise UsageError(
                "PROMPT", where=name, found="nothing", expected="a text, or texts and their shares"
            )
        codec.beginning(prompts.values)
        return Beginning(codec, prompts=prompts)
    assert isinstance(codec, SeriesCodec)
    steps = _steps(asked, codec)
    codec.beginning(steps)
    return Beginning(codec, steps=steps)


def no_beginning(name: str, kind: str) -> UsageError:
    """The error of a prompt for what is no text, or of a history for what is no series."""
    of = "text" if name == PROMPT else "series"
    found, fix = f"a generator of {kind} data, which has no {name}", f"{name} is for generators of {of} data"
    return UsageError("CONDITION", where=name, found=found, expected="columns and their values", fix=fix)


def _steps(asked: Any, codec: SeriesCodec) -> dict[str, np.ndarray]:
    """Channel -> (n,) float64, NaN where a step is missing."""
    names = [c.field.name for c in codec.channels]
    if not isinstance(asked, Mapping) or not set(names) <= set(asked):
        found = ", ".join(map(str, asked)) if isinstance(asked, Mapping) else type(asked).__name__
        raise UsageError(
            "CONDITION", where=HISTORY, found=found[:300], expected=f"a list each of {', '.join(names)}"
        )
    try:
        steps = {n: np.array([np.nan if v is None else v for v in asked[n]], np.float64) for n in names}
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            "CONDITION", where=HISTORY, found="values that are no numbers", expected="numbers"
        ) from None
    known = np.concatenate([*steps.values()])
    if len(far := known[np.abs(known) > LARGEST]):
        expected = f"at most {LARGEST:g}, or missing steps"
        raise UsageError("CONDITION", where=HISTORY, found=f"the number {far[0]}", expected=expected)
    lengths, gaps = {len(v) for v in steps.values()}, any(np.isnan(v).any() for v in steps.values())
    if len(lengths) > 1 or not 0 < min(lengths) < codec.length + gaps:
        found = f"{' and '.join(map(str, sorted(lengths)))} steps"
        fix = f"series of this model have {codec.length} steps; give the last {codec.length // 2}, say"
        raise UsageError(
            "CONDITION", where=HISTORY, found=found, expected=f"1 to {codec.length - 1}", fix=fix
        )
    return steps
