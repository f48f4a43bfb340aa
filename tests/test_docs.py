"""What the documents say can be done: every path in backticks is there, every command and option exists."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import subprocess
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "infra/README.md", "benchmarks/README.md")
    ),
    *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "lab-notes.md"),
]
FILE = re.compile(r"[\w./-]+\.(?:py|md|sh|toml|txt|j2)")
# of users, or made by what the text tells; `x.py` stands for the reader's own
OTHERS = {"prepare_store.py", "x.py"}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:  # no checkout: a source archive
        return [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if ".venv" not in p.parts]
    return listed.stdout.splitlines()


FILES = tracked()


def spans(path: Path) -> list[str]:
    """What stands in backticks within a line."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def commands(path: Path, name: str) -> list[list[str]]:
    """Each command line of a program, in backticks or in a block of code, without comment and prompt."""
    blocks = "\n".join(re.findall(r"```(?:\w*)\n(.*?)```", path.read_text(), flags=re.DOTALL))
    lines = [*blocks.replace("\\\n", " ").splitlines(), *spans(path)]
    found = []
    for line in lines:
        for part in re.split(r"&&|\|\||;|\s\|\s", re.sub(r"\s#.*", "", line)):
            words = part.strip().removeprefix("$ ").removeprefix("@").strip()
            if words.split(" ")[0] == name:
                found.append(shlex.split(words.replace("…", "..."), posix=True)[1:])
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_file_named_is_there(path: Path) -> None:
    named = {s for s in spans(path) if FILE.fullmatch(s) and Path(s).name not in OTHERS}
    missing = [s for s in named if not any(f == s or f.endswith(f"/{s}") for f in FILES)]
    assert not missing, f"{path.name} names {sorted(missing)}, which are not there"


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_folder_named_is_there(path: Path) -> None:
    """Of the checkout: what begins with one of its top-level folders."""
    tops = {f.split("/")[0] for f in FILES if "/" in f}
    named = {s.rstrip("/") for s in spans(path) if re.fullmatch(r"[\w./-]+/", s) and s.split("/")[0] in tops}
    missing = [s for s in named if not (ROOT / s).is_dir()]
    assert not missing, f"{path.name} names {sorted(missing)}, which are not there"


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    missing = [at for at in links if "://" not in at and not (path.parent / at).exists()]
    assert not missing, f"{path.name} links to {missing}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_make_target_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for words in commands(path, "make"):
        for target in [w for w in words if "=" not in w and not w.startswith("-")]:
            benchmark = ROOT / "benchmarks" / f"{target.removeprefix('bench-').replace('-', '_')}.py"
            known = target in targets or (target.startswith("bench-") and benchmark.exists())
            assert known or not re.fullmatch(r"[a-z-]+", target), f"{path.name}: make {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_verb_and_option_exists(path: Path) -> None:
    from typer.main import get_command

    from genpipe.cli.verbs import app

    verbs = get_command(app).commands  # type: ignore[attr-defined]
    for words in commands(path, "genpipe"):
        if not words or not re.fullmatch(r"[a-z-]+", words[0]):
            continue
        assert words[0] in verbs, f"{path.name}: genpipe {words[0]}"
        options = {name for p in verbs[words[0]].params for name in (*p.opts, *p.secondary_opts)}
        for word in words[1:]:
            option = word.split("=")[0]
            if re.fullmatch(r"--?[a-z][a-z-]*", option):
                assert option in options | {"--help", "-h"}, f"{path.name}: genpipe {words[0]} {option}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_nobody_is_told_to_install_what_is_not_published(path: Path) -> None:
    assert not re.search(r"pip install (?:-U |--upgrade )?[\"']?genpipe\b(?!-)", path.read_text()), (
        f"{path.name} says pip install genpipe; say how to install from a checkout or a wheel"
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_python_of_a_document_names_what_genpipe_has(path: Path) -> None:
    """It parses; each `genpipe.NAME` is there, and takes the arguments that it is given."""
    import genpipe

    for block in re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and re.fullmatch(r"genpipe\.[\w.]+", ast.unparse(node.func)):
                called = attrgetter(ast.unparse(node.func).removeprefix("genpipe."))(genpipe)
                given = {word.arg: None for word in node.keywords if word.arg}
                inspect.signature(called).bind(*node.args, **given)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genpipe":
                module = importlib.import_module(str(node.module))
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert not missing, f"{path.name}: from {node.module} import {missing}"
