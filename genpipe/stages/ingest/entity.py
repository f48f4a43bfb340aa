"""Whom a table's rows are about: what a person says of it, or what was found, put into the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from genpipe.errors import UsageError, unknown
from genpipe.fields import AnyField, Identifier
from genpipe.schema import Schema
from genpipe.sources.entities import Entity

NONE = "none"
FIX = "entity=COLUMN names another; entity='none: REASON' says that every row is somebody else's, or nobody's"


def parse_entity(asked: str | Sequence[str] | None) -> tuple[tuple[str, ...] | None, str]:
    """(columns, reason): None = look for them; none and a reason = there is no entity but the row."""
    if asked is None or asked == ():
        return None, ""
    words = (asked,) if isinstance(asked, str) else tuple(asked)
    if len(words) == 1 and words[0].split(":")[0].strip().lower() == NONE:
        reason = words[0].partition(":")[2].strip()
        if not reason:
            raise UsageError(
                "ENTITY",
                where="entity",
                found=repr(words[0]),
                expected="a reason, which is recorded with the dataset",
                fix="for example entity='none: one row a product, no people'",
            )
        return (), reason
    return words, ""


def sampled_by(options: Mapping[str, Any], asked: str | Sequence[str] | None) -> dict[str, Any]:
    """The options of a source, with the entity that is named as that whose rows a sample takes together."""
    whom, _ = parse_entity(asked)
    sampled = "sample" in options and "sample_by" not in options
    return {**options, "sample_by": list(whom)} if whom and sampled else {**options}


def check_sampled(
    found: Entity | None, asked: str | Sequence[str] | None, options: Mapping[str, Any]
) -> Entity | None:
    """What was found. Raises UsageError where a sample has some rows of somebody and lacks others."""
    if found and asked is None and "sample" in options and "sample_by" not in options:
        whom = found.columns[0] if len(found.columns) == 1 else json.dumps(list(found.columns))
        raise UsageError(
            "OPTION",
            where="sample",
            found=f"rows one by one, where {_listed(found.columns)} has {found.rows:.1f} of them each",
            expected="a sample of whole entities",
            fix=f"say sample_by={whom}, or entity='none: REASON' where rows are about nobody",
        )
    return found


def name_entity(
    schema: Schema, asked: str | Sequence[str] | None, found: Entity | None
) -> tuple[Schema, dict[str, Any]]:
    """The schema with its entity, whose number is made up anew and never learnt; and the record of it, for
    the dataset's origin. found: what ingest saw, used where nothing is asked for.
    """
    columns, reason = parse_entity(asked)
    if columns is None:
        if found is None:
            return schema, {}
        same = f", the same {_listed(found.decides[:6])} in all of them" if found.decides else ""
        said = (
            f"rows are about {_listed(found.columns)}: {found.rows:.1f} rows each{same}. They stay in one "
            f"split, and a value is kept only where several of them have it; {FIX}"
        )
        if found.rivals:
            said += f"; {_listed(found.rivals)} would tell them apart as well"
        return _named(schema, found.columns, {*found.made}, found.patterns), {
            "columns": list(found.columns),
            "by": "found",
            "said": said,
        }
    if not columns:
        said = f"every row counts as somebody of its own: {reason}"
        return schema, {"columns": [], "by": "asked", "said": said, "reason": reason}
    for name in columns:
        if name not in schema.names:
            raise unknown("column", name, schema.names, where="entity")
    made = {*(columns if len(columns) == 1 else ()), *(found.made if found else ())}
    said = f"rows are about {_listed(columns)}, as asked for"
    patterns = found.patterns if found else {}
    return _named(schema, columns, made, patterns), {"columns": list(columns), "by": "asked", "said": said}


def _named(schema: Schema, columns: Sequence[str], made: set[str], patterns: Mapping[str, str]) -> Schema:
    free = made - {schema.target} - {n for c in schema.constraints for n in c.names}
    fields = tuple(
        _number(f, f.name in columns, patterns.get(f.name)) if f.name in free else f for f in schema.fields
    )
    return Schema.model_validate(
        schema.model_dump() | {"entity": tuple(columns), "fields": [f.model_dump() for f in fields]}
    )


def _number(field: AnyField, names: bool, pattern: str | None) -> AnyField:
    """A number or name given to somebody, which no output may show; dates and amounts are learnt as ever. A
    number with a point may be one: 756.12345678. names: whom rows are about. pattern: of texts.
    """
    if field.kind not in ("integer", "number", "category"):
        return field
    whole = field.kind == "integer" and not getattr(field, "format", None)  # 12 kg is a text, as it was
    role = "names whom rows are about" if names else "a number given to somebody"
    return Identifier(
        name=field.name,
        nullable=field.nullable,
        storage="integer" if whole else "string",
        minimum=1 if whole else None,
        pattern=None if whole else pattern,
        reason=f"{role}: never learnt, made up anew",
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
