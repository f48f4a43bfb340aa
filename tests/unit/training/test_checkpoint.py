from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from genpipe import store
from genpipe.errors import GenpipeError, InfrastructureError
from genpipe.training import checkpoint
from genpipe.training.checkpoint import Checkpoints


def state(step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return {"weights.a": torch.full((4,), float(step)), "count": torch.tensor(step)}, {
        "step": step,
        "x": 0.1 * step,
    }


def saved(uri: str, *steps: int) -> Checkpoints:
    sink = Checkpoints(uri)
    for step in steps:
        sink.save(step, *state(step))
    sink.wait()
    return sink


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_store")


def test_the_newest_comes_back_exactly_and_two_are_kept(run: str) -> None:
    assert Checkpoints(run).newest() is None
    saved(run, 10, 20, 100)
    found = Checkpoints(run).newest()
    assert found is not None and found.values == {"step": 100, "x": 10.0}
    assert torch.equal(found.tensors["weights.a"], torch.full((4,), 100.0))
    names = sorted(store.listing(store.join(run, "checkpoints")))
    assert [n[:8] for n in names if n.endswith(".json")] == ["00000020", "00000100"]
    assert sum(n.endswith(".safetensors") for n in names) == 2


def test_what_is_saved_is_the_state_at_the_call(tmp_path: Path) -> None:
    tensors, values = state(1)
    sink = Checkpoints(str(tmp_path))
    sink.save(1, tensors, values)
    tensors["weights.a"].fill_(-1.0)
    values["step"] = -1
    found = sink.newest()
    assert found is not None and found.values["step"] == 1 and found.tensors["weights.a"][0] == 1.0


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[-3] ^= 1  # inside a tensor: safetensors itself would not notice
    path.write_bytes({"flip": bytes(data), "cut": bytes(data[:-5]), "empty": b""}[how])


@pytest.mark.parametrize(
    ("what", "how"),
    [(w, h) for w in ("*/00000020.safetensors", "00000020-*.json") for h in ("flip", "cut", "empty")]
    + [("*/00000020.safetensors", "gone")],
)
def test_a_damaged_newest_falls_back_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, what: str
) -> None:
    saved(str(tmp_path), 10, 20)
    (path,) = (tmp_path / "checkpoints").glob(what)
    if how == "gone":
        path.unlink()
    else:
        damage(path, how)
    found = Checkpoints(str(tmp_path)).newest()
    assert found is not None and found.values["step"] == 10
    assert "00000020" in caplog.text and "falling back" in caplog.text


def test_when_none_is_intact_it_refuses_to_start_over(tmp_path: Path) -> None:
    saved(str(tmp_path), 10, 20)
    for path in (tmp_path / "checkpoints").glob("*/*.safetensors"):
        damage(path, "flip")
    with pytest.raises(InfrastructureError, match=r"all 2 checkpoints are damaged.*remove it to train again"):
        Checkpoints(str(tmp_path)).newest()


def test_orphans_of_a_killed_writer_are_swept_after_the_grace(tmp_path: Path) -> None:
    saved(str(tmp_path), 10, 20)
    orphan = tmp_path / "checkpoints" / "dead" / "00000030.safetensors"
    orphan.parent.mkdir()
    orphan.write_bytes(b"half")
    assert Checkpoints(str(tmp_path)).sweep() == []  # it may still be in the making
    old = time.time() - 2 * checkpoint.GRACE_SECONDS
    for path in (tmp_path / "checkpoints").rglob("*"):
        os.utime(path, (old, old))
    assert Checkpoints(str(tmp_path)).sweep() == ["dead/00000030.safetensors"]
    assert Checkpoints(str(tmp_path)).newest() is not None


def test_two_writers_of_one_run_do_not_spoil_each_other(tmp_path: Path) -> None:
    saved(str(tmp_path), 10)
    first, second = Checkpoints(str(tmp_path)), Checkpoints(str(tmp_path))
    for sink in (first, second):
        for step in (20, 30, 40):
            sink.save(step, *state(step))
    first.wait()
    second.wait()
    for sink in (first, second, Checkpoints(str(tmp_path))):
        found = sink.newest()
        assert found is not None and found.values["step"] == 40


def test_a_store_that_fails_is_tried_again_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoint, "RETRY_SECONDS", (0.01, 0.01))
    sink = saved(str(tmp_path), 10)
    folder = tmp_path / "checkpoints"
    folder.rename(tmp_path / "aside")
    folder.write_text("a file where the folder was")
    sink.save(20, *state(20))
    with pytest.raises(GenpipeError, match="checkpoints: a file"):
        sink.wait()
    assert caplog.text.count("trying again") == 2
    folder.unlink()
    (tmp_path / "aside").rename(folder)
    sink.save(30, *state(30))
    found = sink.newest()
    assert found is not None and found.values["step"] == 30
