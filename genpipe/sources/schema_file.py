"""The schema as a file a person edits: printed with a reason per field, obeyed by the next ingest."""

from __future__ import annotations

import io
import re
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from genpipe import store
from genpipe.constraints import TYPES
from genpipe.errors import DataError, SpecError, closest
from genpipe.schema import KINDS, Schema

FIELD_KINDS = (
    "number",
    "integer",
    "boolean",
    "category",
    "timestamp",
    "date",
    "identifier",
    "text",
    "image",
    "series",
    "audio",
)
HEAD = """\
# How genpipe reads this data. Edit it and pass it back: genpipe ingest DATA --schema THIS_FILE
# kind of a field: number (decimals, minimum, maximum), integer (minimum, maximum), boolean,
#   category (values), timestamp (unit, timezone), date,
#   identifier and text (never learnt; pattern: a regular expression for the made-up values; identifiers of
#   storage: integer: minimum; pii: the personal data that is made up instead, or none).
# entity: the columns that name whom rows are about, where one has several rows (a patient's visits).
# constraints between columns, kept in every generated row, such as
#   - {type: inequality, low: start, high: end, strict: false}
#   - {type: sum, total: total, parts: [a, b]}
#   - {type: combinations, columns: [city, state]}
#   - {type: one_to_one, columns: [code, name]}
#   - {type: determines, columns: [city], target: state}
# A value that breaks a field stops the ingest with its file and row. Leave a column out to drop it.
"""


def schema_to_yaml(schema: Schema) -> str:
    """The schema as commented YAML; `schema_from_yaml` of it is an equal schema."""
    yaml, sink = YAML(), io.StringIO()
    yaml.width = 4096
    data: dict[str, Any] = {
        "kind": schema.kind,
        "target": schema.target,
        "key": list(schema.key),
        **({"entity": list(schema.entity)} if schema.entity else {}),
        "fields": [],
    }
    for field in schema.fields:
        entry = field.model_dump(mode="json", exclude_none=True)
        data["fields"].append({"name": entry.pop("name"), "kind": entry.pop("kind"), **entry})
    if schema.constraints:
        data["constraints"] = [c.model_dump(mode="json") for c in schema.constraints]
    yaml.dump(data, sink)
    return HEAD + sink.getvalue()


def schema_from_yaml(path: str) -> Schema:
    """Read a schema file; all problems at once, with line numbers."""
    try:
        text = store.read_bytes(path).decode()
        data = YAML().load(text)
    except FileNotFoundError:
        raise DataError(
            "MISSING",
            where=path,
            found="no such schema file",
            fix="`genpipe ingest --show-schema` prints one",
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise SpecError(
            path, [f"line {mark.line + 1 if mark else 1}: not YAML: {getattr(error, 'problem', error)}"]
        ) from None
    if not isinstance(data, dict):
        raise SpecError(path, ["line 1: expected keys kind, target, key, fields"])
    try:
        return Schema.model_validate(_plain(data))
    except ValidationError as error:
        raise SpecError(path, [_problem(data, e) for e in error.errors()]) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _place(message: str) -> tuple[str | int, ...]:
    """Where a constraint stands that contradicts others: the message begins with its number."""
    found = re.match(r"Value error, constraints\[(\d+)\]", message)
    return ("constraints", int(found[1])) if found else ()


def _problem(data: Any, error: Any) -> str:
    """`line 7: fields[2].decimals: ...` for one pydantic error."""
    node, line, shown = data, 1, ""
    for part in error["loc"] or _place(error["msg"]):
        try:
            position = node.lc.item(part) if isinstance(part, int) else node.lc.key(part)
            node = node[part]
        except (AttributeError, KeyError, TypeError, IndexError):
            if part not in (*FIELD_KINDS, *TYPES):  # the name of a union member is no place in the file
                shown += f".{part}"
            continue
        line = position[0] + 1
        shown += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "union_tag_invalid":
        got = error["ctx"]["tag"]
        what, allowed = ("type", TYPES) if error["loc"][0] == "constraints" else ("kind", FIELD_KINDS)
        hint = "limits of one column are minimum and maximum of its field" if got == "range" else ""
        hint = hint or closest(got, allowed)
        message = f"unknown {what} {got!r}; expected one of {', '.join(allowed)}; {hint}".rstrip("; ")
    if error["type"] == "literal_error" and shown == ".kind":
        message = f"got {error['input']!r}; expected one of {', '.join(KINDS)}"
    if error["type"] == "extra_forbidden":
        message = "this key is not known here"
    return f"line {line}: {shown.lstrip('.')}: {message}" if shown else f"line {line}: {message}"
