"""Texts that go on from a prompt, series that go on from a history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
import pytest

from genpipe.bundle import Bundle
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.fields import Category, Series, Text
from genpipe.recipes import RECIPES
from genpipe.schema import Schema

STEPS, KNOWN = 12, 5
LETTERS = "abcdef"


def texts(make_untrained: Callable[..., str], folder: Path, recipe: str = "text_lstm") -> Bundle:
    rng = np.random.default_rng(0)
    rows = {
        "text": ["".join(rng.choice([*LETTERS], 20)) for _ in range(60)],
        "label": ["x", "y"] * 30,
    }
    schema = Schema(kind="text", fields=(Text(name="text"), Category(name="label")), target="label")
    return Bundle.open(make_untrained(RECIPES[recipe](), schema, rows, folder))


def series(
    make_untrained: Callable[..., str], folder: Path, recipe: str = "series_recurrent", gaps: bool = False
) -> Bundle:
    rng = np.random.default_rng(0)
    low = rng.normal(size=(60, STEPS)).cumsum(1).round(2)
    high = low + rng.random((60, STEPS)).round(2)
    if gaps:
        high[:, ::4] = np.nan
    rows = {"low": low.tolist(), "high": [[None if v != v else v for v in row] for row in high.tolist()]}
    fields = tuple(Series(name=n, length=STEPS, decimals=2) for n in rows)
    schema = Schema(kind="series", fields=fields)
    return Bundle.open(make_untrained(RECIPES[recipe](), schema, rows, folder))


def history(bundle: Bundle) -> dict[str, list[float | None]]:
    rows = bundle.sample(1, seed=5).to_pydict()
    return {name: values[0][:KNOWN] for name, values in rows.items()}


@pytest.mark.parametrize("recipe", ["text_lstm", "text_gru", "text_gpt"])
def test_texts_go_on_from_a_prompt(recipe: str, make_untrained: Callable[..., str], tmp_path: Path) -> None:
    bundle = texts(make_untrained, tmp_path, recipe)
    made = bundle.sample(200, conditions={"prompt": "abc"})
    free = bundle.sample(200)
    assert all(t.startswith("abc") for t in made["text"].to_pylist())
    assert len({*made["text"].to_pylist()}) > 150 and made["label"].equals(free["label"])
    assert bundle.sample(20, conditions={"prompt": "abc"}).equals(made.slice(0, 20))
    both = bundle.sample(64, conditions={"prompt": {"ab": 0.25, "c": 0.75}, "label": "y"})
    assert {*both["label"].to_pylist()} == {"y"}
    begun = Counter("ab" if t.startswith("ab") else t[0] for t in both["text"].to_pylist())
    assert abs(begun["ab"] - 16) <= 12 and set(begun) == {"ab", "c"}


def test_the_model_has_read_the_prompt(make_untrained: Callable[..., str], tmp_path: Path) -> None:
    """The same draws go on otherwise after other words."""
    bundle = texts(make_untrained, tmp_path)
    a, b = (bundle.sample(100, conditions={"prompt": p})["text"].to_pylist() for p in ("aaaa", "ffff"))
    assert any(x[4:] != y[4:] for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("prompt", ["", "abz", "a" * 40])
def test_prompts_that_cannot_be_are_refused(
    prompt: str, make_untrained: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"prompt: .*expected 1 to \d+ characters, all .* among 'abcdef'"):
        texts(make_untrained, tmp_path).check_conditions({"prompt": prompt})


@pytest.mark.parametrize("prompt", [None, {None: 1.0}])
def test_nothing_is_no_prompt(prompt: Any, make_untrained: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="prompt: nothing; expected a text"):
        texts(make_untrained, tmp_path).check_conditions({"prompt": prompt})


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("recipe", ["series_recurrent", "series_in_turn", "series_transformer"])
def test_series_go_on_from_a_history(
    recipe: str, gaps: bool, make_untrained: Callable[..., str], tmp_path: Path
) -> None:
    bundle = series(make_untrained, tmp_path, recipe, gaps)
    told = history(bundle)
    made = bundle.sample(80, conditions={"history": told}).to_pydict()
    for name, steps in told.items():
        assert all(row[:KNOWN] == steps for row in made[name])
        assert len({tuple(row[KNOWN:]) for row in made[name]}) > 40
        assert all(len(row) == STEPS for row in made[name])


def test_a_history_reaches_the_steps_after_it(make_untrained: Callable[..., str], tmp_path: Path) -> None:
    bundle = series(make_untrained, tmp_path)
    told = history(bundle)
    moved: dict[str, Any] = {name: [v + 1.5 for v in steps] for name, steps in told.items()}  # type: ignore[operator]
    a, b = (bundle.sample(40, conditions={"history": h}).to_pydict()["low"] for h in (told, moved))
    assert any(x[KNOWN:] != y[KNOWN:] for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"low": None}, "history: high; expected a list each of low, high"),
        ({"low": [1.0] * STEPS, "high": [2.0] * STEPS}, "12 steps; expected 1 to 11"),
        ({"low": [], "high": []}, "0 steps; expected 1 to 11"),
        ({"low": [1.0], "high": [2.0, 3.0]}, "1 and 2 steps"),
        ({"low": ["x"], "high": [2.0]}, "values that are no numbers"),
        ({"low": [float("inf")], "high": [2.0]}, "the number inf; expected at most"),
        ({"low": [1e300], "high": [2.0]}, r"the number 1e\+300; expected at most"),
        ({"low": [10**400], "high": [2.0]}, "values that are no numbers"),
    ],
)
def test_histories_that_cannot_be_are_refused(
    change: dict[str, Any], match: str, make_untrained: Callable[..., str], tmp_path: Path
) -> None:
    told = {k: v for k, v in {"high": [2.0], **change}.items() if v is not None}
    with pytest.raises(UsageError, match=match):
        series(make_untrained, tmp_path).check_conditions({"history": told})


def test_who_makes_rows_at_once_has_no_beginning(make_untrained: Callable[..., str], tmp_path: Path) -> None:
    bundle = series(make_untrained, tmp_path, "series_gan")
    with pytest.raises(UsageError, match=r"not make rows from their beginning on.*series_recurrent"):
        bundle.check_conditions({"history": {"low": [1.0], "high": [2.0]}})


def test_both_by_the_command_line(make_untrained: Callable[..., str], home: Path, tmp_path: Path) -> None:
    for each in ("texts", "series"):
        (tmp_path / each).mkdir()
    model = texts(make_untrained, tmp_path / "texts").uri
    out = str(tmp_path / "texts-out")
    assert execute(["generate", model, "--rows", "9", "--prompt", "fed", "--output", out]) == 0
    assert all(t.startswith("fed") for t in Dataset(out).table("generated")["text"].to_pylist())
    bundle = series(make_untrained, tmp_path / "series")
    told, file, out = history(bundle), tmp_path / "last.csv", str(tmp_path / "series-out")
    import pyarrow as pa

    pacsv.write_csv(pa.table(told), file)
    assert execute(["generate", bundle.uri, "--rows", "9", "--history", str(file), "--output", out]) == 0
    made = Dataset(out)
    assert all(row[:KNOWN] == told["low"] for row in made.table("generated")["low"].to_pylist())
    assert made.manifest.origin["conditions"]["history"] == told
    assert execute(["generate", bundle.uri, "--rows", "9", "--history", str(tmp_path / "none.csv")]) == 3


@pytest.mark.parametrize("recipe", ["series_in_turn", "series_transformer"])
def test_gaps_of_a_history_are_filled(
    recipe: str, make_untrained: Callable[..., str], tmp_path: Path
) -> None:
    """Also of a whole series; what is there comes back exactly, and each row fills the gap its own way."""
    bundle = series(make_untrained, tmp_path, recipe)
    told: dict[str, Any] = {n: v[0] for n, v in bundle.sample(1, seed=5).to_pydict().items()}
    gap = {name: [None if 3 <= t < 7 else v for t, v in enumerate(steps)] for name, steps in told.items()}
    made = bundle.sample(60, conditions={"history": gap}).to_pydict()
    for name, steps in told.items():
        assert all(row[:3] + row[7:] == steps[:3] + steps[7:] for row in made[name])
        assert len({tuple(row[3:7]) for row in made[name]}) > 20
        assert None not in {v for row in made[name] for v in row}
    again = bundle.sample(60, conditions={"history": gap}).to_pydict()
    assert again == made


def test_gaps_are_refused_where_all_channels_are_drawn_together(
    make_untrained: Callable[..., str], tmp_path: Path
) -> None:
    bundle = series(make_untrained, tmp_path)
    gap = {"low": [1.0, None, 1.0], "high": [2.0, None, 2.0]}
    with pytest.raises(UsageError, match=r"a history with gaps.*series_in_turn"):
        bundle.sample(5, conditions={"history": gap})
