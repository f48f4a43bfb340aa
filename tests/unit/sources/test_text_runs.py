"""Runs of a long text: all of it, cut between words, wherever blocks of the file end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genpipe.sources.files import list_files
from genpipe.sources.text import TextOptions, TextSource, cut


def source(folder: Path, text: str, **options: object) -> TextSource:
    (folder / "a.txt").write_text(text)
    return TextSource(list_files(str(folder / "a.txt")), TextOptions(**options))  # type: ignore[arg-type]


def words(rng: np.random.Generator, number: int, longest: int = 9) -> str:
    made = ["".join(rng.choice([*"abcdefg"], rng.integers(1, longest))) for _ in range(number)]
    return "".join(w + str(rng.choice([" ", "\n", ", "])) for w in made)


@pytest.mark.parametrize("length", [24, 40, 128])
@pytest.mark.parametrize("block", [7, 64, 2**16])
def test_runs_are_the_whole_text_and_each_begins_and_ends_with_a_whole_word(
    length: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextOptions, "block", block)
    text = words(np.random.default_rng(length), 400)
    made = source(tmp_path, text, length=length)
    runs = list(made.records(made.files[0]))
    assert text.startswith("".join(runs)) and len(text) - len("".join(runs)) <= length
    assert max(map(len, runs)) <= length and min(map(len, runs[:-1])) > length // 2
    assert all(run[-1].isspace() for run in runs[:-1]) and not any(run[0] == " " for run in runs)


def test_where_no_blank_is_near_the_run_has_its_full_length(tmp_path: Path) -> None:
    made = source(tmp_path, "ab " + "x" * 100, length=20)
    assert [len(r) for r in made.records(made.files[0])] == [20, 20, 20, 20, 20, 3]
    assert cut("aa bb cc dd", 0, 8) == 6 and cut("aa bb cc dd", 3, 9) == 9 and cut("aaaaaaa", 0, 5) == 5
