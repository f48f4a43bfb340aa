"""The list of mutants is true, its command tells killed from alive, and all of them are killed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import BEGIN, END, LIST, PAGE, ROOT, Mutant, lost, read_list

COMMAND, MUTANTS = ROOT / "tests/mutants/mutants.py", read_list(ROOT)
FIRST = {  # those that survived all tests before there were any of these
    "lazy factor dropped",
    "penalty weight ignored",
    "GAN ignores its condition",
    "beta ignored",
    "VAE without sampling noise",
}


def test_there_are_enough_and_the_first_five_are_among_them() -> None:
    assert len(MUTANTS) >= 60 and {m.name for m in MUTANTS} >= FIRST
    places = {m.file.split("/")[1] for m in MUTANTS}
    assert places >= {"families", "objectives", "networks", "training", "codecs", "evaluation"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_each_can_still_be_made_and_tested(mutant: Mutant) -> None:
    assert not lost(mutant, ROOT)
    assert mutant.old != mutant.new and "\n" not in mutant.old + mutant.new
    before = (ROOT / mutant.file).read_text()
    ast.parse(before.replace(mutant.old, mutant.new))  # a mutant that cannot be read proves nothing
    assert mutant.tests and all((ROOT / t.split("::")[0]).exists() for t in mutant.tests)


def test_the_table_in_the_docs_is_of_this_list() -> None:
    page = (ROOT / PAGE).read_text().partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| (.+?): .* \| `(.+?)` \| `.+?` \|$", page, re.MULTILINE)
    assert rows == [(m.name, m.file) for m in MUTANTS], 'run `make mutants ARGS="--table some words"`'


CODE = "def twice(x):\n    return 2 * x\n\n\ndef half(x):\n    return x / 2\n"
TESTS = """
import time
from genpipe.sums import half, twice

def test_twice():
    assert twice(3) == 6

def test_soon():
    while half(4) != 2:
        time.sleep(0.1)
"""


def tree(root: Path, *mutants: tuple[str, str, str]) -> Path:
    """A tree of its own with these mutants: (name, old, new)."""
    files = {
        "genpipe/__init__.py": "",
        "genpipe/sums.py": CODE,
        "tests/test_sums.py": TESTS,
        "docs/testing.md": f"before\n{BEGIN}\n{END}\nafter\n",
        str(LIST): "".join(
            f"[[mutant]]\nname = '{name}'\nfile = 'genpipe/sums.py'\nold = '{old}'\nnew = '{new}'\n"
            "why = 'it matters'\ntests = ['tests/test_sums.py']\n"
            for name, old, new in mutants
        ),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def play(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(COMMAND), "--root", str(root), *arguments]
    quick = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(words, capture_output=True, text=True, timeout=240, env=quick)


KILLED = ("wrong factor", "2 * x", "3 * x")


def test_a_killed_mutant_is_told_with_its_test_and_leaves_the_tree_alone(tmp_path: Path) -> None:
    done = play(tree(tmp_path, KILLED), "--table", "--workers", "1")
    assert done.returncode == 0 and "1 of 1 mutants killed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "genpipe/sums.py").read_text() == CODE
    page = (tmp_path / PAGE).read_text()
    assert "| wrong factor: it matters | `genpipe/sums.py` | `test_sums.py::test_twice` |" in page
    assert page.startswith("before\n") and page.endswith("after\n")


def test_a_table_of_some_mutants_keeps_the_others_and_forgets_those_that_are_gone(tmp_path: Path) -> None:
    tree(tmp_path, KILLED, ("other", "x / 2", "x / 0 if x == 3 else twice(1)"))
    page = tmp_path / PAGE
    rows = "".join(
        f"| {name}: why | `a.py` | `test_before` |\n" for name in ("gone", "wrong factor", "other")
    )
    page.write_text(f"{BEGIN}\n\n{rows}\n{END}\n")
    done = play(tmp_path, "factor", "--table", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in page.read_text().splitlines() if "genpipe/sums.py" in line] == [
        "| wrong factor: it matters | `genpipe/sums.py` | `test_sums.py::test_twice` |",
        "| other: it matters | `genpipe/sums.py` | `test_before` |",
    ]


def test_what_survives_hangs_or_cannot_be_read_fails_the_command_and_leaves_the_table(tmp_path: Path) -> None:
    others = [("same", "2 * x", "x * 2"), ("endless", "x / 2", "x / 3"), ("broken", "return 2", "return 2 2")]
    done = play(tree(tmp_path, KILLED, *others), "--table", "--workers", "2", "--seconds", "6")
    assert done.returncode == 1 and "1 of 4 mutants killed" in done.stdout, done.stdout + done.stderr
    for line in (
        "ALIVE   same: survived",
        "ALIVE   endless: its tests took more than 6 s",
        "ALIVE   broken: no verdict",
    ):
        assert line in done.stdout
    assert "wrong factor:" not in (tmp_path / PAGE).read_text()


def test_a_mutant_whose_text_is_gone_is_named_before_anything_runs(tmp_path: Path) -> None:
    done = play(tree(tmp_path, ("moved", "4 * x", "x"), ("twice there", "return", "yield")))
    assert done.returncode == 1 and not done.stdout
    assert "moved: its text is 0 times in genpipe/sums.py, not once" in done.stderr
    assert "twice there: its text is 2 times" in done.stderr


def test_a_tree_that_fails_without_mutants_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, ("wrong factor", "x / 2", "x / 3"))
    (root / "genpipe/sums.py").write_text(CODE.replace("2 * x", "5 * x"))
    done = play(root, "--workers", "1")
    assert done.returncode == 1 and "the unchanged tree fails" in done.stderr and "killed" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_mutant_is_killed() -> None:
    done = subprocess.run([sys.executable, str(COMMAND)], capture_output=True, text=True, timeout=3500)
    alive = [line for line in done.stdout.splitlines() if line.startswith("ALIVE")]
    assert done.returncode == 0, "\n".join([*alive, done.stdout[-300:], done.stderr[-3000:]])
