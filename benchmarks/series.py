"""How good are generated series, for how many seconds? Judged by an evaluator that is not ours.

    GENPIPE_DATA=<folder> python -m benchmarks.series [--seed 0] [--only "stocks series_gan"]

GENPIPE_DATA holds `stocks/`; beside it lies `anchors/tabular/timeseries_eval.py`, the scores of the TimeGAN
paper (Yoon et al. 2019). Without them the benchmark says so and ends. Weather, energy and rides are made up
(series_data.py). All are judged by what was not learnt: stocks and energy by the holdout of ingest, which are
blocks of the series, so that no window shares a step with one that was learnt; weather and rides by years
that come later. Discriminative: how far from one half a network tells generated windows from real ones.
Predictive: the error of the next step, by a network that learnt from generated windows. The plain bar is
windows that were learnt themselves, judged as if they were generated: what a copy would get. Windows of rides
are 512 hours; of them the spectrum and the autocorrelation are compared, and the bar is a seasonal bootstrap:
whole weeks of training years, put together in the order of the year. Default recipes, a core and a process
for each; seconds are CPU seconds of training, from the dataset to the bundle.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from benchmarks.page import write_part
from benchmarks.series_data import energy, rides, weather

HERE = Path(__file__).parent
RESULT = HERE / "results" / "series.json"
STEPS, LONG, WEEK = 24, 512, 168
YEARS = {"weather": (weather, 4, 10), "rides": (rides, 4, 6)}  # years learnt, and in all
STRIDES = {"rides": 73}  # of others 1; hours begin at any of the day
CELLS = (
    ("stocks", "series_recurrent"),
    ("stocks", "series_transformer"),
    ("stocks", "series_gan"),
    ("stocks", "series_vae"),
    ("stocks", "series_recurrent_gan"),
    ("stocks", "series_recurrent_vae"),
    ("stocks", "series_flow"),
    ("stocks", "series_vq"),
    ("stocks", "series_in_turn"),
    ("weather", "series_in_turn"),
    ("energy", "series_in_turn"),
    ("rides", "series_in_turn"),
)
GOALS = {
    "stocks": "discriminative <= .05, predictive <= .0385 in 50 s",
    "weather": "discriminative <= .15 in 180 s",
    "energy": "discriminative <= .08 in 180 s",
    "rides": "half of the bootstrap's errors",
}
FIGURES = ("discriminative", "predictive", "steps", "spectrum", "autocorrelation", "clocks", "ordered")
WINDOWS = 2200  # that are judged, at most


def columns(root: Path, data: str) -> tuple[dict[str, np.ndarray], int]:
    """The whole series, and how many rows of it may be learnt."""
    if data == "stocks":
        table = pacsv.read_csv(root / "stocks" / "data.csv.gz")
        made = {name: table.column(name).to_numpy() for name in table.column_names}
        days = np.datetime64("2004-08-19") + np.arange(len(table))
        return {"time": np.datetime_as_string(days), **made}, len(table)
    if data == "energy":
        made = dict(energy())
        return made, len(made["time"])
    build, learnt, years = YEARS[data]
    return dict(build(years=years)), learnt * 365 * 24


def windows_of(batches: Iterable[pa.RecordBatch], names: list[str]) -> np.ndarray:
    """(N, T, C) of lists."""
    parts = [
        np.stack([np.stack(b.column(n).to_numpy(zero_copy_only=False)) for n in names], -1) for b in batches
    ]
    return np.concatenate(parts)


def later(made: dict[str, np.ndarray], names: list[str], begin: int, length: int) -> np.ndarray:
    """Windows of the rows from `begin` on, that begin at all hours."""
    whole = np.stack([made[n].astype(float) for n in names], -1)
    starts = np.arange(begin, len(whole) - length, length + 1 if length < LONG else WEEK // 2 + 1)
    return whole[starts[:, None] + np.arange(length)]


def fit(root: Path, data: str, recipe: str, seed: int, out: Path) -> None:
    """Learn and sample in this process; windows and seconds are written to `out`."""
    import genpipe

    length = LONG if data == "rides" else STEPS
    with tempfile.TemporaryDirectory() as work:
        os.environ["GENPIPE_HOME"] = str(Path(work) / "home")
        made, learnt = columns(root, data)
        source = Path(work) / f"{data}.csv"
        pacsv.write_csv(pa.table({name: values[:learnt] for name, values in made.items()}), source)
        dataset = genpipe.ingest(
            str(source), kind="series", time="time", window=length, stride=STRIDES.get(data, 1)
        )
        names = [f.name for f in dataset.schema.of_kind("series")]
        train = windows_of(dataset.batches("train"), names)
        real = windows_of(dataset.batches("holdout"), names)
        if data in YEARS:
            real = later(made, names, learnt, length)
        real = real[np.linspace(0, len(real) - 1, min(len(real), WINDOWS)).astype(int)]
        began = seconds()
        model = genpipe.train(dataset, recipe=recipe, seed=seed)
        took, began = seconds() - began, seconds()
        rows = genpipe.generate(model, rows=len(real), seed=seed, workers=0)
        rate = len(real) / (seconds() - began)
        generated = windows_of(rows.batches("generated"), names)
        np.savez(out, real=real, train=train, generated=generated, names=names, cpu=[took, rate])


def seconds() -> float:
    """CPU seconds of this process and of those it waited for."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def fit_apart(root: Path, data: str, recipe: str, seed: int, out: Path) -> dict[str, np.ndarray]:
    command = [sys.executable, "-m", "benchmarks.series", "--fit", root, data, recipe, seed, out]
    one_core = {"OMP_NUM_THREADS": "1", "GENPIPE_CPUS": "1"}
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL, env=os.environ | one_core)
    with np.load(out) as made:
        return dict(made)


