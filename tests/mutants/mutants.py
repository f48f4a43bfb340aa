"""Do the tests notice small wrong edits? Each mutant of list.toml is one; one of its tests must fail by it.

    python tests/mutants/mutants.py                 all of them; exits with 1 unless each is killed
    python tests/mutants/mutants.py beta lazy       those with one of these words in their names
    python tests/mutants/mutants.py --table         and write them into the table of docs/testing.md

Every mutant edits a copy of the tree, never this one. First the unchanged tree must pass all tests that the
mutants name. A mutant is killed when one of its tests *fails*; one that cannot be imported, hangs, or whose
text is no longer in its file exactly once proves nothing, so it is an error.

Why not mutmut or cosmic-ray: both make every mutant of fixed operators, thousands here with a run of the
tests each, and neither takes a list of edits chosen for what they mean.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST, PAGE = Path("tests/mutants/list.toml"), Path("docs/testing.md")
COPIED = ("genpipe", "flows", "benchmarks", "examples", "tests", "pyproject.toml")
BEGIN, END = "<!-- mutants: written by `make mutants ARGS=--table` -->", "<!-- end of mutants -->"
PYTEST = ("-q", "-x", "-rfE", "--tb=short", "-p", "no:cacheprovider")
# other people's packages, imported once before workers fork from this process: most of a test's seconds. On
# a Mac some of them do not survive a fork
HEAVY = (
    "torch",
    "pytest",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.ensemble",
    "pydantic",
)
SECONDS = 300.0  # one worker may take
PASSED, FAILED, ELSEWHERE = 0, 1, 90  # the first two are pytest's


@dataclass(frozen=True)
class Mutant:
    """old: text that its file holds exactly once. new: what takes its place. why: what would go wrong."""

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """by: the test that failed, or what happened instead."""

    mutant: Mutant
    killed: bool
    by: str


def read_list(root: Path) -> list[Mutant]:
    """The mutants of list.toml; a ValueError where a name is used twice."""
    tables = tomllib.loads((root / LIST).read_text())["mutant"]
    found = [Mutant(**table | {"tests": tuple(table["tests"])}) for table in tables]
    names = [mutant.name for mutant in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"mutants of one name: {', '.join(twice)}")
    return found


def lost(mutant: Mutant, root: Path) -> str:
    """Why it can no longer be made; empty where it can."""
    path = root / mutant.file
    if not path.exists():
        return f"{mutant.file} does not exist; name the file its text moved to"
    times = path.read_text().count(mutant.old)
    if times != 1:
        return (
            f"its text is {times} times in {mutant.file}, not once; write the edit for the code as it is now"
        )
    return ""


def put(path: Path, text: str) -> None:
    """Without its compiled form: Python would not notice an edit of equal size within one second."""
    path.write_text(text)
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def pytest_of(tree: Path, tests: Sequence[str], told: Path) -> None:
    """What a worker does: these tests of a copy, on the copy's code. It ends with pytest's exit code."""
    with told.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.setsid()  # with what its tests start it can be stopped
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    sys.path.insert(0, str(tree))
    found = importlib.util.find_spec("genpipe")
    if found is None or not str(found.origin).startswith(str(tree)):
        os._exit(ELSEWHERE)
    code = int(importlib.import_module("pytest").main([*PYTEST, *tests]))
    sys.stdout.flush()
    os._exit(code)


def copy_tree(root: Path, to: Path) -> Path:
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name, ignore=shutil.ignore_patterns(".*"))
        elif (root / name).exists():
            shutil.copy2(root / name, to / name)
    return to


@dataclass
class Work:
    """One run of tests, with a mutant or (None) of the unchanged tree."""

    mutant: Mutant | None
    tests: Sequence[str]
    tree: Path
    process: BaseProcess
    end: float

    @property
    def told(self) -> Path:
        return self.tree / "told.txt"


def begin(mutant: Mutant | None, tests: Sequence[str], tree: Path, seconds: float) -> Work:
    if mutant:
        put(tree / mutant.file, (tree / mutant.file).read_text().replace(mutant.old, mutant.new))
    told = tree / "told.txt"
    process = multiprocessing.get_context("fork").Process(target=pytest_of, args=(tree, tests, told))
    process.start()
    return Work(mutant, tests, tree, process, time.monotonic() + seconds)


def ended(work: Work, root: Path) -> tuple[int | None, str]:
    """(exit code, or None if it had to be stopped; what pytest said), and the copy as it was."""
    late = work.process.is_alive()
    if late:
        os.killpg(work.process.pid or 0, signal.SIGKILL)
    work.process.join()
    if work.mutant:
        put(work.tree / work.mutant.file, (root / work.mutant.file).read_text())
    return None if late else work.process.exitcode, work.told.read_text(errors="replace")


def played(
    jobs: Sequence[tuple[Mutant | None, Sequence[str]]], root: Path, trees: list[Path], seconds: float
) -> Iterator[tuple[Mutant | None, int | None, str]]:
    """The end of each job, as they come; as many at once as there are trees."""
    left, running = list(jobs), list[Work]()
    try:
        while left or running:
            while left and trees:
                mutant, tests = left.pop(0)
                running.append(begin(mutant, tests, trees.pop(), seconds))
            wait([work.process.sentinel for work in running], timeout=1.0)
            for work in list(running):
                if not work.process.is_alive() or time.monotonic() > work.end:
                    running.remove(work)
                    yield work.mutant, *ended(work, root)
                    trees.append(work.tree)
    finally:  # whoever asked may stop asking
        for work in running:
            ended(work, root)


def verdict(mutant: Mutant, code: int | None, said: str, seconds: float) -> Verdict:
    failed = re.search(r"^FAILED (\S+)", said, re.MULTILINE)
    if code == FAILED and failed:
        return Verdict(mutant, True, failed[1])
    if code == PASSED:
        return Verdict(mutant, False, "survived")
    if code is None:
        return Verdict(mutant, False, f"its tests took more than {seconds:g} s")
    return Verdict(mutant, False, f"no verdict (exit code {code}): {said.strip()[-800:]}")


def judged(
    mutants: Sequence[Mutant], root: Path, workers: int, seconds: float, say: Callable[[str], None]
) -> list[Verdict]:
    """A verdict on each, in order. A SystemExit where the unchanged tree does not pass their tests."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in HEAVY if root == ROOT and sys.platform == "linux" else ():
        with suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        trees = [copy_tree(root, Path(folder).resolve() / f"tree-{k}") for k in range(workers)]
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        shares = [(None, share) for k in range(4 * workers) if (share := tests[k :: 4 * workers])]
        for _, code, said in played(shares, root, trees, 4 * seconds):
            if code != PASSED:
                raise SystemExit(f"the unchanged tree fails (exit code {code}):\n{said[-3000:]}")
        found = {}
        for mutant, code, said in played([(m, m.tests) for m in mutants], root, trees, seconds):
            assert mutant is not None
            found[mutant.name] = end = verdict(mutant, code, said, seconds)
            say(f"{'killed' if end.killed else 'ALIVE ':7} {mutant.name}: {end.by}")
        return [found[mutant.name] for mutant in mutants]


