"""A request as a command's options, and what was typed as a request again.

A yes-or-no is a flag, a mapping KEY=VALUE pairs, several values an option that is given several times. Limits
are shown by the help and kept by the request, so that the command line complains as the library does.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from genpipe import requests
from genpipe.cli.tab import OFFERED
from genpipe.comparison import Comparison
from genpipe.errors import UsageError
from genpipe.requests import Request
from genpipe.requests.signature import takes
from genpipe.requests.words import limits

R = TypeVar("R", bound=Request)
# options whose name is another than that of the parameter
FLAGS = {
    "conditions": ("--where",),
    "from_model": ("--from",),
    "options": ("--option", "-o"),
    "recipes": ("--recipe",),
    "schema_file": ("--schema",),
}
ARGUMENTS = ("source", "model", "dataset", "spec", "name", "version")  # where they must be said
# name of a verb -> what it is asked
REQUESTS = {
    name.lower(): each
    for name, each in vars(requests).items()
    if isinstance(each, type) and issubclass(each, Request)
}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def options(request: type[Request]) -> Callable[[Any], Any]:
    """The options of a command `f(first, *, own, **given)`; see `takes`."""
    return takes(request, spell=partial(_spelt, request))


def flag(name: str) -> str:
    """How a parameter is said: --rows-per-part."""
    return FLAGS.get(name, (f"--{name.replace('_', '-')}",))[0]


def asked(request: type[R], given: Mapping[str, Any]) -> R:
    """The request that was typed."""
    said, parameters = dict[str, Any](), dict[str, Any]()
    for name, value in given.items():
        field = request.model_fields[name]
        if value is None or value in ([], ()):
            continue
        kinds = _kinds(field)
        if name == "options":
            parameters, value = _apart(pairs(value), request, given)
        elif dict in kinds and str not in kinds:
            read = sizes if int in kinds else wanted if name == "conditions" else pairs
            value = read(value)
        elif Literal in kinds and isinstance(value, list):
            value = [word.strip() for text in value for word in text.split(",") if word.strip()]
        elif name == "source" and isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, str) and {int, float} & kinds and dict not in kinds:
            value = number(
                value, whole=int in kinds, share={*limits(field.annotation, field.metadata)} & {"le", "lt"}
            )
        said[name] = value
    return request.of(**said | parameters)


def number(text: str, *, whole: bool, share: object = False) -> Any:
    """A number as it is typed, of a share also 20%; any other text stays, for the request to complain of."""
    plain = text.strip()
    if whole:
        return int(plain) if re.fullmatch("[+-]?[0-9]{1,30}", plain) else plain
    with contextlib.suppress(ValueError):
        return float(plain[:-1]) / 100 if share and plain.endswith("%") else float(plain)
    return text


def wanted(items: list[str]) -> dict[str, Any]:
    """What rows must be: column -> a value, values with their shares, or {sign: value} of `age>=30`."""
    found, compared = dict[str, Any](), dict[str, dict[str, Any]]()
    for item in items:
        _check_quoted(item)
        asked = Comparison.parse(item, where="--where")
        before = ["="] if asked.column in found else [*compared.get(asked.column, {})]
        if asked.sign in before or (before and "=" in (asked.sign, *before)):
            fix = f'for several values say their shares: \'{asked.column}={{"a": 0.5, "b": 0.5}}\''
            raise UsageError("USAGE", where=f"--where {item}", found=f"{asked.column} twice", fix=fix)
        value = _value(asked.value)
        if asked.sign == "=":
            found[asked.column] = value
        else:
            compared.setdefault(asked.column, {})[asked.sign] = value
    return found | compared


def _check_quoted(item: str) -> None:
    """Raise a UsageError where a shell has taken the value: of `income=>50K` it leaves `income=`."""
    if item.endswith("=") and item.count("=") == 1:
        raise UsageError(
            "QUOTE",
            where=f"--where {item}",
            found="no value",
            expected='a value, or "" for an empty text',
            fix=f"quote what has < or > in it, which the shell takes: --where '{item}>50K'",
        )


def _value(text: str) -> Any:
    """A value that is JSON (a number, true, a list) becomes that."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def _kinds(field: FieldInfo) -> set[Any]:
    """What a field is made of: its types without their marks."""
    found, todo = set[Any](), [field.annotation]
    while todo:
        one = todo.pop()
        origin = get_origin(one)
        found.add(origin or one)
        if origin is Annotated:
            todo.append(get_args(one)[0])
        elif origin not in (None, Literal, dict):
            todo += get_args(one)
    return found


