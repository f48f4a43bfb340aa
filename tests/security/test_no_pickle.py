"""No module of genpipe or its flows can unpickle; the same look must find it in a planted module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
# calls that unpickle or run what they read; safetensors.torch.load is another `load`, hence whole names
CALLS = {
    "torch.load", "torch.jit.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "eval", "exec", "__import__",
}  # fmt: skip
FLAGS = {"allow_pickle", "weights_only"}


def findings(text: str) -> Iterator[str]:
    """Imports, calls and arguments through which foreign bytes could become code."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[-1] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(name.name for name in node.names)]
            yield from (name for name in names if name in MODULES)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                yield ast.unparse(node.func)
            yield from (word.arg for word in node.keywords if word.arg in FLAGS)


@pytest.mark.parametrize("package", ["genpipe", "flows"])
def test_nothing_unpickles(package: str) -> None:
    found = {
        str(file.relative_to(ROOT)): names
        for file in sorted((ROOT / package).rglob("*.py"))
        if (names := list(findings(file.read_text())))
    }
    assert not found


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle", "from ray import cloudpickle", "import joblib as j", "import torch\ntorch.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)", "eval(text)", "import yaml\nyaml.load(text)",
        "def f():\n    from pickle import loads",
    ],
)  # fmt: skip
def test_the_look_finds_what_is_planted(planted: str) -> None:
    assert list(findings(planted))
