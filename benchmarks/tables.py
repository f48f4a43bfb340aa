"""How good are generated tables, and for how many seconds of fit? Judged by an evaluator that is not ours.

    GENPIPE_DATA=<folder> python -m benchmarks.tables [--seeds 3] [--only "adult 20"]

GENPIPE_DATA holds `adult/` and `housing/` (meta.json, train.csv.gz, test.csv.gz); beside it lies
`anchors/tabular/` with the judge and the rivals' figures. Without them the benchmark says so and ends.
Each fit runs in a process of its own on one core; `fit_cpu_s` is everything from the committed dataset to the
published bundle (codec, encoding, training, evaluations, calibration), imports apart. The judge runs in an
environment of its own, made on first use, because it needs an older pandas.

Everything else is the default path, so a fifth of the training rows are held out and not learnt.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULT, KEPT = HERE / "results" / "tables.json", HERE / "results" / "tables"
JUDGE_NEEDS = ("sdmetrics==0.32.0", "pandas==2.3.3", "scikit-learn==1.9.1", "numpy==2.4.6", "pyarrow==26.0.1")
WIDE = {"family": {"model": {"network": "autoregressive", "width": 64}}}
AUTO, ANY, TREES = "tabular_autoregressive", "tabular_any_order", "tabular_trees"
VAE, GAN = "tabular_vae", "tabular_gan"
SAMPLED = 200_000  # rows, to committed Parquet, for the speed of sampling
# (data, CPU seconds allowed, recipe, changes to it)
BUDGETS: tuple[tuple[str, int, str, dict[str, Any]], ...] = (
    ("adult", 5, AUTO, {}),
    ("adult", 20, AUTO, {"training": {"batch_size": 256}, **WIDE}),
    ("adult", 20, ANY, {}),
    ("adult", 5, TREES, {}),
    ("adult", 72, VAE, {}),
    ("adult", 183, GAN, {}),
    ("housing", 10, AUTO, {"training": {"epochs": 8, "batch_size": 256}, **WIDE}),
    ("housing", 10, TREES, {}),
)
FIRST = ">= .994     >= .972    >= .919   .48 to .53     <= .53    <= .515"
HOUSING = ">= .985     >= .900     >= .80     <= .53     <= .55    <= .525"
TARGETS = {
    ("adult", 5, AUTO): FIRST,
    ("adult", 20, AUTO): ">= .995     >= .974    >= .921  .48 to .515    <= .515    <= .515",
    ("adult", 20, ANY): ">= .993     >= .967    >= .918    <= .505     <= .54     <= .52",
    ("adult", 5, TREES): FIRST,
    ("adult", 72, VAE): "> .833, which TVAE has",
    ("adult", 183, GAN): "> .832, which CTGAN has",
    ("housing", 10, AUTO): HOUSING,
    ("housing", 10, TREES): HOUSING,
}
FIGURES = ("overall", "three_way", "tstr", "c2st_train", "c2st_holdout", "dcr_share", "copies")
RIVALS = ("argn", "argn-fixed", "cart", "tvae-100", "ctgan-50")


def fit(folder: Path, seed: int, changes: dict[str, Any], sample: Path) -> tuple[float, float]:
    """Train and sample in this process; returns CPU seconds of the fit, and rows to Parquet a CPU second."""
    import pyarrow.parquet as pq
    import sklearn.ensemble  # noqa: F401
    import torch

    import genpipe
    from genpipe.bundle import Bundle
    from genpipe.evaluation import learners  # noqa: F401  imports are not part of the fit
    from genpipe.training import finish, loop, score  # noqa: F401

    torch.set_num_threads(1)
    meta = json.loads((folder / "meta.json").read_text())
    dataset = genpipe.ingest(
        str(folder / "train.csv.gz"), name=folder.name, target=meta["target"], nulls=("",)
    )
    began = time.process_time()
    model = genpipe.train(
        dataset,
        recipe={"base": "tabular_autoregressive", **changes},
        seed=seed,
        tag=str(time.time()),
    )
    took = time.process_time() - began
    pq.write_table(Bundle.open(model.uri).sample(meta["rows_train"], seed=seed), sample)
    began = time.process_time()
    genpipe.generate(model, rows=SAMPLED, seed=time.time_ns() % 10**6, workers=0)
    return took, SAMPLED / (time.process_time() - began)


def fit_apart(folder: Path, seed: int, recipe: dict[str, Any], sample: Path) -> tuple[float, float]:
    """`fit` on one core in a process of its own."""
    request = [folder, seed, json.dumps(recipe), sample]
    command = [sys.executable, "-m", "benchmarks.tables", "--fit", *map(str, request)]
    one_core = {"OMP_NUM_THREADS": "1", "GENPIPE_CPUS": "1"}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | one_core)
    seconds, rate = map(float, told.stdout.split()[-2:])
    return seconds, rate


def judge(python: Path, evaluator: Path, folder: Path, sample: Path) -> dict[str, float]:
    told = sample.with_suffix(".json")
    command = [python, evaluator, "--data", folder, "--synthetic", sample, "--out", told]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return figures(json.loads(told.read_text()))


def figures(told: dict[str, Any]) -> dict[str, float]:
    told = told.get("figures", told)
    tstr = told["tstr"]
    return {
        "overall": told["sdmetrics"]["overall"],
        "three_way": told["marginals"]["three_way"],
        "tstr": tstr.get("auc", tstr.get("r2")),
        "c2st_train": told["c2st"]["hgb_auc"],
        "c2st_holdout": told["c2st_holdout"]["hgb_auc"],
        "dcr_share": told["privacy"]["dcr_share_train"],
        "copies": told["privacy"]["copies"],
    }


def judge_python(home: Path) -> Path:
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *JUDGE_NEEDS], check=True)
    return python


def line(name: str, seconds: float | None, found: dict[str, float]) -> str:
    took = "      –" if seconds is None else f"{seconds:7.1f}"
    return f"{name:<22}{took}" + "".join(f"{found[f]:>11.4f}" for f in FIGURES)


def rivals(anchors: Path, data: str) -> list[str]:
    lines = []
    for name in RIVALS:
        quality = anchors / "results" / f"{data}.{name}.quality.json"
        timing = anchors / "results" / f"{data}.{name}.timing.json"
        if quality.exists() and timing.exists():
            took = json.loads(timing.read_text())["fit_cpu_s"]
            lines.append(line(name, took, figures(json.loads(quality.read_text()))))
    return lines


def target_line(data: str, budget: int, recipe: str) -> str:
    return f"{'target':<22}{budget:>7}  {TARGETS[data, budget, recipe]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", default="", help="rows that begin so, such as: adult, or: adult 20 tabular_a"
    )
    parser.add_argument("--fit", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        folder, seed, changes, sample = args.fit
        print(*fit(Path(folder), int(seed), json.loads(changes), Path(sample)))
        return
    root = Path(os.environ.get("GENPIPE_DATA", ""))
    anchors = root.parent / "anchors" / "tabular"
    if not (root / "adult" / "meta.json").exists() or not (anchors / "evaluate.py").exists():
        print("skipped: GENPIPE_DATA names no folder with adult/, housing/ and ../anchors/tabular/")
        return
    python = judge_python(Path(".genpipe") / "judge")
    KEPT.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = json.loads(RESULT.read_text()) if args.only and RESULT.exists() else []
    rows = [r for r in rows if not f"{r['data']} {r['budget_s']} {r['recipe']}".startswith(args.only)]
    for data, budget, recipe, changes in BUDGETS:
        if not f"{data} {budget} {recipe}".startswith(args.only):
            continue
        print(f"\n{data}, {budget} s, {recipe}\n" + "".ljust(20) + "fit CPU s  " + "  ".join(FIGURES))
        mine = []
        for seed in range(args.seeds):
            sample = KEPT / f"{data}-{budget}s-{recipe.removeprefix('tabular_')}-{seed}.parquet"
            seconds, rate = fit_apart(root / data, seed, {"base": recipe, **changes}, sample)
            found = judge(python, anchors / "evaluate.py", root / data, sample)
            mine.append((seconds, rate, found))
            about = {"data": data, "budget_s": budget, "recipe": recipe, "seed": seed}
            measured = {"fit_cpu_s": round(seconds, 2), "sampled_rows_per_cpu_s": round(rate), **found}
            rows.append(about | measured | {"sample": str(sample.relative_to(HERE))})
            print(line(f"genpipe, seed {seed}", seconds, found), flush=True)
        mean = {f: statistics.mean(found[f] for *_, found in mine) for f in FIGURES}
        took, rate = (statistics.mean(column) for column in list(zip(*mine, strict=True))[:2])
        print(line("genpipe, mean", took, mean) + f"   {rate:,.0f} rows/s to Parquet")
        print(target_line(data, budget, recipe), *rivals(anchors, data), sep="\n")
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
