"""What a home holds, made of what and used by whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genpipe
from genpipe.cli import execute


def test_show_says_what_was_made_of_what(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"pay": rng.normal(30, 9, 800).round(3), "bonus": rng.normal(0, 1, 800).round(3)})
    data = genpipe.ingest(frame, name="people")
    model = genpipe.train(data, recipe="tabular_trees")
    genpipe.register(model, name="people")
    made = genpipe.generate("people@champion", rows=10)
    capsys.readouterr()
    assert execute(["show", "people"]) == 0
    told = capsys.readouterr().out

    beside: dict[str, set[str]] = {}
    for line in told.splitlines()[:-1]:
        words = line.split()
        if not line.startswith(" "):
            last = next(word for word in words[2:] if "/" in word)
        beside.setdefault(last, set()).add(words[-1])
    dataset = f"datasets/people/{data.uri.rsplit('/', 1)[1]}"
    run = "runs/" + model.uri.split("/runs/")[1].split("/")[0]
    assert {run, "models:/people/1"} <= beside[dataset]
    delivery = f"generated/people/{made.uri.rsplit('/', 1)[1]}"
    assert {dataset, "models:/people/1"} <= beside[delivery]
    assert "champion, used by" in told and "the last ingested" in told
    assert execute(["show"]) == 0 and delivery in capsys.readouterr().out
    assert execute(["show", "peple"]) == 2
    assert "did you mean 'people'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["list", "show", "doctor"])
def test_a_home_that_is_a_file_is_refused(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").write_text("mine")
    monkeypatch.setenv("GENPIPE_HOME", str(tmp_path / "home"))
    assert execute([verb]) == 2
    assert "unset it" in capsys.readouterr().err and (tmp_path / "home").read_text() == "mine"
