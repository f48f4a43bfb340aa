"""Every example of README, docs and `--help`, typed in a shell, in a folder that holds such data."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from first_hour_data import make
from typer.main import get_command

from genpipe.cli.verbs import app

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# begins of lines that need what is not in a folder, such as a server -> what does it there
ELSEWHERE = {
    "make ": ".ci/run",
    "prefect ": "tests/flows/test_deployment.py",
    "PGPASSWORD=": "tests/stages/test_databases.py",
    "genpipe ingest postgresql://": "tests/stages/test_databases.py",
    "genpipe relate postgresql://": "tests/stages/test_databases.py",
    "genpipe ingest 's3://": "tests/stages/test_ingest.py",
    "genpipe clean --place s3://": "tests/stages/test_clean.py",
    "# as an administrator": "tests/security/test_registry_rights.py",
    "genpipe demo": "tests/stages/test_demo.py",
    "genpipe forget people --remove": "tests/stages/test_retention.py",  # what follows would find nothing
}
# what is said of a model of one's own, and what takes minutes and shows nothing more
HERE = {
    "FILE.parquet": "people-made/data/generated-00000.parquet",
    "delivered/part-00000.parquet": "people-made/data/generated-00000.parquet",
    " MODEL": " shop",
    "s3://deliver/people": "delivered-people",
    "--trials 20 --minutes 10": "--trials 2 --minutes 1",
    "--rows 1000000": "--rows 2000",
    "--rows 100000": "--rows 2000",
    "examples/tables/shop.yaml": "shop.yaml",
    "--rows products=500": "--rows customers=500",
    "--recipe image_vae": "--recipe quick-digits.yaml",
    "train people --recipe tabular_gan": "train people --name gan --recipe tabular_gan",
    "promote people 3": "promote people 1",
}
TUNE = re.compile(r"^(genpipe tune (?!.*--trials).*)$", re.MULTILINE)


def world(root: Path) -> None:
    make(root)
    shutil.copytree(ROOT / "examples", root / "examples")
    rng = np.random.default_rng(3)
    n = 1500
    age = rng.integers(17, 90, n)
    education = rng.choice(["School", "Bachelors", "Masters"], n)
    frame = pd.DataFrame(
        {
            "age": age,
            "sex": rng.choice(["Female", "Male"], n),
            "occupation": rng.choice(["Sales", "Craft", "Care"], n),
            "education": education,
            "city": rng.choice(["Ulm", "Bern", "Oslo"], n),
            "weight": rng.normal(70, 12, n).round(2),
            "income": np.where(rng.random(n) < age / 120, ">50K", "<=50K"),
        }
    )
    frame.to_csv(root / "people.csv", index=False)
    frame.to_csv(root / "people.csv.gz", index=False)
    frame.tail(60).to_csv(root / "new-people.csv", index=False)
    frame.tail(60).assign(income=None).to_csv(root / "people-with-gaps.csv", index=False)
    _digits(root, rng)
    (root / "quick-digits.yaml").write_text("base: image_vae\ntraining: {steps: 60, evaluate_every: 30}\n")
    (root / "mine.yaml").write_text("base: tabular_trees\nfamily: {leaf_minimum: 50}\n")
    shutil.copytree(root / "pics", root / "photos")
    for play in root.glob("plays/*/*.txt"):
        play.write_text("".join(f"ROMEO: {line}\n" for line in play.read_text().splitlines()))
    _shop(root, rng)


def _shop(root: Path, rng: np.random.Generator) -> None:
    """As many customers as it takes to judge."""
    n = 600
    orders = pd.DataFrame({"id": range(1, 3 * n + 1), "customer_id": rng.integers(1, n + 1, 3 * n)})
    orders["amount"] = rng.gamma(2, 20, 3 * n).round(2)
    orders["date"] = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 3 * n), "D")
    people = {"id": range(1, n + 1), "city": rng.choice(["Ulm", "Bern"], n), "age": rng.integers(18, 80, n)}
    pd.DataFrame(people).to_csv(root / "customers.csv", index=False)
    orders.to_csv(root / "orders.csv", index=False)


def _digits(root: Path, rng: np.random.Generator) -> None:
    """400 pictures of ten classes in the files that MNIST comes in."""
    label = np.arange(400) % 10
    pixels = np.clip(rng.normal(40, 20, (400, 28, 28)), 0, 255).astype(np.uint8)
    for i, each in enumerate(label):
        pixels[i, 2 * each : 2 * each + 8, 4:24] = 220
    for name, array in (
        ("train-images-idx3-ubyte.gz", pixels),
        ("train-labels-idx1-ubyte.gz", label.astype(np.uint8)),
    ):
        head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
        (root / name).write_bytes(gzip.compress(head + array.tobytes()))


# what a reader has at hand when the help of a verb is read
DESPITE = "--despite 'made up for a test' --unchecked 'made up for a test'"
BEFORE = {
    "generate": f"""
