"""Reading and checking a spec file: every problem at once, each with its line, its key and the closest match.

The YAML itself is read by genpipe/yaml_file.py; here it is asked what it means.
"""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genpipe.databases import beside as database_beside
from genpipe.databases import is_database
from genpipe.errors import GenpipeError, SpecError, UsageError, closest, keys_in_uri, unknown
from genpipe.pipeline.headers import column_problems
from genpipe.pipeline.spec import PipelineSpec
from genpipe.redaction import secrets_in
from genpipe.requests.words import kind_of, schema_problems
from genpipe.yaml_file import MOST_BYTES, Lines, Path_, dotted, line_of, read_yaml


def read_spec(path: Path) -> tuple[dict[str, Any], Lines, str]:
    """The mapping in a YAML file, the line of each of its keys, and the file's name."""
    where = str(path)
    try:
        with open(path, "rb") if path.is_file() else nullcontext() as file:  # no pipe, no device
            raw = file.read(MOST_BYTES + 1) if file else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError("PATH", where=where[:200], found=reason, expected="a YAML spec") from None
    if raw is None:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UsageError(
            "PATH",
            where=where,
            found="no such file",
            expected="a YAML spec",
            fix=closest(path.name, siblings),
        )
    data, lines = read_yaml(raw, where)
    if not isinstance(data, dict):
        if path.suffix.lower() not in (".yaml", ".yml", ".json"):
            found, expected = "no spec", "a YAML file of keys and values"
            fix = f"of data say genpipe ingest {shlex.quote(where)}"
            raise UsageError("SPEC", where=where, found=found, expected=expected, fix=fix)
        raise SpecError(where, [f"found {kind_of(data)}; expected a mapping of keys and values"])
    return data, lines, where


def given(spec: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], Lines, str]:
    """A spec as it is given: its mapping, the lines of a file, and where it is from. Prefect keeps all of it,
    so no text in it may be a URI with keys of its own.
    """
    if isinstance(spec, Mapping):
        data, lines, where = _in_full(spec), dict[Path_, int](), "spec"
    else:
        data, lines, where = read_spec(Path(spec).expanduser())
        data = beside(_in_full(data), Path(where).parent, lines, where)
    if found := [(path, f"found {_without_place(keys_in_uri(''))}") for path in secrets_in(data)]:
        raise spec_error(found, lines, where=where)
    return data, lines, where


def _in_full(data: Mapping[str, Any]) -> dict[str, Any]:
    """`source: people.csv` as `source: {path: people.csv}`."""
    source = data.get("source")
    return {**data, "source": {"path": source}} if isinstance(source, str | list) else {**data}


def beside(data: dict[str, Any], folder: Path, lines: Lines, where: str) -> dict[str, Any]:
    """A spec's mapping with its relative paths as those of the spec's folder.

    In specs of earlier versions they were those of the working folder, and what is there alone is still
    found. Raises SpecError where a source is in both, and they are not the same file.
    """
    both: list[tuple[Path_, str]] = []

    def placed(value: Any, path: Path_, *, input: bool = True) -> Any:
        if isinstance(value, list):
            return [placed(one, path) for one in value]
        if isinstance(value, str) and is_database(value) and "://" in value:
            return database_beside(value, folder)
        if not isinstance(value, str) or not value or "://" in value or value[0] in "/~":
            return value
        if value.startswith("builtin:"):
            return value
        mine, here = str(folder / value), _there(value)
        if not _there(mine):
            return value if here else mine
        if input and here and here != _there(mine) and not value.startswith("./"):
            text = f"found {value!r} beside the spec and another in the working folder; expected one of them"
            both.append((path, f"{text}; write ./{value} for the one beside the spec, or a whole path"))
        return mine

    def inside(part: Any, path: Path_, *names: str, input: bool = True) -> Any:
        if not isinstance(part, dict):
            return part
        return part | {n: placed(part[n], (*path, n), input=input) for n in names if n in part}

    if folder.resolve() == Path.cwd():
        return data
    data = {**data}
    for key, names in (("source", ("path", "schema")), ("generate", ("output",))):
        if key in data:
            data[key] = inside(data[key], (key,), *names, input=key == "source")
    if isinstance(tables := data.get("tables"), dict):
        data["tables"] = {n: inside(t, ("tables", n), "source", "schema") for n, t in tables.items()}
    if both:
        raise spec_error(both, lines, where=where)
    return data


def _there(text: str) -> list[str]:
    """What a path or glob names on this disk, if anything."""
    found = glob.glob(text) if glob.has_magic(text) else [text] if os.path.exists(text) else []
    return sorted(str(Path(one).resolve()) for one in found[:1000])


def check_spec(data: Mapping[str, Any], lines: Lines, where: str) -> PipelineSpec:
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
    if not any(path[:2] == ("source", "path") for path, _ in found):  # an impossible place is not looked at
        kind, problems = _open_source(data)
        found += problems
    else:
        kind = None
    if kind is not None:
        found += _recipe_problems(data, kind)
    if found or spec is None:
        raise spec_error(found, lines, where=where)
    spec._checked = True
    return spec


def spec_error(found: Sequence[tuple[Path_, str]], lines: Lines, *, where: str) -> SpecError:
    """The error of so many problems, in the order of the file."""
    rows = sorted({(line_of(path, lines), dotted(path), text) for path, text in found})
    return SpecError(
        where,
        [f"{f'line {n}: ' if n else ''}{f'{key}: ' if key else ''}{text}" for n, key, text in rows],
    )


def _open_source(data: Mapping[str, Any]) -> tuple[str | None, list[tuple[Path_, str]]]:
    """The data kind as far as names and options tell it, and what is wrong with them and with the columns."""
    from genpipe.kinds import KINDS
    from genpipe.sources import open_source

    source = data.get("source")
    if not isinstance(source, Mapping) or not source.get("path"):
        return None, []
    kind, options, path = source.get("kind"), source.get("options"), source["path"]
    known = kind if kind in KINDS else None
    found: list[tuple[Path_, str]] = []
    schema = source.get("schema")
    try:
        if isinstance(schema, str) and "://" not in schema and not Path(schema).is_file():
            text = f"no file {schema!r}; expected a schema `genpipe ingest` wrote"
            found.append((("source", "schema"), text))
        opened = open_source(path, kind=known, options=options if isinstance(options, Mapping) else None)
        known = opened.kind
        found += column_problems(opened, {("source", k): source.get(k) for k in ("target", "key")})
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
    if isinstance(recipe, str) and not found and recipe not in recipes_for(kind):
        error = unknown(f"recipe for {kind} data", recipe, recipes_for(kind))
        found.append((("recipe",), _without_place(error)))
    if isinstance(search, Mapping):
        try:
            space(kind, recipes=search.get("recipes"), vary=search.get("vary"))
        except GenpipeError as error:
            inside = (
                _split(error.where) if error.where.split(".")[0] in ("", "recipes") else ("vary", error.where)
            )
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
