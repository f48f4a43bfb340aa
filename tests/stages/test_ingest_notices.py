"""Nothing is left out without a word: it is on the screen, in the manifest, in the flow's artifact."""

from __future__ import annotations

import itertools
import shlex
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from media_files import png, wav

import genpipe
from genpipe import store
from genpipe.cli import execute, verbs
from genpipe.errors import DataError

RNG = np.random.default_rng(0)
EXAMPLES = [
    line.strip() for line in (verbs.ingest.__doc__ or "").splitlines() if line.strip().startswith("genpipe ")
]


def pictures(folder: Path, count: int = 40, side: int = 16) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(png(RNG.integers(0, 255, (side, side, 3), dtype=np.uint8)))
    return folder


def people(rows: int = 60) -> str:
    return "user_id,age,income\n" + "".join(
        f"{7 * i + 3},{20 + i % 50},{'low' if i % 3 else 'high'}\n" for i in range(rows)
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_help_work(
    example: str, tmp_path: Path, home: Path, s3_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.csv").write_text(people(600))
    pictures(tmp_path / "photos", side=40)
    days = [
        f"{shop},{datetime(2026, 1, 1) + timedelta(d):%Y-%m-%d},{d % 7}"
        for shop in "abcdef"
        for d in range(200)
    ]
    (tmp_path / "prices.csv").write_text("\n".join(["shop,day,price", *days]))
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / "one.txt").write_text("".join(f"And so he said {i}, my lord.\n" for i in range(99)))
    (tmp_path / "sounds").mkdir()
    for i in range(40):
        tone = 0.5 * np.sin(np.arange(4000) * (i + 9) / 50)
        (tmp_path / "sounds" / f"{i}.wav").write_bytes(wav(tone, rate=16000))
    pq = genpipe.ingest(str(tmp_path / "people.csv"), name="stored")
    part = pq.manifest.parts[0]
    store.write_bytes(f"{s3_store}/events/a.parquet", store.read_bytes(store.join(pq.uri, part.path)))
    words = [w.replace("s3://lake", s3_store) for w in shlex.split(example)]
    assert execute([*words[1:], "--min-rows", "20"]) == 0


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3 and any("size=" in e for e in EXAMPLES)


def test_files_of_other_types_and_bad_ones_are_on_the_screen(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "p", 60)
    for i in range(4):
        (folder / f"{i}.heic").write_bytes(b"x")
    (folder / "README").write_text("mine")
    (folder / "4.png").write_bytes(b"")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:200])
    assert execute(["ingest", str(folder), "--on-bad-file", "skip", "--max-bad", "0.1"]) == 0
    said = capsys.readouterr().err
    assert "5 of 65 files were left out" in said and "4 .heic, 1 without a suffix" in said
    assert "4.png: 0 bytes" in said and "5.png: a picture that does not decode" in said
    assert "2 of 60 files could not be read" in said


def test_all_bad_files_are_listed_at_once_and_counted(tmp_path: Path, home: Path) -> None:
    folder = pictures(tmp_path / "p", 60)
    (folder / "0.png").write_bytes(b"")
    for i in range(1, 31):
        (folder / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes()[:200])
    with pytest.raises(DataError, match="31 of 60 files cannot be used") as caught:
        genpipe.ingest(str(folder))
    assert len(caught.value.lines) == 21 and caught.value.lines[-1] == "... and 11 more"


def test_all_files_that_lead_nowhere_are_listed_at_once(tmp_path: Path, home: Path) -> None:
    folder = pictures(tmp_path / "p", 20)
    for name in ("a.png", "b.png"):
        (folder / name).symlink_to(folder / "nowhere.png")
    with pytest.raises(DataError, match=r"(?s)2 of 22 files.*a\.png.*b\.png"):
        genpipe.ingest(str(folder))


def test_columns_that_a_schema_leaves_out_are_named(tmp_path: Path, home: Path) -> None:
    from genpipe.sources.schema_file import schema_to_yaml

    (tmp_path / "p.csv").write_text(people())
    text = schema_to_yaml(genpipe.ingest(str(tmp_path / "p.csv")).schema)
    (tmp_path / "s.yaml").write_text(text[: text.index("- name: income")])
    dataset = genpipe.ingest(str(tmp_path / "p.csv"), schema=str(tmp_path / "s.yaml"), name="less")
    assert "income" not in dataset.schema.names
    assert any("left out" in n and "income" in n for n in dataset.notices)


