"""The page of figures, docs/benchmarks.md, of which each benchmark of quality writes its own part."""

from __future__ import annotations

import datetime
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def write_part(kind: str, table: str, seed: int, terms: str) -> None:
    """Put a table, and under what terms it was measured, between the marks of a part."""
    begin, end = f"<!-- {kind}: begin -->", f"<!-- {kind}: end -->"
    page = PAGE.read_text()
    before, after = page.partition(begin)[0], page.partition(end)[2]
    when = f"Seed {seed}, {datetime.date.today()}, {terms}.\n\n"
    PAGE.write_text(f"{before}{begin}\n{when}{table}\n{end}{after}")
