"""Values as people write them: which form texts are in, what they say, and values in that form again.

A form is a text that a schema file holds as a field's `format`. Each reader of FORMS has

    find(texts)           Counter: how many of them each form takes
    takes(form)           whether the form is one of its own
    read(texts, form)     their values; missing where a text does not follow the form
    write(values, form)   texts

| reader | forms | values |
|---|---|---|
| numbers | `$#,##0.00`, `0,00 €`, `0.0%`, `#,##0 kg`, `0.0` | float64 |
| clocks | `%H:%M`, `%-I:%M %p`, `%-d days %H:%M:%S`, `PT%-HH%-MM%-SS` | int64 seconds |
| dates | `%m/%d/%Y`, `%d %b %Y`, `%Y%m%d`, `%Y-Q%q`, `%G-W%V` | timestamp in seconds |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.written import clocks, dates, numbers

FORMS: dict[str, Any] = {"numbers": numbers, "clocks": clocks, "dates": dates}
SHOWN = {
    ("numbers",): "'$#,##0.00', '0,00 €' or '0.0%'",
    ("numbers", "clocks"): "'#,##0', '0 kg', '0.0' or '%H:%M'",
    ("dates",): "'%d.%m.%Y', '%Y%m%d' or '%Y-Q%q'",
}
PAIRS = [  # words for true and false
    ("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("1", "0"), ("ja", "nein"),
    ("oui", "non"), ("si", "no"), ("sí", "no"), ("sim", "não"), ("wahr", "falsch"), ("vrai", "faux"),
    ("tak", "nie"), ("да", "нет"), ("是", "否"),
]  # fmt: skip
# for a missing value, where the others are numbers, dates or booleans; among texts it is one of them
MISSING = (
    "", "-", "--", "---", "–", "—", ".", "..", "...", "?", "NA", "N/A", "n/a", "na", "N.A.", "n.a.", "#N/A",
    "NaN", "nan", "NaT", "<NA>", "NULL", "null", "None", "none", "nil", "missing", "unknown",
)  # fmt: skip


def find(texts: pa.Array) -> Counter[str]:
    """How many of the texts each form takes that any of the first ones suggests."""
    if not pa.types.is_string(texts.type):
        return Counter()
    return sum((reader.find(texts) for reader in FORMS.values()), Counter[str]())


def settle(found: Counter[str]) -> list[tuple[str, int]]:
    """(form, how many texts it takes), the likeliest first."""
    settled = [item for reader in FORMS.values() for item in reader.settle(found)]
    return sorted(settled, key=lambda item: -item[1])


def reader_of(form: str) -> Any:
    """The reader whose form it is; None = nobody's, as of the two words of a boolean."""
    return next((reader for reader in FORMS.values() if reader.takes(form)), None)


def check(form: str | None, *readers: str) -> None:
    """ValueError where `form` is not one of these readers'."""
    if form is not None and not any(FORMS[name].takes(form) for name in readers):
        raise ValueError(f"format {form[:60]!r} is none; expected one such as {SHOWN[readers]}")


def read_words(texts: pa.Array, form: str | None) -> pa.Array:
    """Booleans of texts such as `yes` and `no`, whatever their capitals; missing where one is neither."""
    pairs = [tuple(form.split("/"))] if form else PAIRS
    low = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    yes, no = ({pair[at].lower() for pair in pairs} for at in (0, 1))
    known = pc.is_in(low, pa.array([*yes, *no]))
    return pc.if_else(known, pc.is_in(low, pa.array([*yes])), None)


def as_written(batch: pa.RecordBatch, forms: Mapping[str, str | None]) -> pa.RecordBatch:
    """The batch with columns that have a form as texts in it. forms: of columns, by name."""
    columns = [
        _text(values, forms.get(name)) for name, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _text(values: pa.Array, form: str | None) -> pa.Array:
    if form is None or pa.types.is_string(values.type):
        return values
    if pa.types.is_boolean(values.type):
        yes, no = form.split("/")
        return pc.if_else(values, yes, no)
    reader = reader_of(form)
    return values if reader is None else reader.write(values, form)
