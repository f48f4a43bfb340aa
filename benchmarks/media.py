"""How good are generated pictures and sounds, for how many seconds? Judged by evaluators that are not ours.

    GENPIPE_DATA=<folder> python -m benchmarks.media [--seed 0] [--only "fashion-mnist image_gan"]

GENPIPE_DATA holds `mnist/` and `fashion-mnist/` (IDX) and `fsdd/` (recordings.tar.gz); beside it lie
`anchors/vision/` and `anchors/audio/`. Without them the benchmark says so and ends. Default recipes, a core
and a process for each; seconds are CPU seconds of training, from the dataset to the bundle. FID and FAD
are Fréchet distances in the features of a fixed classifier of the judge's, so they compare with each other
alone. Coverage: real rows that have a generated one near. Label: rows that a classifier takes for what was
asked. CAS: accuracy on real rows of a classifier trained on generated ones. The plain bar, a Gaussian of
principal components of each class, is made and judged in the same run; GANs and VAEs of others are quoted
from their judge.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.page import write_part

HERE = Path(__file__).parent
RESULT = HERE / "results" / "media.json"
CELLS = (
    ("fashion-mnist", "image_gan"),
    ("fashion-mnist", "image_vq"),
    ("fashion-mnist", "image_flow"),
    ("mnist", "image_vae"),
    ("mnist", "image_autoencoder"),
    ("fsdd", "audio_vae"),
    ("fsdd", "audio_gan"),
    ("fsdd", "audio_flow"),
    ("fsdd", "audio_vq"),
    ("fsdd", "audio_recurrent"),
)
QUOTED = (
    ("fashion-mnist", "PyTorch-GAN DCGAN", 300, {"frechet": 44.64, "coverage": 0.11}),
    ("mnist", "Pythae VAE, mixture prior", 120, {"frechet": 13.24, "coverage": 0.347}),
    ("fsdd", "WaveGAN, capacity 8", 50, {"frechet": 106.3, "coverage": 0.0}),
)
GOALS = {
    ("fashion-mnist", "image_gan"): "FID <= 2.0, coverage >= .80, CAS >= .84 in 300 s",
    ("fashion-mnist", "image_vq"): "FID <= 4 in 240 s",
    ("fashion-mnist", "image_flow"): "FID <= 3 in 240 s",
    ("mnist", "image_vae"): "FID <= .8, label >= .985 in 200 s",
    ("fsdd", "audio_vae"): "FAD <= 1.5, coverage >= .50, label >= .96 in 120 s",
}
FIGURES = ("frechet", "coverage", "label", "cas")
SAMPLES = {"image": 10_000, "audio": 2_000}


def kind_of(data: str) -> str:
    return "audio" if data == "fsdd" else "image"


def source_of(root: Path, data: str, work: Path) -> str:
    """Where genpipe finds the training pictures or clips."""
    if data != "fsdd":
        return str(root / data / "train-images-idx3-ubyte.gz")
    folder = work / "digits"
    with tarfile.open(root / "fsdd" / "recordings.tar.gz") as archive:
        for member in archive:
            found = re.match(r".*?(\d)_(\w+?)_(\d+)\.wav", member.name)
            if found and int(found[3]) >= 5:  # the others are the judge's
                place = folder / found[1] / f"{found[2]}-{found[3]}.wav"
                place.parent.mkdir(parents=True, exist_ok=True)
                handle = archive.extractfile(member)
                assert handle is not None
                place.write_bytes(handle.read())
    return str(folder)


def fit(root: Path, data: str, recipe: str, seed: int, samples: Path) -> tuple[float, float]:
    """CPU seconds of the training, and rows a CPU second of sampling, in this process."""
    import genpipe

    with tempfile.TemporaryDirectory() as work:
        os.environ["GENPIPE_HOME"] = str(Path(work) / "home")
        dataset = genpipe.ingest(source_of(root, data, Path(work)), name=data, kind=kind_of(data))
        began = seconds()
        model = genpipe.train(dataset, recipe=recipe, seed=seed)
        took, rows = seconds() - began, SAMPLES[kind_of(data)]
        began = seconds()
        genpipe.generate(model, rows=rows, seed=seed, workers=0, output=str(samples))
        return took, rows / (seconds() - began)


def seconds() -> float:
    """CPU seconds of this process and of those it waited for."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def fit_apart(root: Path, data: str, recipe: str, seed: int, samples: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.media", "--fit", root, data, recipe, seed, samples]
    one_core = {"OMP_NUM_THREADS": "1", "GENPIPE_CPUS": "1"}
    told = subprocess.run(
        [*map(str, command)], check=True, capture_output=True, text=True, env=os.environ | one_core
    )
    took, rate = map(float, told.stdout.split()[-2:])
    return took, rate