def _spelt(request: type[Request], name: str, field: FieldInfo) -> inspect.Parameter:
    """A field as typer reads a parameter."""
    kinds = _kinds(field)
    mapping = dict in kinds and str not in kinds
    several = mapping or tuple in kinds
    kind: Any = list[str] if several else next((k for k in (bool, int, float) if k in kinds), str)
    if Literal in kinds and not several:
        kind = next(a for a in (field.annotation, *get_args(field.annotation)) if get_origin(a) is Literal)
    bounds = limits(field.annotation, field.metadata) if not several else {}
    shown = ", ".join(f"{SIGNS[key]}{bound}" for key, bound in bounds.items())
    text = f"{field.description}" + (f"  [{shown}]" if shown else "")
    default: Any = inspect.Parameter.empty if field.is_required() else None if several else field.default
    metavar = "KEY=VALUE" if mapping and int not in kinds else None
    if kind in (int, float):  # read by the request, which has our words for what is none
        text += f"  [default: {default}]" if isinstance(default, int | float) else ""
        kind, default, metavar = str, None if not field.is_required() else default, f"<{kind.__name__}>"
    # typer lists a flag's opposite unless its name is given
    names = FLAGS.get(name, (flag(name),) if kind is bool else ())
    if field.is_required() and name in ARGUMENTS:
        info: Any = typer.Argument(help=text, autocompletion=OFFERED.get(name))
    else:
        info = typer.Option(*names, help=text, metavar=metavar, autocompletion=OFFERED.get(name))
    if not field.is_required():
        kind = kind | None if default is None else kind
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _apart(
    pairs: Mapping[str, Any], request: type[Request], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of what was said with -o: parameters of the verb, another spelling of theirs; options of a source."""
    names = {field.alias or name: name for name, field in request.model_fields.items()}
    names |= {name: name for name in request.model_fields}
    parameters, options = dict[str, Any](), dict[str, Any]()
    for key, value in pairs.items():
        name = names.get(key.replace("-", "_"))
        if key in ("progress", "option", "options"):
            raise UsageError("OPTION", where=key, found="no option of a source", expected="one of a source")
        if name is None:
            options[key] = value
        elif request.model_fields[name].is_required():
            fix = f"say it as the argument {name}"
            raise UsageError("OPTION", where=key, found="an argument of this command, given with -o", fix=fix)
        elif given.get(name) not in (None, [], request.model_fields[name].default):
            fix = f"say it once, with {flag(name)}"
            raise UsageError("OPTION", where=key, found="said twice, the second time with -o", fix=fix)
        else:
            parameters[name] = value
    return parameters, options


def pairs(items: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE arguments, each key once; but of `where` all are kept."""
    found: dict[str, Any] = {}
    for item in items or []:
        key, mark, value = item.partition("=")
        if not mark or not key:
            fix = f"quote what has < or > in it, which the shell takes: -o where='{item or 'age'}>=18'"
            raise UsageError("USAGE", where=item, found="no '='", expected="KEY=VALUE", fix=fix)
        if not value and key == "where":
            _check_quoted(item)
        if key in found and key != "where":
            raise UsageError("USAGE", where=item, found=f"{key} twice", expected="each once")
        before = found.get(key, [])
        found[key] = _value(value) if not before else [*(before if type(before) is list else [before]), value]
    return found


def sizes(items: list[str]) -> Any:
    """A number of rows, or table=rows, each once: {table: rows}, with * for the tables that are not named."""
    found = pairs([item if "=" in item else f"*={item}" for item in items])
    return found if found.keys() != {"*"} else found["*"]
