"""Advice that works when typed: what errors propose and what every help shows are commands that exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from genpipe.cli.options import REQUESTS, asked
from genpipe.cli.verbs import app

ROOT = Path(__file__).parents[2]
VERBS = get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {name for verb in VERBS.values() for p in verb.params for name in (*p.opts, *p.secondary_opts)}
# options of the tools that a fix names beside ours
OTHERS = {"--help", "--pool", "--type", "--env-manager", "--shm-size"}
WORDS = {"that"}  # "the genpipe that .."


def text_of(node: ast.AST) -> str:
    """What a string says, with a word in place of what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return " x " if isinstance(node, ast.FormattedValue) else ""


def fixes() -> Iterator[tuple[str, str]]:
    """(place, text) of everything that an error proposes."""
    for path in sorted([*ROOT.glob("genpipe/**/*.py"), *ROOT.glob("flows/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            said = list[ast.expr]()
            if isinstance(node, ast.keyword) and node.arg == "fix":
                said.append(node.value)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id == "fix":
                        said.append(node.value)
                    elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        pairs = zip(target.elts, node.value.elts, strict=False)
                        said += [v for t, v in pairs if isinstance(t, ast.Name) and t.id == "fix"]
            for expression in said:
                for inner in ast.walk(expression):
                    if isinstance(inner, ast.Constant | ast.JoinedStr) and (text := text_of(inner)):
                        yield f"{path.name}:{inner.lineno}", text


def test_every_command_and_option_that_an_error_proposes_exists() -> None:
    found = dict.fromkeys(fixes())
    assert sum("genpipe " in text for _, text in found) >= 5 and sum("--" in text for _, text in found) >= 5
    wrong = [
        f"{place}: genpipe {verb}"
        for place, text in found
        for verb in re.findall(r"\bgenpipe ([a-z][a-z-]*)", text)
        if verb not in VERBS.keys() | WORDS
    ]
    wrong += [
        f"{place}: {option}"
        for place, text in found
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)
        if option not in OPTIONS | OTHERS
    ]
    assert not wrong


def strings() -> Iterator[tuple[str, str]]:
    """(place, text) of every string: a fix may come from a constant, a helper or a default."""
    for path in sorted([*ROOT.glob("genpipe/**/*.py"), *ROOT.glob("flows/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant | ast.JoinedStr) and (text := text_of(node)):
                yield f"{path.name}:{node.lineno}", text


def test_every_command_in_any_string_takes_the_options_it_is_shown_with() -> None:
    seen, wrong = 0, list[str]()
    for place, text in strings():
        for verb, rest in re.findall(r"\bgenpipe ([a-z]+)\b([^;,()`|&\n]*)", text):
            if verb not in VERBS:
                continue
            options = {name for p in VERBS[verb].params for name in (*p.opts, *p.secondary_opts)}
            # "genpipe list shows them" is prose, "genpipe train x --by row" is typed
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.partition("genpipe ")[0]):
                seen += 1
                if option not in options | OTHERS:
                    wrong.append(f"{place}: genpipe {verb} {option}")
    assert seen >= 10
    assert not wrong


def examples() -> Iterator[str]:
    for verb in VERBS.values():
        for line in (verb.help or "").splitlines():
            for command in line.strip().split(" && "):
                if command.startswith("genpipe "):
                    yield command


@pytest.mark.parametrize("line", sorted(set(examples())))
def test_every_example_of_every_help_is_a_request(line: str) -> None:
    """Parsed as it is typed, and taken as a request: names and limits of every option are right."""
    name, *words = shlex.split(line.partition(" > ")[0])[1:]
    context = VERBS[name].make_context(f"genpipe {name}", words)
    if kind := REQUESTS.get(name):
        given = {k: v for k, v in context.params.items() if k in kind.model_fields}
        assert asked(kind, given)


def test_the_road_of_the_first_help_is_made_of_commands() -> None:
    lines = [line.strip() for line in (get_command(app).help or "").splitlines()]
    road = [part for line in lines for part in line.split(" && ") if part.startswith("genpipe ")]
    assert len(road) >= 7
    for line in road:
        words = shlex.split(line.split("   ")[0])
        VERBS[words[1]].make_context(f"genpipe {words[1]}", words[2:])
