"""What the code of models registered by genpipe 0.1 asks for: MLflow keeps that code as text and runs it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import genpipe
from genpipe.bundle.conditions import Conditions
from genpipe.cli import execute
from genpipe.requests import Register

ASKED = {
    "genpipe.bundle.generator": ("BLOCK_ROWS", "MAX_DRAWS"),
    "genpipe.errors": ("UsageError", "unknown"),
    "genpipe.registry.follow": ("follow",),
    "genpipe.registry.gate": ("guard",),
    "genpipe.registry.package": ("fingerprint_of",),
    "genpipe.registry.serving": (
        "Served",
        "Watched",
        "check_columns",
        "check_limits",
        "check_published",
        "go_on",
    ),
    "genpipe.settings": ("read_settings",),
    "genpipe.stages.generate_tables": ("rows_of",),
    "genpipe.stages.sample_tables": ("sample_tables",),
    "genpipe.stages.shards": ("open_bundle",),
    "genpipe.stages.train_tables": ("open_tables",),
    "genpipe.training.device": ("resolve_device",),
}


@pytest.mark.parametrize("module", ASKED)
def test_every_name_is_where_it_was(module: str) -> None:
    found = importlib.import_module(module)
    assert all(hasattr(found, name) for name in ASKED[module])


def test_filters_are_also_called_as_they_were() -> None:
    assert Conditions({}, {}, {}).tested == {}


def test_likelihood_was_called_score(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert Register.of(model="m", allow=["score"]).allow == ("likelihood",)
    assert execute(["score", "nobody", "rows.csv"]) == 2
    assert "score is now called likelihood" in capfd.readouterr().err
    assert callable(genpipe.score)
