"""The shape of the project, kept by a test: layers point down, files and functions stay small.

The layers are those of docs/architecture.md. A module may import from its own package and from lower
layers, never from a sibling package of the same layer and never upwards.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS: list[set[str]] = [
    {
        "redaction",
        "entries",
        "errors",
        "private",
        "settings",
        "seeds",
        "progress",
        "plugins",
        "pattern",
        "constraints",
        "schema",
        "spec",
        "documents",
        "keys",
        "kinds",
        "yaml_file",
    },
    {"store", "dataset", "parts", "sources", "codecs"},
    {"batch", "objectives", "networks", "evaluation"},
    {"families"},
    {"recipe", "recipes", "ranges", "search_space", "bundle", "pipeline"},
    {"training", "related"},
    {"registry"},
    {"stages"},
    {"flows", "cli", "console", "demo", "testing"},
]
# single modules of one layer that are one topic in several files; packages stay apart
SAME_TOPIC = [
    LAYERS[0],
    {"store", "dataset", "parts"},
    {"dataset", "codecs"},
    {"store", "dataset", "sources"},
    {"batch", "networks"},
    {"batch", "objectives"},
    LAYERS[4],
    LAYERS[8],
]
# third-party modules a layer may not import, at any depth: the layer they first appear in
FIRST_LAYER = {"torch": 2, "sklearn": 1, "mlflow": 6, "ray": 7, "prefect": 8, "typer": 8}
MAX_FILE, MAX_FUNCTION = 300, 60


def sources() -> list[Path]:
    return sorted([*ROOT.glob("genpipe/**/*.py"), *ROOT.glob("flows/**/*.py")])


def unit(path: Path) -> str:
    """The name by which a file appears in LAYERS."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "flows" if parts[0] == "flows" else parts[1]


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def imports(path: Path) -> list[tuple[str, int]]:
    """(dotted name, line) of every import that runs; those under TYPE_CHECKING do not."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(), ids=ids)
def test_imports_point_down(path: Path) -> None:
    if path == ROOT / "genpipe/__init__.py":
        return  # the lazy front door names every verb, and imports none
    here, wrong = unit(path), []
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] in FIRST_LAYER and layer(here) < FIRST_LAYER[parts[0]]:
            wrong.append(f"line {line}: {parts[0]} belongs to layer {FIRST_LAYER[parts[0]]} and above")
        target = (
            "flows" if parts[0] == "flows" else parts[1] if parts[0] == "genpipe" and len(parts) > 1 else None
        )
        if target is None or target == here or target == "__version__":
            continue
        assert any(target in names for names in LAYERS), (
            f"{path}:{line}: {target} has no layer; add it to LAYERS"
        )
        same = any({here, target} <= topic for topic in SAME_TOPIC)
        if layer(target) > layer(here) or (layer(target) == layer(here) and not same):
            wrong.append(
                f"line {line}: {here} (layer {layer(here)}) imports {target} (layer {layer(target)})"
            )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path", [*sources(), *sorted(ROOT.glob("benchmarks/*.py")), *sorted(ROOT.glob("infra/*.py"))], ids=ids
)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE, f"{path.name} has {text.count(chr(10))} lines, at most {MAX_FILE}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            size = node.end_lineno - node.lineno + 1
            assert size <= MAX_FUNCTION, (
                f"{path.name}:{node.lineno} {node.name} has {size} lines, at most {MAX_FUNCTION}"
            )


@pytest.mark.parametrize("path", sources(), ids=ids)
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{path.name} has no module docstring"
    assert path.stem not in {"utils", "common", "helpers", "misc"}


@pytest.mark.parametrize(
    "path", [p for p in sources() if p.name not in ("cli.py", "console.py", "demo.py")], ids=ids
)
def test_the_library_never_prints_nor_pickles(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call != "print", f"{path.name}:{node.lineno} prints"
            assert not re.match(r"(pickle|cloudpickle)\.|torch\.(save|load)$", call), (
                f"{path.name}:{node.lineno} {call}"
            )


def test_the_front_door_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys, genpipe, genpipe.cli\n"
        "heavy = {'torch', 'ray', 'mlflow', 'prefect', 'pandas', 'pyarrow', 'sklearn', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    import sys

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"
