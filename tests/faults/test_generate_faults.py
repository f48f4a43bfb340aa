"""Generation under fire: killed at many points and run again, raced, its store taken away."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import genpipe
from genpipe import remote, store
from genpipe.dataset import Dataset
from genpipe.delivery import working
from genpipe.errors import DataError, InfrastructureError
from genpipe.progress import Event
from genpipe.verbs import generate

pytestmark = pytest.mark.faults
ROOT = Path(genpipe.__file__).parent.parent
REQUEST = {"rows": 6000, "rows_per_part": 500, "seed": 5}
SCRIPT = """
import json, os, sys
from genpipe.verbs import generate
bundle, output, workers, request = sys.argv[1:]
def say(event):
    print(event.done, flush=True)
made = generate(bundle, output=output, workers=int(workers), progress=say, **json.loads(request))
print("made", made.fingerprint, flush=True)
"""


@pytest.fixture(scope="module")
def undisturbed(table_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return generate(table_bundle, output=str(tmp_path_factory.mktemp("calm") / "out"), workers=0, **REQUEST)


def start(bundle: str, output: str, workers: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, bundle, output, str(workers), json.dumps(REQUEST)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GENPIPE_CPUS": "2"}
    return subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def records(output: str) -> dict[str, int]:
    """Finished parts, recorded beside the output or delivered, and when each was made."""
    work = Path(working(output))
    told = [json.loads(p.read_text())["path"] for p in work.glob("shards/*.json")]
    parts = [*(work / path for path in told), *Path(output).rglob("generated-*.parquet")]
    return {p.name: p.stat().st_mtime_ns for p in parts}


def is_whole(output: str, undisturbed: Dataset) -> None:
    """Exactly the rows of the undisturbed run, each part once."""
    dataset = Dataset(output)
    dataset.verify()
    assert dataset.fingerprint == undisturbed.fingerprint
    assert [p.sha256 for p in dataset.parts("generated")] == [
        p.sha256 for p in undisturbed.parts("generated")
    ]
    assert len({p.path for p in dataset.parts("generated")}) == 12


@pytest.mark.parametrize("after", [0, 1, 5, 11])
def test_a_job_killed_after_some_parts_makes_only_the_others(
    after: int, table_bundle: str, undisturbed: Dataset, home: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "out")
    process = start(table_bundle, output)
    while len(records(output)) < after or not Path(working(output), "request.json").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    kill(process)
    before = records(output)
    if after < 11:
        assert not Dataset.exists(output) and len(before) < 12
        with pytest.raises(DataError, match=r"no manifest.json"):
            Dataset(output).rows()
    events: list[Event] = []
    generate(table_bundle, output=output, workers=0, progress=events.append, **REQUEST)
    if after < 11:
        assert events[0].done >= len(before) * 500  # it went on from there
    assert before.items() <= records(output).items()  # what was finished was not touched
    is_whole(output, undisturbed)


@pytest.mark.slow
def test_killed_at_random_moments_again_and_again(
    table_bundle: str, undisturbed: Dataset, home: Path, tmp_path: Path
) -> None:
    moments = random.Random(1)
    for round_ in range(12):
        output = str(tmp_path / f"out{round_}")
        for _ in range(2):
            process = start(table_bundle, output)
            while not (Path(working(output), "request.json").exists() or Dataset.exists(output)):
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 1.0))
            kill(process)
            if len(records(output)) < 12:
                assert not Path(output).exists()
        generate(table_bundle, output=output, workers=0, **REQUEST)
        is_whole(output, undisturbed)


def test_two_jobs_of_one_request_at_once_end_in_one_dataset(
    table_bundle: str, undisturbed: Dataset, home: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "out")
    both = [start(table_bundle, output) for _ in range(2)]
    ends = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert {out.splitlines()[-1] for out, _ in ends} == {f"made {undisturbed.fingerprint}"}
    is_whole(output, undisturbed)


def test_a_killed_ray_worker_is_replaced(
    table_bundle: str, undisturbed: Dataset, home: Path, ray_cluster: dict, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        if not killed:
            mine = {os.getpid()}
            for pid in descendants(os.getpid()):
                name = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"ray::make_part" in name and pid not in mine:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return

    output = str(tmp_path / "out")
    generate(table_bundle, output=output, workers=2, progress=kill_one, **REQUEST)
    assert killed, "no worker was seen to kill"
    is_whole(output, undisturbed)


def descendants(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_part_damaged_between_two_runs_is_made_again(
    damage: str, table_bundle: str, undisturbed: Dataset, home: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "out")
    process = start(table_bundle, output)
    while len(records(output)) < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    kill(process)
    assert not Path(output).exists()
    record = json.loads(Path(working(output), "shards/00001.json").read_text())
    part = Path(working(output), record["path"])
    whole = part.read_bytes()
    assert len(whole) == record["bytes"] and hashlib.sha256(whole).hexdigest() == record["sha256"]
    part.unlink() if damage == "removed" else part.write_bytes(whole[:-10])
    assert not part.exists() if damage == "removed" else part.stat().st_size == record["bytes"] - 10
    generate(table_bundle, output=output, workers=0, **REQUEST)
    assert Path(output, "data", part.name).read_bytes() == whole
    is_whole(output, undisturbed)


def test_a_store_that_is_away_is_one_clear_line(
    table_bundle: str, home: Path, s3_address: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3_address, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "MAX_ATTEMPTS", 3)
    remote.s3.cache_clear()
    began = time.monotonic()
    with pytest.raises(InfrastructureError, match=r"s3://lake/away.*AWS_ENDPOINT_URL and the keys") as caught:
        generate(table_bundle, rows=10, output="s3://lake/away")
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (4, False)
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_store_that_comes_back_is_waited_for(
    table_bundle: str, undisturbed: Dataset, home: Path, s3, s3_store: str
) -> None:
    output = f"{s3_store}/out"
    process = start(table_bundle, output)
    assert process.stdout is not None
    while int(process.stdout.readline()) < 1500:
        pass
    s3.kill()
    time.sleep(3)
    s3.start()
    _, errors = process.communicate(timeout=120)
    if process.returncode:  # longer away than we wait: the same command goes on
        assert "InfrastructureError" in errors
        generate(table_bundle, output=output, workers=0, **REQUEST)
    dataset = Dataset(output)
    dataset.verify()
    assert dataset.fingerprint == undisturbed.fingerprint
    assert store.exists(f"{output}/data/generated-00011.parquet")
