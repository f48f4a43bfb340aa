"""What was typed and is no command: what is wrong with it, and what was meant, in a shell's words."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from genpipe.cli.options import REQUESTS, flag
from genpipe.errors import GenpipeError, UsageError, closest

# words of a recipe that people look for among the options
OF_A_RECIPE = {
    "steps": "training: {steps: 500}",
    "epochs": "training: {steps: 500}",
    "batch-size": "training: {batch_size: 128}",
    "batch": "training: {batch_size: 128}",
    "learning-rate": "training: {optimizer: {learning_rate: 0.001}}",
    "lr": "training: {optimizer: {learning_rate: 0.001}}",
}
_KEYWORD = re.compile(r"(?<![\w(\[{'\"./=-])(?<!-o )(?P<name>[a-z][a-z_]*)=(?P<value>[^\s,;)]?)")


def usage_error(error: Any, arguments: list[str]) -> UsageError:
    """Typer's complaint as an error of ours: what was typed, what is allowed, what to do."""
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context else "genpipe"
    message = error.format_message().rstrip(".")
    kind, fix = type(error).__name__, f"see {command} --help"
    if message.startswith("No such command"):
        word = arguments[0]
        return UsageError(
            "USAGE",
            where=command,
            found=f"no command {word!r}",
            fix=_verb(arguments, context.command.commands),
        )
    if kind == "NoSuchOption":
        names = [name for p in context.command.params for name in p.opts if name.startswith("--")]
        meant = closest(error.option_name, names)
        if (word := error.option_name.lstrip("-")) in OF_A_RECIPE and "--recipe" in names:
            meant = (
                f"it is said in a recipe: a file of `base: NAME` and `{OF_A_RECIPE[word]}`, as --recipe FILE"
            )
        found = f"no option {error.option_name}"
        return UsageError(
            "USAGE", where=command, found=found, fix=f"{meant or 'there is none like it'}; {fix}"
        )
    if message.startswith("Got unexpected extra argument"):
        fix = f"quote a name with spaces in it; {fix}"
    return UsageError("USAGE", where=command, found=message, fix=fix)


def _verb(arguments: list[str], verbs: Iterable[str]) -> str:
    """What somebody meant whose first word is no verb."""
    word, rest, names = arguments[0], arguments[1:], list(verbs)
    if os.path.exists(word):
        verb = "run" if word.endswith((".yaml", ".yml")) else "ingest"
        return f"genpipe {verb} {shlex.join(arguments)}"
    if rest and rest[0] in names:
        return f"the verb comes first: genpipe {shlex.join([rest[0], word, *rest[1:]])}"
    meant = closest(word, names)
    return f"{meant}; see genpipe --help" if meant else "see genpipe --help"


def as_typed(error: GenpipeError, verb: str) -> GenpipeError:
    """The error of a verb with Python's keywords in what it proposes as this command's options."""
    asked = REQUESTS.get(verb)
    if asked is None or not _KEYWORD.search(f"{error.expected} {error.fix}"):
        return error
    names = {field.alias or name: flag(name) for name, field in asked.model_fields.items()}
    names |= {name: flag(name) for name in asked.model_fields}
    told = [_options(text, names, "options" in asked.model_fields) for text in (error.expected, error.fix)]
    if told == [error.expected, error.fix]:
        return error
    lines = error.lines
    return type(error)(
        error.code, where=error.where, found=error.found, expected=told[0], fix=told[1], lines=lines
    )


def _options(text: str, names: Mapping[str, str], of_source: bool) -> str:
    def option(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if name in names:
            return f"{names[name]}{f' {value}' if value else ''}"
        return f"-o {name}={value}" if of_source else match[0]

    return re.sub(r"(-o \w+=[^\s,]+), (?=-o )", r"\1 ", _KEYWORD.sub(option, text))
