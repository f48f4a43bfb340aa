"""What a page and a picture tell of real records: never of fewer than five, unless they are asked for."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from evaluation_samples import Sample, sample

from genpipe.evaluation import evaluate_tables, sample_grid, write_report
from genpipe.evaluation.base import Judge
from genpipe.evaluation.page import pictures as pictures_module
from genpipe.evaluation.page.crowd import bands, bins, ends, whose
from genpipe.evaluation.page.page import withheld
from genpipe.evaluation.report import Report
from genpipe.fields import Category, Integer
from genpipe.schema import Schema

SECRET = "Zyxwvut-Marlowe"


@pytest.fixture(scope="module", params=["image", "series", "audio", "text"])
def judged(request: pytest.FixtureRequest) -> tuple[Sample, Report]:
    found = sample(request.param, rows=60)
    return found, evaluate_tables(found.train, found.holdout, found.noisy, found.schema)


def drawn(found: Sample, report: Report, folder: Path, *, real_examples: bool) -> tuple[str, bytes]:
    """(the page, the picture)."""
    page = write_report(
        report,
        str(folder / "report.html"),
        holdout=found.holdout,
        synthetic=found.noisy,
        schema=found.schema,
        real_examples=real_examples,
    )
    sample_grid(found.noisy, found.schema, str(folder / "samples.png"), real=found.holdout, seed=report.seed)
    return Path(page).read_text(), (folder / "samples.png").read_bytes()


def forms(found: Sample, judge: Judge) -> set[str]:
    """How a page would hold held-out records: clips and documents as they are, pictures each in a strip."""
    kind = found.schema.kind
    if kind == "audio":
        clips = found.holdout.column("audio").to_pylist()
        return {base64.b64encode(clip["bytes"]).decode() for clip in clips}
    if kind == "text":
        return set(found.holdout.column("text").to_pylist())
    view = judge.view(found.holdout)
    if kind == "image":
        classes = pictures_module.by_class(view.labels, len(view), 0, per_class=8)
        strips = [pictures_module.strip(view.x[rows]) for _, rows in classes]
        return {base64.b64encode(strip).decode() for strip in strips}
    return {'class="thin real-line"'}


def test_records_are_there_only_if_asked_for_and_the_page_says_so(
    judged: tuple[Sample, Report], tmp_path: Path
) -> None:
    from genpipe.evaluation import JUDGES

    found, report = judged
    real = forms(found, JUDGES[found.schema.kind](found.holdout, found.schema))
    page, picture = drawn(found, report, tmp_path, real_examples=False)
    assert not [form for form in real if form in page]
    assert "This page holds real records" not in page and "No real record is shown" in page
    asked, same = drawn(found, report, tmp_path, real_examples=True)
    assert same == picture, "the picture never holds any"
    if found.schema.kind == "text":  # of text and tables no record is ever shown
        assert asked == page
        return
    assert [form for form in real if form in asked]
    assert asked.index("This page holds real records") < asked.index("<h1>")
    assert "No real record" not in asked


def test_with_other_held_out_records_page_and_picture_are_the_same_to_the_bit(
    judged: tuple[Sample, Report], tmp_path: Path
) -> None:
    found, report = judged
    if found.schema.kind == "series":
        pytest.skip("series show the band of many")
    before = drawn(found, report, tmp_path, real_examples=False)
    other = Sample(**{**vars(found), "holdout": found.train.slice(0, 60)})
    assert drawn(other, report, tmp_path, real_examples=False) == before


def test_the_single_rows_of_a_generator_that_copies_are_not_shown(
    judged: tuple[Sample, Report], tmp_path: Path
) -> None:
    found, report = judged
    copied = report.model_copy(update={"verdict": "copies"})
    page = write_report(
        copied, str(tmp_path / "r.html"), holdout=found.holdout, synthetic=found.holdout, schema=found.schema
    )
    text = Path(page).read_text()
    assert "Generated rows are left out" in text
    assert "data:image" not in text and "data:audio" not in text and 'class="thin made-line"' not in text
    assert not any(
        document in text
        for document in found.holdout.column(0).to_pylist()
        if document and "text" in found.schema.names
    )
    where = str(tmp_path / "s.png")
    shown = [
        Path(sample_grid(table, found.schema, where, withheld=withheld(copied))).read_bytes()
        for table in (found.holdout, found.noisy)
    ]
    assert shown[0] == shown[1], "no picture of any row"


def people(rows: int) -> pa.Table:
    """400 rows; one city and one salary are one person's, who has nine rows."""
    rng = np.random.default_rng(0)
    who = np.r_[np.arange(rows - 9), np.full(9, rows - 9)]
    salary = rng.normal(40_000, 5_000, rows).round().astype(int)
    salary[-9:] = 987_654
    city = np.array([f"town {i % 3}" for i in range(rows)], object)
    city[-9:] = SECRET
    return pa.table({"who": who, "salary": salary, "city": city.astype(str)})


PEOPLE = Schema(
    kind="tabular",
    fields=(Integer(name="who"), Integer(name="salary"), Category(name="city")),
    entity=("who",),
)


def test_a_person_of_many_rows_is_in_no_bar_bin_or_end_of_a_table(tmp_path: Path) -> None:
    holdout, train, made = people(400), people(500).slice(0, 480), people(400).slice(0, 380)
    report = evaluate_tables(train, holdout, made, PEOPLE)
    page = Path(
        write_report(report, str(tmp_path / "r.html"), holdout=holdout, synthetic=made, schema=PEOPLE)
    ).read_text()
    assert SECRET not in page and "town 1" in page
    assert "987654" not in page and "988k" not in page and "987" not in page
    where = str(tmp_path / "s.png")
    without = [
        Path(sample_grid(made, PEOPLE, where, real=real)).read_bytes()
        for real in (
            holdout,
            holdout.set_column(1, "salary", pa.array([*holdout["salary"].to_pylist()[:-9], *[123_456] * 9])),
        )
    ]
    assert without[0] == without[1], "another salary of one person changes no pixel"


def test_crowds_are_counted_by_entity() -> None:
    table = people(400)
    who = whose(table, PEOPLE)
    assert len(np.unique(who)) == 392
    salary = table["salary"].to_numpy().astype(float)
    low, high = ends(salary, who)
    assert 20_000 < low < 35_000 and 45_000 < high < 100_000
    edges = np.linspace(0, 1e6, 101)
    assert bins(salary, who, edges)[98] == 0 < bins(salary, np.arange(400), edges)[98]
    values = np.random.default_rng(1).normal(size=(400, 6))
    band = bands(values, np.arange(400))
    assert band is not None and np.abs(band[0] - np.quantile(values, 0.1, axis=0)).max() < 0.1
    assert bands(values, np.repeat(np.arange(4), 100)) is None, "four entities are no crowd"
    assert ends(salary[:4], who[:4]) is None
