"""Folders of media as people have them: splits, sheets, shapes, depths, recordings, texts in tables."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from media_files import png, wav
from PIL import Image

import genpipe
from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.media.wav import read_clips

RNG = np.random.default_rng(0)


def fill(folder: Path, names: list[str], height: int = 8, width: int = 8) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(RNG.integers(0, 255, (height, width, 3), dtype=np.uint8)))
    return str(folder)


def rows(dataset: Dataset, split: str | None = None) -> list[dict]:
    return [r for s in ([split] if split else ["train", "holdout"]) for r in dataset.table(s).to_pylist()]


def test_folders_of_a_download_are_splits_and_are_kept(tmp_path: Path, home: Path) -> None:
    names = [
        f"data/{'test' if i % 4 == 0 else 'train'}/{'cat' if i % 3 else 'dog'}/{i}.png" for i in range(60)
    ]
    dataset = genpipe.ingest(fill(tmp_path / "pets", names), holdout=0.5)
    assert {r["label"] for r in rows(dataset)} == {"cat", "dog"}
    assert all("/test/" in r["image"]["path"] for r in rows(dataset, "holdout"))
    assert dataset.rows("holdout") == 15 and any("are splits" in n for n in dataset.notices)
    whole = genpipe.ingest(str(tmp_path / "pets"), holdout=0.0, name="whole")
    assert (whole.rows("train"), whole.rows("holdout")) == (60, 0)


def test_labels_of_a_sheet_are_the_classes(tmp_path: Path, home: Path) -> None:
    fill(tmp_path / "p", [f"{i}.png" for i in range(40)])
    told = [{"file_name": f"{i}.png", "text": f"number {i}", "label": i % 2} for i in range(38)]
    (tmp_path / "p" / "metadata.jsonl").write_text("".join(json.dumps(t) + "\n" for t in told))
    dataset = genpipe.ingest(str(tmp_path / "p"))
    assert dataset.schema.kind == "image" and dataset.schema.target == "label"
    found = {int(Path(r["image"]["path"]).stem): r["label"] for r in rows(dataset)}
    assert found == {i: str(i % 2) if i < 38 else None for i in range(40)}
    said = " ".join(dataset.notices)
    assert "left out: text" in said and "2 files have no class" in said and "number" not in said
    (tmp_path / "p" / "metadata.jsonl").write_text("".join(json.dumps(t) + "\n" for t in told[:30]))
    assert genpipe.ingest(str(tmp_path / "p")).fingerprint != dataset.fingerprint


def test_pictures_of_several_shapes_are_fitted_by_a_stated_policy(tmp_path: Path, home: Path) -> None:
    names = [f"{i}.png" for i in range(30)]
    source = fill(tmp_path / "p", names[:20], 10, 20)
    fill(tmp_path / "p", names[20:], 12, 12)
    with pytest.raises(DataError, match=r"pictures of 2 sizes.*pass height=10, width=20, or size=64"):
        genpipe.ingest(source)
    made = {fit: genpipe.ingest(source, size=6, fit=fit, name=fit) for fit in ("crop", "pad", "stretch")}
    assert len({d.fingerprint for d in made.values()}) == 3
    assert genpipe.ingest(source, size=6, name="usual").fingerprint == made["crop"].fingerprint
    stretched = genpipe.ingest(source, height=6, width=6, name="as-ever")
    assert stretched.fingerprint == made["stretch"].fingerprint
    assert "20 of another shape were padded with black (fit=pad)" in made["pad"].notices[0]
    assert genpipe.ingest(source, fit="pad", name="most").schema.field("image").height == 10  # type: ignore


def test_deep_greys_have_one_scale_which_the_schema_holds(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    for i in range(30):
        values = RNG.integers(0, 300 if i % 2 else 4000, (8, 8)).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{i}.{'png' if i % 3 else 'tif'}")
    dataset = genpipe.ingest(str(folder))
    assert dataset.schema.model_dump()["fields"][0]["levels"] == (0.0, 4096.0)
    brightest = {r["image"]["path"]: _pixels(r).max() for r in rows(dataset)}
    assert all((n < 20 if int(p.split(".")[0]) % 2 else n > 200) for p, n in brightest.items())
    assert any("0 is black, 4096 is white" in n for n in dataset.notices)
    given = genpipe.ingest(str(folder), levels=[0, 300], name="dark")
    assert max(_pixels(r).max() for r in rows(given)) == 255


def _pixels(row: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def test_greys_of_bytes_have_the_schema_they_had(tmp_path: Path, home: Path) -> None:
    dataset = genpipe.ingest(fill(tmp_path / "p", [f"{i}.png" for i in range(30)]))
    assert "levels" not in dataset.schema.model_dump()["fields"][0]
    assert not {"size", "fit", "levels"} & set(dataset.manifest.origin["options"])


def sound(path: Path, seconds: float, rate: int = 8000, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))
    path.write_bytes(wav(noise, rate))


def test_a_long_recording_is_cut_and_no_sample_is_lost_or_in_both_splits(tmp_path: Path, home: Path) -> None:
    sound(tmp_path / "a" / "long.wav", 120)
    dataset = genpipe.ingest(str(tmp_path / "a"))
    assert dataset.rows() == 120 and dataset.schema.entity == () and dataset.rows("holdout") >= 10
    field = dataset.schema.of_kind("audio")[0]
    splits = [read_clips(dataset.table(s).column("audio"), field) for s in ("train", "holdout")]  # type: ignore
    whole = np.concatenate(splits).ravel()
    assert len(np.unique(whole)) > 1000 and not any((a == b).all() for a in splits[0] for b in splits[1])
    raw = np.frombuffer((tmp_path / "a" / "long.wav").read_bytes()[44:], "<i2") / 32768.0
    assert np.allclose(np.sort(whole), np.sort(raw), atol=1e-6)
    pieces = genpipe.ingest(str(tmp_path / "a"), segment=0.7, name="short")
    assert pieces.rows() == 171 and "piece, is left out: 1" in " ".join(pieces.notices)  # of 171.4


def test_the_pieces_of_a_recording_are_in_one_split_and_one_entity(tmp_path: Path, home: Path) -> None:
    for i in range(25):
        sound(tmp_path / "a" / f"{i}.wav", 3, seed=min(i, 23))  # the last two are the same
    dataset = genpipe.ingest(str(tmp_path / "a"), segment=1, label="none")
    assert dataset.schema.about == ("recording",) and dataset.rows() == 75
    sides = [set(dataset.table(s).column("recording").to_pylist()) for s in ("train", "holdout")]
    assert all(sides) and not sides[0] & sides[1]
    assert any({"23.wav", "24.wav"} <= side for side in sides)
    assert set(Counter(r["recording"] for r in rows(dataset)).values()) == {3}


def test_sounds_of_several_rates_are_resampled(tmp_path: Path, home: Path) -> None:
    for i in range(30):
        sound(tmp_path / "a" / f"{i}.wav", 0.5, 8000 if i % 2 else 11_025, seed=i)
    with pytest.raises(DataError, match=r"2 sampling rates.*pass rate="):
        genpipe.ingest(str(tmp_path / "a"))
    dataset = genpipe.ingest(str(tmp_path / "a"), rate=4000)
    field = dataset.schema.of_kind("audio")[0]
    assert (field.rate, field.frames) == (4000, 2048)  # type: ignore[union-attr]  of 2,000 and a few
    assert read_clips(dataset.table("train").column("audio"), field)[:, :2000].std() > 0.03  # type: ignore


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "suffix", "channels"),
    [(8000, "flac", 1), (16_000, "ogg", 1)],
)
def test_sounds_of_two_rates_and_codings_come_back_at_their_pitch(
    rate: int, suffix: str, channels: int, tmp_path: Path, home: Path
) -> None:
    """Two notes of .3 to .6 s, from files to clips that are about as long and of the note asked for."""
    import soundfile

    pitch = {"low": 300, "high": 1200}
    for k in range(120):
        note = "low" if k % 2 else "high"
        seconds = 0.3 + 0.3 * RNG.random()
        wave = 0.5 * np.sin(2 * np.pi * pitch[note] * np.arange(int(seconds * rate)) / rate)
        path = tmp_path / "notes" / note / f"{k}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.stack([wave] * channels, 1), rate)
    dataset = genpipe.ingest(str(tmp_path / "notes"))
    narrow = {name: {"network": "mlp", "width": 128} for name in ("encoder", "decoder")}
    training = {"steps": 200, "evaluate_every": 200, "learning_rate": 3e-3, "weight_decay": 0.0}
    recipe = {"base": "audio_vae", "family": narrow, "training": training}
    made = genpipe.generate(genpipe.train(dataset, recipe=recipe), rows=40, workers=0)
    field = made.schema.of_kind("audio")[0]
    assert field.rate == rate  # type: ignore[union-attr]
    right = 0
    for row in rows(made, "generated"):
        clip, heard = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
        assert heard == rate and 0.2 < len(clip) / rate < 0.8
        loudest = np.abs(np.fft.rfft(clip)).argmax() * rate / len(clip)
        right += abs(loudest / pitch[row["label"]] - 1) < 0.08
    assert right >= 36


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_texts_are_a_column_of_a_table(suffix: str, tmp_path: Path, home: Path) -> None:
    import pandas as pd

    texts = [f"review number {i} of a thing" if i % 10 else None for i in range(100)]
    frame = pd.DataFrame({"id": range(100), "review": texts, "stars": [i % 3 for i in range(100)]})
    path = tmp_path / f"r.{suffix}"
    if suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        getattr(frame, f"to_{suffix}")(path, index=False)
    dataset = genpipe.ingest(str(path), field="review", target="stars")
    assert dataset.schema.kind == "text" and dataset.schema.names == ("review", "stars")
    assert Counter(r["stars"] for r in rows(dataset)) == {"0": 30, "1": 30, "2": 30}
    assert sorted(r["review"] for r in rows(dataset)) == sorted(t for t in texts if t)
    said = " ".join(dataset.notices)
    assert "left out: id" in said and "left out: 10" in said
    assert genpipe.ingest(str(path), kind="text").schema.names == ("review",)


def test_folders_of_texts_are_classes(tmp_path: Path, home: Path) -> None:
    for i in range(40):
        path = tmp_path / "reviews" / ("pos" if i % 2 else "neg") / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{'good' if i % 2 else 'bad'} {i} " * 50)
    dataset = genpipe.ingest(str(tmp_path / "reviews"))
    assert dataset.schema.target == "label"
    assert all(("good" in r["text"]) == (r["label"] == "pos") for r in rows(dataset))
    assert genpipe.ingest(str(tmp_path / "reviews"), label="none", name="plain").schema.names == ("text",)
