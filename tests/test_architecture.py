"""The shape of the project, kept by a test: layers point down, nothing goes in circles, files stay small.

The layers are those of docs/architecture.md. A module may import from its own package and from lower
layers, never from a sibling package of the same layer and never upwards. That holds for imports inside
functions and for those that only type checkers see, too. genpipe/__init__.py is the front door above all:
it names every verb, and nobody asks it for anything.
"""

from __future__ import annotations

import ast
import re
import subprocess
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS: list[set[str]] = [
    {"written"},
    {
        "version",
        "redaction",
        "entries",
        "errors",
        "private",
        "settings",
        "seeds",
        "progress",
        "plugins",
        "pattern",
        "comparison",
        "kinds",
        "fields",
        "constraints",
        "derivations",
        "limits",
        "schema",
        "spec",
        "documents",
        "keys",
        "names",
        "yaml_file",
    },
    {
        "store",
        "remote",
        "dataset",
        "parts",
        "delivery",
        "manifest",
        "one_file",
        "media",
        "parsing",
        "databases",
        "sheet_file",
        "structs",
    },
    {"sources", "codecs"},
    {"draws", "batch", "objectives", "networks", "evaluation"},
    {"families"},
    {"recipe", "suited", "recipes", "ranges", "search_space", "bundle", "requests", "pipeline"},
    {"training"},
    {"registry"},
    {"stages", "testing"},
    {"related"},
    {"perform"},
    {"verbs", "latent_verbs", "upkeep_verbs"},
    {"synthesizer"},
    {"console"},
    {"flows"},
    {"cli"},
]
# a lower layer that names a higher one: where models registered by 0.1 look for related tables
EARLIER = {f"genpipe/stages/{name}.py" for name in ("generate_tables", "sample_tables", "train_tables")}
# single modules of one layer that are one topic in several files; packages stay apart
SAME_TOPIC = [
    LAYERS[1],
    {
        "store",
        "remote",
        "dataset",
        "manifest",
        "parts",
        "delivery",
        "one_file",
        "databases",
        "sheet_file",
        "structs",
    },
    {"draws", "batch", "networks"},
    {"draws", "batch", "objectives"},
    {"recipe", "suited", "recipes", "ranges", "search_space", "bundle", "requests", "pipeline"},
    {"verbs", "latent_verbs", "upkeep_verbs"},
]
# third-party modules a layer may not import, at any depth: the layer they first appear in
FIRST_LAYER = {
    "torch": "draws",
    "sklearn": "codecs",
    "mlflow": "registry",
    "ray": "stages",
    "prefect": "console",
    "typer": "cli",
}
MAX_FILE, MAX_FUNCTION = 300, 60


def sources() -> list[Path]:
    """genpipe/flows is a link to flows/, where they are counted."""
    own = [path for path in ROOT.glob("genpipe/**/*.py") if "flows" not in path.relative_to(ROOT).parts]
    return sorted([*own, *ROOT.glob("flows/*.py")])


def module(path: Path) -> str:
    """Its dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("genpipe", *parts) if parts[0] == "flows" else parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sources()}


def unit(name: str) -> str:
    """The name by which a module appears in LAYERS."""
    return name.split(".")[1]


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def imports(path: Path) -> list[tuple[str, int]]:
    """(dotted name, line) of every import, wherever it stands. Of our own: the module that has the name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name if name in MODULES else node.module, node.lineno) for name in inner]
    return found


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(), ids=ids)
def test_imports_point_down(path: Path) -> None:
    if path == ROOT / "genpipe/__init__.py":
        return
    here, wrong = unit(module(path)), []
    for name, line in imports(path):
        first, _, rest = name.partition(".")
        if first in FIRST_LAYER and layer(here) < layer(FIRST_LAYER[first]):
            wrong.append(f"line {line}: {first} belongs to the layer of {FIRST_LAYER[first]} and above")
        assert first != "flows", f"{path}:{line}: flows/ is imported as genpipe.flows"
        if first != "genpipe":
            continue
        assert rest, f"{path}:{line}: asks the front door"
        target = unit(name)
        if target == here or str(path.relative_to(ROOT)) in EARLIER:
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


def test_no_module_needs_itself() -> None:
    needs = {
        name: {target for target, _ in imports(path) if target in MODULES and target not in ("genpipe", name)}
        for name, path in MODULES.items()
        if name != "genpipe"
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise AssertionError("modules in a circle: " + " -> ".join(error.args[1])) from None


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