def judge_at(anchors: Path) -> Any:
    """The judge's module."""
    place = anchors / "tabular" / "timeseries_eval.py"
    found = importlib.util.spec_from_file_location("timeseries_eval", place)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.path.insert(0, str(place.parent))
    found.loader.exec_module(module)
    return module


def judged(judge: Any, real: np.ndarray, made: np.ndarray, names: list[str], runs: int) -> dict[str, float]:
    low, high = real.min((0, 1)), real.max((0, 1))
    real_s, made_s = (((x - low) / (high - low + 1e-7)).astype("float32") for x in (real, made))
    if real.shape[1] >= LONG:
        return seasons(real_s, made_s) | plain_facts(real, made, names)
    told = [judge.discriminative(real_s, made_s, seed, 2000) for seed in range(runs)]
    moves, own = (np.diff(x, axis=1).reshape(-1, x.shape[2]) for x in (real_s, made_s))
    return {
        "discriminative": float(np.mean(told)),
        "predictive": float(judge.predictive(real_s, made_s, 0, 5000)),
        "steps": float((judge.wasserstein(moves, own) / (moves.std(0) + 1e-9)).mean()),
    } | plain_facts(real, made, names)


def plain_facts(real: np.ndarray, made: np.ndarray, names: list[str]) -> dict[str, float]:
    """clocks: hours that advance by one, or windows whose month moves once at most, and by one: the lesser.
    ordered: steps at which High is the greatest and Low the least of prices.
    """
    found = {}
    if "hour" in names:
        hour, month = (made[..., names.index(n)] for n in ("hour", "month"))
        months = np.isin(np.diff(month, axis=1) % 12, (0, 1)).all(1) & (np.diff(month, axis=1) != 0).sum(
            1
        ).__le__(1)
        found["clocks"] = float(min((np.diff(hour, axis=1) % 24 == 1).mean(), months.mean()))
    if "High" in names:
        price = {n: made[..., names.index(n)] for n in ("Open", "High", "Low", "Close")}
        most, least = np.maximum(price["Open"], price["Close"]), np.minimum(price["Open"], price["Close"])
        found["ordered"] = float(((price["High"] >= most - 1e-4) & (price["Low"] <= least + 1e-4)).mean())
    return found