genpipe ingest prices.csv --kind series --entity shop -o time=day -o window=24 --name prices
genpipe ingest train-images-idx3-ubyte.gz --name digits
for name in plays:quick-text prices:quick-series digits:quick-digits; do
genpipe train ${{name%%:*}} --recipe ${{name##*:}}.yaml && genpipe register ${{name%%:*}} {DESPITE}; done
genpipe train shop.yaml && genpipe register shop {DESPITE}""",
    "anomaly": """
genpipe ingest train-images-idx3-ubyte.gz --name new-digits
mkdir mixed && echo file_name,origin > mixed/labels.csv
for i in $(seq 0 99); do cp pics/cat/$i.png mixed/a$i.png; cp pics/dog/$i.png mixed/b$i.png
echo a$i.png,digit >> mixed/labels.csv; echo b$i.png,noise >> mixed/labels.csv; done
genpipe ingest mixed -o size=28 --target origin --name mixed""",
    "explain": "genpipe generate people --rows 100 --output people-made",
    "edit": "genpipe train people --recipe tabular_vae --minutes 0.2",
    "docs/tables.md": "genpipe train shop.yaml",
    "docs/latent.md": """
mkdir -p mixed/digit mixed/noise && cp pics/cat/*.png mixed/digit && cp pics/dog/*.png mixed/noise
genpipe ingest mixed -o size=28 --target label --name mixed
genpipe ingest train-images-idx3-ubyte.gz --name new-pictures""",
    "docs/models.md": """
genpipe ingest prices.csv --kind series --entity shop -o time=day -o window=24 --name prices
for name in plays letters letters-2026; do
genpipe ingest plays/ --kind text -o record=lines --name $name; done
for name in plays:quick-text letters:quick-text prices:quick-series; do
genpipe train ${name%%:*} --recipe ${name##*:}.yaml
genpipe register ${name%%:*} {DESPITE}; done""".replace("{DESPITE}", DESPITE),
}
ORDER = [
    "ingest",
    "validate",
    "train",
    "evaluate",
    "register",
    "promote",
    "generate",
    "encode",
    "edit",
    "tune",
]


def written() -> Iterator[tuple[str, str, str]]:
    """(place, language, text) of every block of README and docs."""
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        for number, (kind, text) in enumerate(BLOCK.findall(path.read_text())):
            yield f"{path.relative_to(ROOT)}:{number}", kind, text


def shown() -> Iterator[tuple[str, str]]:
    """(verb, line) of every example of every help."""
    for verb, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for line in re.findall(r"^\s*((?:genpipe|eval|zcat) .*)$", command.help or "", re.MULTILINE):
            yield verb, line.strip()


def is_elsewhere(line: str) -> bool:
    return any(line.strip().startswith(begin) for begin in ELSEWHERE)


def here(text: str) -> str:
    for there, instead in HERE.items():
        text = text.replace(there, instead)
    return TUNE.sub(r"\1 --trials 2 --minutes 1", text)


def type_in(text: str, folder: Path, *, python: bool = False) -> subprocess.CompletedProcess[str]:
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GENPIPE_HOME": str(folder / ".genpipe"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", text] if python else ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False
    )


def test_there_is_something_to_type() -> None:
    assert len(list(written())) >= 15 and len(list(shown())) >= 50
    for begin, path in ELSEWHERE.items():
        assert any(line.strip().startswith(begin) for line in _lines()), begin
        assert (ROOT / path).exists(), path


def _lines() -> list[str]:
    blocks = [line for _, _, text in written() for line in text.splitlines()]
    return [*blocks, *(line for _, line in shown()), "genpipe demo"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", sorted({place.partition(":")[0] for place, _, _ in written()}))
def test_the_blocks_of_a_page_work_in_the_order_of_reading(page: str, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    world(folder)
    failed = []
    for place, kind, text in [(page, "sh", BEFORE.get(page, "true")), *written()]:
        if place.partition(":")[0] != page or (kind == "python" and is_elsewhere(text)):
            continue
        if kind == "sh":
            text = "\n".join(line for line in text.splitlines() if not is_elsewhere(line))
        if kind == "python" and "mlflow" in text:
            text = f"import mlflow; mlflow.set_tracking_uri('sqlite:///{folder}/.genpipe/mlflow.db')\n{text}"
        done = type_in(here(text), folder, python=kind == "python")
        if done.returncode:
            failed.append(
                f"{place}\n{here(text)}\n-> {done.returncode}\n{done.stdout[-400:]}\n{done.stderr[-1200:]}"
            )
    assert not failed, "\n\n".join(failed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_examples_of_every_help_work(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    world(folder)
    examples: dict[str, list[str]] = {}
    for verb, line in shown():
        examples.setdefault(verb, []).append(line)
    failed = []
    for verb in sorted(examples, key=lambda v: (v == "forget", ORDER.index(v) if v in ORDER else len(ORDER))):
        for line in [BEFORE.get(verb, "true"), *examples[verb]]:
            if is_elsewhere(line):
                continue
            done = type_in(here(line), folder)
            if done.returncode:
                failed.append(f"{verb}: {here(line)}\n-> {done.returncode}\n{done.stderr[-900:]}")
    assert not failed, "\n\n".join(failed)
