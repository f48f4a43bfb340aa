"""The table of docs/sources.md is what the code finds and reads."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from genpipe.written import FORMS, find, settle

PAGE = Path(__file__).parents[3] / "docs" / "sources.md"
EXAMPLES = (
    "$1,924.45", "4601.30 €", "1.234,50 €", "CHF 1'200.00", "(205.50)", "12.5%", "1,234", "0,75", "136 kg",
    "-3.5°C", "03 Jan 2021", "January 3, 2021", "8/7/19", "12/31/2026", "31.12.2026 14:05", "20230709",
    "2021-03", "Mar 2021", "2021-Q3", "Q3 2021", "2021-W05", "14:05", "2:05 PM", "26:30:00",
    "1 days 02:03:04", "PT1H30M", "1h 30m",
)  # fmt: skip


def lines() -> list[str]:
    out = []
    for example in EXAMPLES:
        texts = pa.array([example] * 5)
        readers = {form: name for name in FORMS for form, _ in FORMS[name].settle(find(texts))}
        form = next(form for form, _ in settle(find(texts)) if form != "0")
        value = FORMS[readers[form]].read(texts, form)[0].as_py()
        seconds = " seconds" if readers[form] == "clocks" else ""
        shown = f"{value}{seconds}".removesuffix(" 00:00:00")
        out.append(f"| `{example}` | `{form}` | {shown} |")
    return out


def test_the_table_of_forms_is_of_the_code() -> None:
    missing = [line for line in lines() if line not in PAGE.read_text()]
    assert not missing, "\n".join(lines())