def seasons(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """spectrum: the share of the mean power of hours that lies elsewhere; autocorrelation: mean absolute
    difference at lags of up to two weeks.
    """

    def power(x: np.ndarray) -> np.ndarray:
        return (np.abs(np.fft.rfft(x - x.mean((0, 1)), axis=1)) ** 2).mean(0)[1:]

    def correlation(x: np.ndarray) -> np.ndarray:
        z = x - x.mean((0, 1))
        return np.stack([(z[:, k:] * z[:, : x.shape[1] - k]).mean((0, 1)) for k in range(1, 2 * WEEK)]) / (
            z**2
        ).mean((0, 1))

    own = power(real)
    return {
        "spectrum": float((np.abs(power(made) - own).sum(0) / own.sum(0)).mean()),
        "autocorrelation": float(np.abs(correlation(made) - correlation(real)).mean()),
    }


def bootstrap(made: dict[str, np.ndarray], names: list[str], learnt: int, rows: int, seed: int) -> np.ndarray:
    """Windows of whole weeks, each from a training year at random, of the same time of the year."""
    rng, year = np.random.default_rng(seed), 52 * WEEK
    whole = np.stack([made[n].astype(float) for n in names], -1)[:learnt]
    weeks, begin = -(-LONG // WEEK) + 1, rng.integers(0, 52, rows)
    from_year = rng.integers(0, learnt // (365 * 24) - 1, (rows, weeks))
    at = (
        from_year[..., None] * year
        + ((begin[:, None] + np.arange(weeks)) * WEEK)[..., None]
        + np.arange(WEEK)
    )
    shift = rng.integers(0, WEEK, rows)
    places = at.reshape(rows, -1)[np.arange(rows)[:, None], shift[:, None] + np.arange(LONG)]
    return whole[places]


def table(rows: list[dict[str, Any]]) -> str:
    heads = ["data", "model", "CPU s", *FIGURES, "windows a CPU s", "goal"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        told = ["" if row.get(f) is None else f"{row[f]:.3g}" for f in FIGURES]
        rate, took = (f"{row[f]:.0f}" if row.get(f) else "" for f in ("rows_per_cpu_s", "cpu_s"))
        best = "series_recurrent" if row["data"] == "stocks" else "series_in_turn"
        goal = GOALS[row["data"]] if row["model"] == best else ""
        lines.append("| " + " | ".join([row["data"], row["model"], took, *told, rate, goal]) + " |")
    return "\n".join(lines)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", default="", help="cells that begin so, such as: stocks, or: weather series")
    words.add_argument("--runs", type=int, default=2, help="of the judge's networks that tell")
    words.add_argument("--keep", help="a folder for the windows, to look at")
    words.add_argument("--fit", nargs=5, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.fit:
        place, data, recipe, seed, out = given.fit
        fit(Path(place), data, recipe, int(seed), Path(out))
        return
    root = Path(os.environ.get("GENPIPE_DATA", ""))
    anchors = root.parent / "anchors"
    if not (root / "stocks").exists() or not (anchors / "tabular" / "timeseries_eval.py").exists():
        print("skipped: GENPIPE_DATA names no folder with stocks/ and ../anchors/tabular/")
        return
    judge = judge_at(anchors)
    rows = json.loads(RESULT.read_text()) if given.only and RESULT.exists() else []
    chosen = [cell for cell in CELLS if " ".join(cell).startswith(given.only)]
    rows = [row for row in rows if (row["data"], row["model"]) not in chosen]
    with tempfile.TemporaryDirectory() as folder:
        for data, recipe in chosen:
            out = Path(given.keep or folder) / f"{data}-{recipe}.npz"
            made = fit_apart(root, data, recipe, given.seed, out)
            names, (took, rate) = made["names"].tolist(), made["cpu"].tolist()
            found = judged(judge, made["real"], made["generated"], names, given.runs)
            rows.append({"data": data, "model": recipe, "cpu_s": took, "rows_per_cpu_s": rate, **found})
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            if not any(row["data"] == data and not row["model"].startswith("series_") for row in rows):
                name, bar = bar_of(root, data, made, names, given.seed)
                rows.append(
                    {"data": data, "model": name, **judged(judge, made["real"], bar, names, given.runs)}
                )
    rows.sort(key=lambda row: (row["data"], row.get("discriminative") or row.get("spectrum") or 0))
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    write_part("series", table(rows), given.seed, "one core, default recipes")
    print(table(rows))


def bar_of(
    root: Path, data: str, made: dict[str, np.ndarray], names: list[str], seed: int
) -> tuple[str, np.ndarray]:
    """What a plain way without a model makes."""
    count = len(made["real"])
    if data == "rides":
        whole, learnt = columns(root, data)
        return "seasonal bootstrap", bootstrap(whole, names, learnt, count, seed)
    places = np.random.default_rng(seed).permutation(len(made["train"]))[:count]
    return "training windows", made["train"][places]


if __name__ == "__main__":
    main()