def killers(root: Path) -> dict[str, str]:
    """Mutant -> the test that killed it, as the table on the page has it."""
    page = (root / PAGE).read_text().partition(BEGIN)[2].partition(END)[0]
    return dict(re.findall(r"^\| (.+?): .* \| `.+?` \| `(.+?)` \|$", page, re.MULTILINE))


def write_table(verdicts: Sequence[Verdict], root: Path) -> None:
    """Put the table in the place of the one on the page; mutants that were not run keep their tests."""
    by = killers(root) | {v.mutant.name: v.by.removeprefix("tests/") for v in verdicts}
    rows = [f"| {m.name}: {m.why} | `{m.file}` | `{by[m.name]}` |" for m in read_list(root) if m.name in by]
    text = "\n".join([BEGIN, "", "| mutant | file | killed by |", "|---|---|---|", *rows, "", END])
    before, _, rest = (root / PAGE).read_text().partition(BEGIN)
    (root / PAGE).write_text(before + text + rest.partition(END)[2])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in their names")
    parser.add_argument("--table", action="store_true", help=f"write the table in {PAGE}")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="default: one a CPU")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="a mutant's tests may take")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    root = args.root.resolve()
    mutants = [m for m in read_list(root) if not args.words or any(word in m.name for word in args.words)]
    if problems := [f"{m.name}: {why}" for m in mutants if (why := lost(m, root))]:
        print("mutants that can no longer be made:", *problems, sep="\n  ", file=sys.stderr)
        return 1
    if not mutants:
        parser.error("no mutant has such a name")
    verdicts = judged(mutants, root, args.workers, args.seconds, lambda text: print(text, flush=True))
    alive = [v for v in verdicts if not v.killed]
    print(f"{len(verdicts) - len(alive)} of {len(verdicts)} mutants killed")
    if args.table and not alive:
        write_table(verdicts, root)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
