"""Reading and checking a spec file: every problem at once, each with its line, its key and the closest match.

YAML is read as a tree of nodes, not as Python objects: tags, aliases (the stuff of YAML bombs) and repeated
keys are seen before a value exists, and each value keeps its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from genpipe.errors import GenpipeError, SpecError, UsageError, closest, unknown
from genpipe.pipeline.spec import PipelineSpec

MAX_BYTES, MAX_DEPTH = 1_000_000, 20
Path_ = tuple[Any, ...]
Lines = dict[Path_, int]


def read_spec(path: Path) -> tuple[dict[str, Any], Lines, str]:
    """The mapping in a YAML file, the line of each of its keys, and the file's name."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    where = str(path)
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UsageError(
            "PATH",
            where=where,
            found="no such file",
            expected="a YAML spec",
            fix=closest(path.name, siblings),
        )
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise SpecError(where, [f"{len(raw)} bytes; expected a spec of at most {MAX_BYTES}"])
    lines: Lines = {}
    problems: list[str] = []
    try:
        yaml = YAML(typ="safe", pure=True)
        node = yaml.compose(raw.decode("utf-8-sig"))
        _walk(node, (), lines, problems, seen=set())
        if problems:
            raise SpecError(where, problems)
        data = YAML(typ="safe", pure=True).load(raw.decode("utf-8-sig")) if node is not None else None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise SpecError(where, [f"{line}not YAML: {error.problem or error.context}"]) from None
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SpecError(where, [f"not YAML: {str(error).splitlines()[0]}"]) from None
    if not isinstance(data, dict):
        raise SpecError(where, [f"found {_kind(data)}; expected a mapping of keys and values"])
    return data, lines, where


def _walk(node: Any, path: Path_, lines: Lines, problems: list[str], seen: set[int]) -> None:
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if node is None:
        return
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    tag = str(node.tag or "")
    if id(node) in seen or len(path) > MAX_DEPTH:
        problems.append(
            f"line {line}: {dotted(path)}: an alias or very deep nesting; expected plain values, written out"
        )
        return
    seen.add(id(node))
    if not tag.startswith("tag:yaml.org,2002:") or "python" in tag:
        problems.append(f"line {line}: {dotted(path)}: tag {tag}; expected plain values without tags")
    if isinstance(node, MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, at = str(key.value), key.start_mark.line + 1
            if name in first:
                problems.append(
                    f"line {at}: {dotted((*path, name))}: key given twice, first in line {first[name]}"
                )
                continue
            first[name] = at
            lines[(*path, name)] = at
            _walk(value, (*path, name), lines, problems, seen)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, problems, seen)


def check_spec(data: Mapping[str, Any], lines: Lines, *, where: str) -> PipelineSpec:
    """A spec from a mapping, or a SpecError with all that is wrong with it, in the order of the file."""
    found: list[tuple[Path_, str]] = []
    spec = None
    try:
        spec = PipelineSpec.model_validate(data)
    except ValidationError as error:
        found += schema_problems(error, PipelineSpec)
    if data.get("recipe") is not None and data.get("search") is not None:
        found.append(
            (("search",), "found both 'recipe' and 'search'; expected one of them; a search finds its recipe")
        )
    kind, problems = _open_source(data)
    found += problems
    if kind is not None:
        found += _recipe_problems(data, kind)
    if found or spec is None:
        raise spec_error(found, lines, where=where)
    return spec


def spec_error(found: Sequence[tuple[Path_, str]], lines: Lines, *, where: str) -> SpecError:
    """The error of so many problems, in the order of the file."""
    rows = sorted({(_line(path, lines), dotted(path), text) for path, text in found})
    return SpecError(
        where,
        [f"{f'line {line}: ' if line else ''}{f'{key}: ' if key else ''}{text}" for line, key, text in rows],
    )


