"""What people type and say, as it is taken: numbers, paths, options, names behind the tab key, mistakes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from genpipe import relate
from genpipe.cli import execute
from genpipe.cli.mistyped import as_typed
from genpipe.cli.options import number
from genpipe.errors import DataError, InfrastructureError, UsageError, closest
from genpipe.perform import request
from genpipe.remote import unreachable
from genpipe.requests import Generate, Ingest, Likelihood, Train
from genpipe.sources import SOURCES, parse_options
from genpipe.sources.tabular.database import DatabaseOptions
from genpipe.sources.tabular.source import TableOptions


@pytest.mark.parametrize(
    ("text", "whole", "share", "value"),
    [
        ("5", True, False, 5),
        ("-1", True, False, -1),
        ("1_000", True, False, "1_000"),  # the request reads it
        ("two", True, False, "two"),
        (".5", False, False, 0.5),
        ("20%", False, True, 0.2),
        ("20%", False, False, "20%"),
        ("much", False, True, "much"),
    ],
)
def test_numbers_as_they_are_typed(text: str, whole: bool, share: bool, value: object) -> None:
    assert number(text, whole=whole, share=share) == value


@pytest.mark.parametrize(
    ("verb", "fix", "typed"),
    [
        ("ingest", "add data, or lower min_rows=", "add data, or lower --min-rows"),
        ("ingest", "pass encoding='latin-1'", "pass -o encoding='latin-1'"),
        ("ingest", "pass height=16, width=8, or size=64", "pass -o height=16 -o width=8, or -o size=64"),
        ("ingest", "say which kind= it is", "say which --kind it is"),
        ("ingest", "say table= (-o table=NAME)", "say -o table= (-o table=NAME)"),
        ("train", "train with --by row (by='row')", "train with --by row (by='row')"),
        ("run", "pass encoding='latin-1'", "pass encoding='latin-1'"),  # a spec says it in its own words
        ("nonsense", "lower min_rows=", "lower min_rows="),
    ],
)
def test_what_an_error_proposes_is_said_as_an_option(verb: str, fix: str, typed: str) -> None:
    assert as_typed(DataError("X", found="it", fix=fix), verb).fix == typed


def test_paths_are_texts_and_frames_are_no_names(tmp_path: Path) -> None:
    assert request(Ingest, {"source": [Path("a.csv"), "b.csv"]}).source == ("a.csv", "b.csv")
    assert request(Generate, {"model": Path("m"), "rows": 3, "output": Path("x.csv")}).output == "x.csv"
    (tmp_path / "quick.yaml").write_text("base: tabular_trees\n")
    asked = request(Train, {"dataset": "people", "recipe": tmp_path / "quick.yaml"})
    assert asked.recipe == {"base": "tabular_trees"}
    frame = pd.DataFrame({"age": range(1000)})
    for kind, given in ((Train, {"dataset": frame}), (Likelihood, {"model": "m", "source": frame})):
        with pytest.raises(UsageError, match="a data frame; expected") as caught:
            request(kind, given)
        assert "999" not in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        relate(tmp_path / "shop.db")


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"nulls": -9}, "nulls", ("-9",)),
        ({"nulls": "?"}, "nulls", ("?",)),
        ({"drop": 2024}, "drop", ("2024",)),
        ({"columns": ["a", "b"]}, "columns", ("a", "b")),
    ],
)
def test_one_of_several_values_may_stand_alone(options: dict[str, object], name: str, value: object) -> None:
    assert getattr(parse_options(TableOptions, options, "tables"), name) == value


def test_a_wrong_option_is_told_in_our_words() -> None:
    size = SOURCES["image"][1]
    with pytest.raises(
        UsageError, match=r"size: big; expected a whole number$|size: 'big'; expected a whole"
    ):
        parse_options(size, {"size": "big"}, "images")


def test_the_help_of_ingest_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["ingest", "--help"]) == 0
    told = set(re.findall(r"[a-z_]+", capsys.readouterr().out))
    models = [DatabaseOptions, *(options for _, options, _ in SOURCES.values())]
    assert {name for model in models for name in model.model_fields} - told == set()


def test_a_place_on_this_disk_has_no_keys() -> None:
    error = unreachable("/mnt/x", PermissionError(13, "Permission denied"))
    assert isinstance(error, InfrastructureError) and "AWS" not in str(error)
    assert "Permission denied" in str(error) and "its rights" in error.fix
    assert "AWS_ENDPOINT_URL" in str(unreachable("s3://lake/x", OSError("no route")))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("genpipe in", "ingest"),
        ("genpipe train --rec", "--recipe"),
        ("genpipe train pe", "people"),
        ("genpipe generate me", "men"),
        ("genpipe train people --recipe tabular_tr", "tabular_trees"),
    ],
)
def test_the_tab_key_knows_verbs_options_and_names(line: str, offered: str, home: Path) -> None:
    for folder in ("datasets/people/0123456789abcdef0123", "runs/men-0123456789"):
        (home / "store" / folder).mkdir(parents=True)
    (home / "store/datasets/people/0123456789abcdef0123/manifest.json").write_text("{}")
    asked = {"_GENPIPE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    code = "from genpipe.cli import main; main()"
    environment = os.environ | asked
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert offered in done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("INCOME", ["age", "city", "income"], "income"),
        ("Cid", ["id", "cid"], "cid"),
        ("GRÖSSE", ["große", "größe"], "größe"),
        ("ctiy", ["Age", "City"], "City"),
        ("inc", ["Income", "income"], "Income"),
    ],
)
def test_a_name_in_another_case_is_the_one_that_was_meant(word: str, names: list[str], meant: str) -> None:
    assert closest(word, names) == f"did you mean {meant!r}?"
    assert closest("zzz", names) == ""