def judged(anchors: Path, root: Path, data: str, samples: Path) -> dict[str, float]:
    judge = anchors / ("audio" if data == "fsdd" else "vision")
    out = samples.with_suffix(".judged.json")
    command = [
        sys.executable, judge / "evaluate.py", "samples", "--data", root / data, "--samples", samples,
        "--extractor", judge / "weights" / f"{data}.safetensors", "--cas", "--out", out,
    ]  # fmt: skip
    subprocess.run(
        [*map(str, command)], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    told = json.loads(out.read_text())
    names = {
        "frechet": ("fad", "fid"), "coverage": ("coverage",), "cas": ("cas",),
        "label": ("label_accuracy",),
    }  # fmt: skip
    return {name: float(next(told[k] for k in keys if k in told)) for name, keys in names.items()}


def plain(anchors: Path, root: Path, data: str, work: Path) -> dict[str, Any]:
    """A Gaussian of principal components of each class."""
    judge, out = anchors / ("audio" if data == "fsdd" else "vision"), work / f"{data}-plain.npz"
    command = [sys.executable, judge / "baseline_pca.py", "--data", root / data, "--out", out]
    before = seconds()
    subprocess.run(
        [*map(str, command)], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return {"cpu_s": seconds() - before, **judged(anchors, root, data, out)}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| data | model | CPU s | FID or FAD | coverage | label | CAS | rows a CPU s | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        told = ["" if row.get(f) is None else f"{row[f]:.3g}" for f in FIGURES]
        rate = f"{row['rows_per_cpu_s']:.0f}" if row.get("rows_per_cpu_s") else ""
        goal = GOALS.get((row["data"], row["model"]), "")
        cells = [row["data"], row["model"], f"{row['cpu_s']:.0f}", *told, rate, goal]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", default="", help="cells that begin so, such as: fsdd, or: mnist image_vae")
    words.add_argument("--fit", nargs=5, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.fit:
        place, data, recipe, seed, samples = given.fit
        print(*fit(Path(place), data, recipe, int(seed), Path(samples)))
        return
    root = Path(os.environ.get("GENPIPE_DATA", ""))
    anchors = root.parent / "anchors"
    if not (root / "mnist").exists() or not (anchors / "vision" / "evaluate.py").exists():
        print("skipped: GENPIPE_DATA names no folder with mnist/, fashion-mnist/, fsdd/ and ../anchors/")
        return
    kept = json.loads(RESULT.read_text()) if given.only and RESULT.exists() else []
    chosen = [cell for cell in CELLS if " ".join(cell).startswith(given.only)]
    rows = [row for row in kept if (row["data"], row["model"]) not in chosen]
    with tempfile.TemporaryDirectory() as folder:
        for data in dict.fromkeys(data for data, _ in chosen):
            if not any(row["data"] == data and row["model"] == "PCA Gaussian" for row in rows):
                rows.append(
                    {"data": data, "model": "PCA Gaussian", **plain(anchors, root, data, Path(folder))}
                )
                quoted = [{"data": d, "model": m, "cpu_s": s, **f} for d, m, s, f in QUOTED if d == data]
                rows += quoted
            for recipe in (recipe for of, recipe in chosen if of == data):
                samples = Path(folder) / f"{data}-{recipe}"
                took, rate = fit_apart(root, data, recipe, given.seed, samples)
                found = judged(anchors, root, data, samples)
                rows.append({"data": data, "model": recipe, "cpu_s": took, "rows_per_cpu_s": rate, **found})
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    rows.sort(key=lambda row: (row["data"], row.get("frechet") or 0))
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    write_part("media", table(rows), given.seed, "one core, default recipes")
    print(table(rows))


if __name__ == "__main__":
    main()
