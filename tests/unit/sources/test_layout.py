"""Folders and sheets beside files: which are classes, which are splits, and whom a row of a sheet names."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from genpipe.errors import DataError, UsageError
from genpipe.sources.files import File, list_files
from genpipe.sources.labelled import Layout, layout_of
from genpipe.sources.sheet import Sheet, read_sheets

MEMORY = 2**29


def files(*paths: str) -> list[File]:
    return [File(f"/data/{path}", 1, "", "/data") for path in paths]


@pytest.mark.parametrize(
    ("paths", "layout"),
    [
        (["cat/1.png", "dog/1.png"], Layout()),
        (["1.png", "cat/2.png"], Layout()),
        (["train/cat/1.png", "test/dog/2.png"], Layout(0, 0)),
        (["cat/train/1.png", "dog/val/2.png"], Layout(0, 1)),
        (["data/train/cat/1.png", "data/valid/cat/2.png"], Layout(1, 1)),
        (["data/cat/1.png", "data/dog/2.png"], Layout(1)),
        (["train/1.png", "bus/2.png", "test/3.png"], Layout()),
        (["train/1.png"], Layout()),
        (["one/1.png", "one/2.png"], Layout()),
    ],
)
def test_folders_are_classes_unless_all_of_them_are_splits(paths: list[str], layout: Layout) -> None:
    assert layout_of(files(*paths)) == layout


def sheet(folder: Path, text: str, names: list[str], name: str = "labels.csv") -> Sheet:
    (folder / name).write_text(text)
    for inner in names:
        (folder / inner).parent.mkdir(exist_ok=True)
        (folder / inner).write_bytes(b"x")
    listed = list_files(str(folder))
    return read_sheets([f for f in listed if f.name == name], [f for f in listed if f.name != name], MEMORY)


def test_a_sheet_names_files_by_path_by_name_and_by_stem(tmp_path: Path) -> None:
    told = "x,id,kind\nq,a/1,cat\nq,2.png,dog\nq,3,cat\nq,4,dog\n"
    found = sheet(tmp_path, told, ["a/1.png", "b/2.png", "b/3.png", "b/5.png"])
    assert {Path(uri).name: v for uri, v in found.labels("kind").items()} == {"2.png": "dog", "3.png": "cat"}
    assert found.missing == 2  # a/1 is neither the path nor the stem of a/1.png, and there is no 4


def test_a_name_that_two_files_have_names_none(tmp_path: Path) -> None:
    found = sheet(
        tmp_path, "file_name,label\na/1.png,x\n1.png,y\n2.png,y\n", ["a/1.png", "b/1.png", "b/2.png"]
    )
    assert sorted(found.labels("label").values()) == ["x", "y"] and found.missing == 1


def test_the_class_is_the_target_or_the_usual_or_the_only_column_of_classes(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(8)]
    rows = [f"{n},{'ab'[i % 2]},{i},{'cd'[i % 2]}" for i, n in enumerate(names)]
    found = sheet(tmp_path, "\n".join(["file_name,label,number,other", *rows]) + "\n", names)
    assert found.choose(None) == "label" and found.choose("other") == "other"
    assert "number, other" in found.notices(None, 8)[1]
    with pytest.raises(UsageError, match="8 different values for 8 files; expected classes"):
        found.choose("number")
    with pytest.raises(UsageError, match=r"'lable' is no column.*did you mean 'label'"):
        found.choose("lable")
    assert pickle.loads(pickle.dumps(found)).choose(None) == "label"  # it travels to Ray tasks


def test_a_sheet_that_names_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of file names among a, b"):
        sheet(tmp_path, "a,b\n1,2\n", ["x.png"])
