"""What pydantic says of a value, in our words: what was found, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from genpipe.errors import UsageError, closest, rule_of
from genpipe.yaml_file import MOST_PROBLEMS, Path_, dotted

NUMBERS = ("int", "float", "greater", "less", "finite", "bool")  # how pydantic's types of errors begin


def usage_error(error: ValidationError, model: type[BaseModel], *, within: Path_ = ()) -> UsageError:
    """The error of a request that is no `model`; of several problems, all. within: of one field alone."""
    found = [_problem(item, (*within, *path), model) for path, item in _one_each(error).items()]
    if len(found) == 1:
        return found[0]
    return UsageError("VALUE", found=f"{len(found)} problems", lines=[str(problem) for problem in found])


def _problem(item: Any, path: Path_, model: type[BaseModel]) -> UsageError:
    where, field = dotted(path), model.model_fields.get(_field(path, model))
    if item["type"] == "complaint":
        told = item["ctx"]
        return UsageError(
            told["code"], where=where, found=told["found"], expected=told["expected"], fix=told["fix"]
        )
    number = allowed(field)
    if item["type"] == "missing":
        return UsageError("VALUE", where=where, found="missing", expected=number or "a value")
    fix = ""
    if field is not None and not field.is_required():
        fix = "leave it out" + (f" for {field.default!r}" if field.default not in (None, "", ()) else "")
    if item["type"].startswith(NUMBERS) and number:
        return UsageError("VALUE", where=where, found=kind_of(item["input"]), expected=number, fix=fix)
    found, _, expected = in_our_words(item, path, model).partition("; expected ")
    return UsageError("VALUE", where=where, found=found.removeprefix("found "), expected=expected, fix=fix)


def _field(path: Path_, model: type[BaseModel]) -> str:
    """The name of the field that a path begins with; its key may be an alias."""
    names: dict[Any, str] = {field.alias or name: name for name, field in model.model_fields.items()}
    return names.get(path[0], str(path[0])) if path else ""


def _one_each(error: ValidationError) -> dict[Path_, Any]:
    """The complaint about each value. Where a union fails in several branches it is that of the branch which
    got furthest into the value, else the first.
    """
    out: dict[Path_, Any] = {}
    for item in error.errors(include_url=False):
        path = tuple(p for p in item["loc"] if not _is_branch(p))
        out = {p: i for p, i in out.items() if not (p and p != path and path[: len(p)] == p)}
        if not any(p[: len(path)] == path for p in out):
            out[path] = item
    return out


def limits(annotation: Any, metadata: Sequence[Any] = ()) -> dict[str, float]:
    """The limits (ge, gt, le, lt) that a type or one of its branches has."""
    found: dict[str, float] = {}
    for part in [annotation, *metadata, *_inside(annotation)]:
        for mark in getattr(part, "metadata", [part]):
            found |= {k: getattr(mark, k) for k in ("ge", "gt", "le", "lt") if hasattr(mark, k)}
    return found


def _inside(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        yield part
        yield from _inside(part)


def allowed(field: FieldInfo | None) -> str:
    """The numbers a field takes: a whole number from 0, a number above 0; empty where it takes none."""
    if field is None:
        return ""
    kinds = {field.annotation, *_inside(field.annotation)}
    if not kinds & {int, float}:
        return ""
    asked = limits(field.annotation, field.metadata)
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "to below"}
    text = " ".join(f"{word} {asked[key]}" for key, word in words.items() if key in asked)
    return f"a {'whole number' if int in kinds else 'number'} {text}".strip()


def schema_problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[Path_, str]]:
    """What pydantic says of a spec that is no `model`, in our words, each with its key."""
    out: dict[Path_, str] = {}
    for item in error.errors(include_url=False):
        path: Path_ = tuple(p for p in item["loc"] if not _is_branch(p))
        # a value may fail several branches of a union; the first complaint is enough
        if path not in out:
            out[path] = in_our_words(item, path, model) if len(out) < MOST_PROBLEMS else item["msg"]
    return list(out.items())


def in_our_words(item: Any, path: Path_, model: type[BaseModel]) -> str:
    """One problem: found this; expected that; and the closest match."""
    kind, value, message = item["type"], item["input"], item["msg"]
    if kind == "extra_forbidden":
        keys = _keys_at(path[:-1], model)
        return f"unknown key; expected one of {', '.join(keys)}" + hint(str(path[-1]), keys)
    if kind == "missing":
        return "missing; expected a value"
    if kind == "literal_error":
        names = [n.strip(" '") for n in item["ctx"]["expected"].replace(" or ", ",").split(",")]
        return f"found {kind_of(value)}; expected one of {', '.join(names)}" + hint(str(value), names)
    if kind == "complaint":
        return f"found {message}"
    if kind == "model_type" and path:
        return f"found {kind_of(value)}; expected keys of its own: {', '.join(_keys_at(path, model))}"
    return f"found {kind_of(value)}; expected {rule_of(message)}"


def _is_branch(part: Any) -> bool:
    """Pydantic puts the branch of a union into a location; it is no key of the user's."""
    return isinstance(part, str) and (
        part.startswith(("function-", "tuple[", "dict[", "constrained-")) or part in ("str", "nullable")
    )


def _keys_at(path: Path_, model: Any) -> list[str]:
    for part in path:
        if part not in model.model_fields:
            continue  # a key of a mapping, whose values are what the model is of already
        annotation = model.model_fields[part].annotation
        model = next(
            (
                a
                for a in (annotation, *get_args(annotation))
                if isinstance(a, type) and issubclass(a, BaseModel)
            ),
            model,
        )
    return [field.alias or name for name, field in model.model_fields.items()]


def hint(word: str, names: Sequence[str]) -> str:
    """The end of a complaint about an unknown word, if a known one is like it."""
    match = closest(word, names)
    return f"; {match}" if match else ""


def kind_of(value: Any) -> str:
    """A value as a person would name it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