def test_a_series_says_what_is_no_channel_and_what_is_a_gap(tmp_path: Path, home: Path) -> None:
    begin, hours = datetime(2024, 1, 1), [h for h in range(1440) if not 100 < h < 400]
    lines = [
        f"{begin + timedelta(hours=h):%d.%m.%Y %H:%M},{h / 2 if h % 50 else ''},{'on' if h % 3 else 'off'},"
        f"{str(h % 2 == 0).lower()}"
        for h in hours
    ]
    RNG.shuffle(lines)
    (tmp_path / "s.csv").write_text("when,load,state,night\n" + "\n".join(lines) + "\n")
    dataset = genpipe.ingest(str(tmp_path / "s.csv"), window=24)
    found = [v for s in ("train", "holdout") for v in dataset.table(s).column("load").to_pylist()]
    pairs = [pair for v in found for pair in itertools.pairwise(v) if None not in pair]
    steps = {b - a for a, b in pairs}
    assert steps == {0.5} and any(None in v for v in found)
    assert dataset.schema.names == ("load", "night")
    said = " ".join(dataset.notices)
    for told in ("'when' orders", "state (category)", "crosses: 1", "'load': ", "0: night", "no window"):
        assert told in said, told


def test_a_series_of_several_is_asked_for_as_tables_are(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        f"s{s},2024-01-{1 + t:02d},{s + t / 10},{'north' if s % 2 else 'south'}"
        for s in range(40)
        for t in range(5)
    ]
    (tmp_path / "m.csv").write_text("id,time,v,region\n" + "\n".join(lines) + "\n")
    assert execute(["ingest", str(tmp_path / "m.csv"), "--kind", "series", "--entity", "id"]) == 0
    said = capsys.readouterr().err
    assert "region (category)" in said and "'time' orders the steps" in said
    twice = ["--entity", "id", "--entity", "region"]
    assert execute(["ingest", str(tmp_path / "m.csv"), "--kind", "series", *twice]) == 2
    assert "the name of one column" in capsys.readouterr().err


def test_the_flow_shows_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    from genpipe.flows import artifacts

    shown: list[dict] = []
    monkeypatch.setattr(artifacts, "show_table", lambda rows, **_: shown.extend(rows))
    artifacts.show_dataset({"name": "p", "fingerprint": "f", "notices": ["one", "two"]})
    assert [r["value"] for r in shown if r[""] == "note"] == ["one", "two"]


STEPS = {
    "days": [datetime(2020, 1, 1) + timedelta(days=i) for i in range(300)],
    "working days": [d for i in range(420) if (d := datetime(2020, 1, 1) + timedelta(days=i)).weekday() < 5],
    "quarters of an hour": [datetime(2020, 1, 1) + timedelta(minutes=15 * i) for i in range(300)],
    "months": [datetime(1990 + i // 12, 1 + i % 12, 1) for i in range(300)],
}


@pytest.mark.parametrize("steps", STEPS)
def test_a_row_a_step_of_time_is_told_how_to_be_a_series(steps: str, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    rows = [f"{when},{RNG.normal():.3f}" for when in STEPS[steps]]
    file.write_text("\n".join(["when,load", *RNG.permutation(rows)]) + "\n")
    (hint,) = [n for n in genpipe.ingest(str(file)).notices if "steps of time" in n]
    options = shlex.split(hint.partition(" with ")[2])  # what it proposes works when it is typed
    assert execute(["ingest", str(file), "--name", "steps", *options]) == 0
    assert not [
        n for n in genpipe.ingest(str(file), kind="series", time="when", window=12).notices if "one by" in n
    ]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y"])
def test_a_row_a_step_of_each_of_several_is_told_whose(form: str, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    days = [(shop, day) for shop in ("one", "two", "three") for day in STEPS["days"][:150]]
    rows = [f"{day:{form}},{shop},{RNG.normal():.3f}" for shop, day in days if RNG.random() < 0.95]
    file.write_text("\n".join(["day,shop,price", *RNG.permutation(rows)]) + "\n")
    (hint,) = [n for n in genpipe.ingest(str(file)).notices if "steps of time" in n]
    assert "of each 'shop'" in hint
    options = shlex.split(hint.partition(" with ")[2])
    assert execute(["ingest", str(file), "--name", "steps", *options]) == 0


def test_a_clock_turned_back_hides_no_series(home: Path, tmp_path: Path) -> None:
    hours = [datetime(2020, 10, 20) + timedelta(hours=i) for i in range(300)]
    hours[125] = hours[124]
    file = tmp_path / "log.csv"
    file.write_text(
        "\n".join(["when,load", *(f"{h:%Y/%m/%d %H:%M:%S},{RNG.normal():.3f}" for h in hours)]) + "\n"
    )
    assert [n for n in genpipe.ingest(str(file)).notices if "steps of time" in n]


def test_other_dates_are_no_steps(home: Path, tmp_path: Path) -> None:
    born = [datetime(1950, 1, 1) + timedelta(days=int(d)) for d in RNG.choice(20_000, 300, replace=False)]
    twice = [d for d in STEPS["days"][:150] for _ in range(2)]
    for name, dates in {"born": born, "twice": twice}.items():
        file = tmp_path / f"{name}.csv"
        file.write_text("when,load\n" + "".join(f"{when:%Y-%m-%d},{RNG.normal():.3f}\n" for when in dates))
        assert not [n for n in genpipe.ingest(str(file)).notices if "steps of time" in n]