def schema_problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[Path_, str]]:
    """What pydantic says of a spec that is no `model`, in our words, each with its key."""
    out: dict[Path_, str] = {}
    for item in error.errors(include_url=False):
        path: Path_ = tuple(p for p in item["loc"] if not _is_branch(p))
        kind, value, message = item["type"], item["input"], item["msg"]
        if kind == "extra_forbidden":
            keys = _keys_at(path[:-1], model)
            text = f"unknown key; expected one of {', '.join(keys)}" + _hint(str(path[-1]), keys)
        elif kind == "missing":
            text = "missing; expected a value"
        elif kind == "literal_error":
            names = [n.strip(" '") for n in item["ctx"]["expected"].replace(" or ", ",").split(",")]
            text = f"found {value!r}; expected one of {', '.join(names)}" + _hint(str(value), names)
        elif kind == "complaint":
            text = f"found {message}"
        else:
            rule = (
                message.removeprefix("Input should be ")
                .replace("a valid dictionary", "a mapping")
                .replace("a valid integer", "a whole number")
                .replace("a valid ", "a ")
            )
            text = f"found {_kind(value)}; expected {rule}"
        # a value may fail several branches of a union; the first complaint is enough
        out.setdefault(path, text)
    return list(out.items())


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


def _open_source(data: Mapping[str, Any]) -> tuple[str | None, list[tuple[Path_, str]]]:
    """The data kind as far as names and options tell it, and what is wrong with them. Only names are read."""
    from genpipe.schema import KINDS
    from genpipe.sources import open_source

    source = data.get("source")
    if not isinstance(source, Mapping) or not source.get("path"):
        return None, []
    kind, options, path = source.get("kind"), source.get("options"), source["path"]
    known = kind if kind in KINDS else None
    found: list[tuple[Path_, str]] = []
    schema = source.get("schema")
    if isinstance(schema, str) and "://" not in schema and not Path(schema).is_file():
        found.append((("source", "schema"), f"no file {schema!r}; expected a schema `genpipe ingest` wrote"))
    try:
        known = open_source(path, kind=known, options=options if isinstance(options, Mapping) else None).kind
    except GenpipeError as error:
        wrong_option = error.code == "OPTION" or error.found.startswith("unknown option")
        text = _without_place(error)
        found.append(
            (
                ("source", "options" if wrong_option else "path"),
                text if wrong_option else f"{error.where}: {text}",
            )
        )
    except (TypeError, ValueError, AttributeError, OSError):
        pass  # a wrong type, which the types of the spec report
    return known, found


def _recipe_problems(data: Mapping[str, Any], kind: str) -> list[tuple[Path_, str]]:
    """Names, keys, ranges and combinations of `recipe` or `search`, asked of the parts that own them."""
    from genpipe.recipes import recipe_problems, recipes_for
    from genpipe.search_space import space

    found: list[tuple[Path_, str]] = []
    recipe, search = data.get("recipe"), data.get("search")
    if isinstance(recipe, str | Mapping):
        for error in recipe_problems(recipe, kind):
            found.append((("recipe", *_split(error.where)), _without_place(error)))
    if isinstance(recipe, str) and not found and not recipe.startswith(kind):
        error = unknown(f"recipe for {kind} data", recipe, recipes_for(kind))
        found.append((("recipe",), _without_place(error)))
    if isinstance(search, Mapping):
        try:
            space(kind, recipes=search.get("recipes"), vary=search.get("vary"))
        except GenpipeError as error:
            inside = (error.where,) if error.where in ("", "recipes") else ("vary", error.where)
            found.append((("search", *filter(None, inside)), _without_place(error)))
        except (TypeError, AttributeError, ValueError):
            pass  # a wrong type, which the schema has reported already
    return found


def _without_place(error: GenpipeError) -> str:
    return "; ".join(
        t for t in (error.found, error.expected and f"expected {error.expected}", error.fix) if t
    )


def _split(where: str) -> Path_:
    return tuple(where.split(".")) if where else ()


def _hint(word: str, names: Sequence[str]) -> str:
    match = closest(word, names)
    return f"; {match}" if match else ""


def _kind(value: Any) -> str:
    """A value as a person would name it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _line(path: Path_, lines: Lines) -> int:
    """The line of a key, or of the nearest part around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))
