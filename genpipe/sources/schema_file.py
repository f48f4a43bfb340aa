"""The schema as a file a person edits: printed with a reason per field, obeyed by the next ingest."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from genpipe import store
from genpipe.constraints import TYPES
from genpipe.errors import DataError, SpecError, closest
from genpipe.kinds import KINDS
from genpipe.redaction import visible
from genpipe.schema import Schema
from genpipe.sources.files import File
from genpipe.yaml_file import MOST_PROBLEMS, Lines, Path_, line_of, read_yaml

BREAKS = re.compile("[\r\x85\u2028\u2029\ufeff]")
MOST_BYTES, MOST_VALUES = 8_000_000, 120_000  # some 10,000 columns, as `schema_to_yaml` writes them
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
#   category (values), timestamp (unit, timezone), date; of all but category format: how texts are written,
#   such as '$#,##0.00', '0,0%', '%d.%m.%Y', '%H:%M' (docs/sources.md);
#   identifier and text (never learnt; pattern: a regular expression for the made-up values; identifiers of
#   storage: integer: minimum; pii: the personal data that is made up instead, or none).
# entity: the columns that name whom rows are about, where one has several rows (a patient's visits).
# constraints between columns, kept in every generated row, such as
#   - {type: inequality, low: start, high: end, strict: false} (days: true for times that lie days apart)
#   - {type: sum, total: total, parts: [a, b]}
#   - {type: product, total: amount, parts: [price, pieces]}
#   - {type: ratio, rate: rate, part: cases, whole: people, factor: 1000, digits: 5}
#   - {type: logarithm, column: log_people, of: people, digits: 7}
#   - {type: linear, column: fahrenheit, of: celsius, factor: 1.8, offset: 32}
#   - {type: combinations, columns: [city, state]}
#   - {type: within, column: postal_code, of: [state, city]}
#   - {type: one_to_one, columns: [code, name]}
#   - {type: determines, columns: [city], target: state}
# A value that breaks a field stops the ingest with its file and row. Leave a column out to drop it.
"""


def schema_to_yaml(schema: Schema, offered: Sequence[Mapping[str, Any]] = ()) -> str:
    """The schema as commented YAML; `schema_from_yaml` of it is an equal schema.

    offered: constraints that nearly all rows keep, with their numbers, as ingest records them: as comments.
    """
    yaml, sink = YAML(), io.StringIO()
    yaml.width = 4096
    data: dict[str, Any] = {
        "kind": schema.kind,
        "target": schema.target,
        "key": list(schema.key),
        **({"entity": list(schema.entity)} if schema.entity else {}),
        **({"structs": list(schema.structs)} if schema.structs else {}),
        "fields": [],
    }
    for field in schema.fields:
        entry = field.model_dump(mode="json", exclude_none=True)
        data["fields"].append({"name": entry.pop("name"), "kind": entry.pop("kind"), **entry})
    if schema.constraints:
        data["constraints"] = [c.model_dump(mode="json") for c in schema.constraints]
    yaml.dump(_quoted(data), sink)
    return HEAD + sink.getvalue() + (_comments(offered, bool(schema.constraints)) if offered else "")


def _comments(offered: Sequence[Mapping[str, Any]], begun: bool) -> str:
    lines = ["# Seen in the data, but not kept. Uncomment a line to have every generated row keep it."]
    lines += [] if begun else ["# constraints:"]
    for each in offered:
        lines.append(f"# - {json.dumps(each['constraint'])}  # {often(each['rows'], each['broken'])} rows")
    return "".join(f"{line}\n" for line in lines)


def often(rows: int, broken: int) -> str:
    """How many of these rows keep a relation."""
    return f"{100 * (1 - broken / rows):.4g} % of {rows}" if broken else f"all {rows}"


def _quoted(value: Any) -> Any:
    """Texts that a screen shows with escapes, or with a line break of Unicode, in double quotes: YAML reads
    escapes in these alone, and other styles lose the break.
    """
    if isinstance(value, dict):
        return {k: _quoted(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_quoted(v) for v in value]
    odd = isinstance(value, str) and (BREAKS.search(value) or visible(value) != value)
    return DoubleQuotedScalarString(value) if odd else value


def schema_from_yaml(path: str) -> Schema:
    """Read a schema file; all problems at once, with line numbers."""
    data, lines = read_yaml(_bytes(path), path, most_bytes=MOST_BYTES, most_values=MOST_VALUES)
    if not isinstance(data, dict):
        raise SpecError(path, ["line 1: expected keys kind, target, key, fields"])
    try:
        return Schema.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        told = [_problem(lines, e) for e in problems[:MOST_PROBLEMS]]
        raise SpecError(path, [*told, *(e["msg"] for e in problems[MOST_PROBLEMS:])]) from None


def _bytes(path: str) -> bytes:
    local = store.scheme_of(path) == "file"
    with store.answering(path):
        known = not local or os.path.isfile(store.path_of(path))  # no pipe, no device, no impossible name
        file = File(store.path_of(path) if local else path, 0, "", "").now() if known else None
    if file is None:
        raise DataError(
            "MISSING",
            where=path,
            found="no such schema file",
            fix="`genpipe ingest` prints one, and writes it with --save-schema FILE",
        )
    with store.answering(path):
        return file.read(MOST_BYTES)


def _place(message: str) -> Path_:
    """Where a constraint stands that contradicts others: the message begins with its number."""
    found = re.match(r"Value error, constraints\[(\d+)\]", message)
    return ("constraints", int(found[1])) if found else ()


def _problem(lines: Lines, error: Any) -> str:
    """`line 7: fields[2].decimals: ...` for one pydantic error."""
    path: Path_ = ()
    shown = ""
    for part in error["loc"] or _place(error["msg"]):
        if (*path, part) in lines:
            path = (*path, part)
            shown += f"[{part}]" if isinstance(part, int) else f".{part}"
        elif part not in (*FIELD_KINDS, *TYPES):  # the name of a union member is no place in the file
            shown += f".{part}"
    line = line_of(path, lines)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "union_tag_invalid":
        got = error["ctx"]["tag"]
        what, allowed = ("type", TYPES) if error["loc"][0] == "constraints" else ("kind", FIELD_KINDS)
        hint = "limits of one column are minimum and maximum of its field" if got == "range" else ""
        hint = hint or closest(got, allowed)
        message = f"unknown {what} {got[:60]!r}; expected one of {', '.join(allowed)}; {hint}".rstrip("; ")
    if error["type"] == "literal_error" and shown == ".kind":
        message = f"got {str(error['input'])[:60]!r}; expected one of {', '.join(KINDS)}"
    if error["type"] == "extra_forbidden":
        message = "this key is not known here"
    return f"line {line}: {shown.lstrip('.')}: {message}" if shown else f"line {line}: {message}"
