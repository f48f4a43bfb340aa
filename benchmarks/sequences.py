"""How good are generated texts, for how many seconds? Judged by an evaluator that is not ours.

    GENPIPE_DATA=<folder> python -m benchmarks.sequences [--seed 0] [--only "tinyshakespeare text_lstm"]

GENPIPE_DATA holds `tinyshakespeare/input.txt`; beside it lies `anchors/text/`. Without them the benchmark
says so and ends. A core and a process for each. A cell is a recipe and CPU seconds of training: the default
recipe with as many steps as a short trial says these seconds take. The last tenth of the text is not shown.

nats: of a character of that whole tenth. Each is read once, in windows of the model's own length that
overlap by three quarters, so that all but the first have at least as much before them. Words: share of
generated words that the learnt text has. Copied: share of generated runs of 50 characters that are in the
learnt text. The bare LSTM loop is run in the same call; nanoGPT (https://github.com/karpathy/nanoGPT), where
the variable NANOGPT names its folder with `data/shakespeare_char/` prepared, else it is quoted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page import write_part

HERE = Path(__file__).parent
RESULT = HERE / "results" / "sequences.json"
CELLS = (  # data, recipe, CPU seconds of training
    ("tinyshakespeare", "text_lstm", 70),
    ("tinyshakespeare", "text_gpt", 120),
)
GOALS = {
    "text_lstm": "<= 1.54 nats in 70 s, >= 20,000 characters a CPU s",
    "text_gpt": "<= 1.62 nats in 120 s, >= 6,000 characters a CPU s",
}
QUOTED = {"model": "nanoGPT, its CPU setting", "cpu_s": 119.0, "nats": 1.8739, "rate": 708.0, "words": 0.582}
UNSEEN = 0.1  # of the text, its end
TRIAL = (20, 60)  # steps of two trials whose difference tells what a step takes
CHARACTERS = 30_000  # generated
OVERLAP = 4  # windows that read a character


def seconds() -> float:
    """CPU seconds of this process and of those it waited for."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def steps_for(dataset: Any, recipe: str, budget: float) -> tuple[int, int]:
    """So many steps of a recipe take `budget` CPU seconds, and how many it would take by itself."""
    import genpipe
    from genpipe.recipes import parse_recipe
    from genpipe.suited import fitted_to

    usual = fitted_to(parse_recipe(recipe, "text"), dataset.rows("train")).training.steps
    took = []
    for steps in TRIAL:
        began = seconds()
        genpipe.train(dataset, recipe=limited(recipe, steps), tag="trial")
        took.append(seconds() - began)
    step = (took[1] - took[0]) / (TRIAL[1] - TRIAL[0])
    return min(usual, max(1, int((budget - took[0]) / step))), usual


def limited(recipe: str, steps: int) -> dict[str, Any]:
    """The recipe with so many steps, scored some ten times on the way."""
    return {"base": recipe, "training": {"steps": steps, "evaluate_every": max(100, steps // 10)}}


def nats(bundle: Any, text: str) -> np.ndarray:
    """(N,) nats of the characters of a text that one window after the other tells; those of a token are dealt
    out evenly to its characters.
    """
    import torch

    from genpipe.batch import one_hot

    length = bundle.spec.shape[0]
    stride = max(1, length // OVERLAP)
    tokens = torch.from_numpy(bundle.codec.tokens(text)).long()
    starts = [*range(0, len(tokens) - length, stride), len(tokens) - length]
    found = np.full(len(tokens), np.nan)
    for i in range(0, len(starts), 64):
        group = starts[i : i + 64]
        x = torch.stack([tokens[s : s + length] for s in group])
        with torch.inference_mode():
            told = one_hot(torch.zeros(len(x), 0).long(), ())
            logits = bundle.nets["model"](x, told).float()
            each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), x, reduction="none").numpy()
        for start, row in zip(
            group, each, strict=True
        ):  # the earliest window has the most before a character
            place = found[start : start + length]
            place[np.isnan(place)] = row[np.isnan(place)]
    sizes = np.array(bundle.spec.sizes or [1] * bundle.spec.vocabulary[0])[tokens]
    return np.repeat(found / sizes, sizes)


def fit(root: Path, data: str, recipe: str, budget: float, seed: int, out: Path) -> None:
    """Train and sample in this process, and write figures and texts for the judge."""
    import genpipe
    from genpipe.bundle import Bundle

    text = (root / data / "input.txt").read_text()
    cut = int(len(text) * (1 - UNSEEN))
    with tempfile.TemporaryDirectory() as work:
        os.environ["GENPIPE_HOME"] = str(Path(work) / "home")
        learnt = Path(work) / "learnt.txt"
        learnt.write_text(text[:cut])
        dataset = genpipe.ingest(str(learnt), name=data, kind="text", holdout=0.05)
        steps, usual = steps_for(dataset, recipe, budget)
        began = seconds()
        model = genpipe.train(dataset, recipe=limited(recipe, steps), seed=seed)
        took = seconds() - began
        bundle = Bundle.open(str(model))
        length = int(np.mean([len(t) for t in bundle.sample(64)["text"].to_pylist()]))
        began = seconds()
        made = bundle.sample(-(-CHARACTERS // length), seed=seed)["text"].to_pylist()
        rate = sum(map(len, made)) / (seconds() - began)
        np.savez(out.with_suffix(".nll.npz"), nll=nats(bundle, text[cut:])[1:])
    out.with_suffix(".txt").write_text("\n".join(made))
    figures = {"cpu_s": took, "rate": rate, "steps": steps, "usual": usual}
    out.with_suffix(".json").write_text(json.dumps(figures))


def apart(*command: object) -> None:
    """A command on one core."""
    one_core = {"OMP_NUM_THREADS": "1", "GENPIPE_CPUS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=os.environ | one_core
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def ours(root: Path, data: str, recipe: str, budget: float, seed: int, work: Path) -> dict[str, Any]:
    out = work / f"{data}-{recipe}"
    apart("-m", "benchmarks.sequences", "--fit", root, data, recipe, budget, seed, out)
    figures = json.loads(out.with_suffix(".json").read_text())
    found = judged(root, data, work, samples=out.with_suffix(".txt"), nll=out.with_suffix(".nll.npz"))
    return {"data": data, "model": recipe, **figures, **found}


def judged(
    root: Path, data: str, work: Path, *, samples: Path | None = None, nll: Path | None = None
) -> dict[str, float]:
    """The judge's figures of texts, or of the nats of every character."""
    judge, text, told = root.parent / "anchors" / "text" / "evaluate.py", root / data / "input.txt", {}
    for kind, place in (("samples", samples), ("nll", nll)):
        if place is not None:
            out = work / f"{kind}.json"
            apart(judge, kind, "--data", text, f"--{kind}", place, "--out", out)
            told |= json.loads(out.read_text())
    names = {"nats": "nats_per_char", "words": "word_valid", "copied": "copied50"}
    return {name: told[key] for name, key in names.items() if key in told}


def rivals(root: Path, data: str, work: Path) -> list[dict[str, Any]]:
    """A bare LSTM loop and nanoGPT, with the seconds of the cells beside them."""
    anchors, text, out = root.parent / "anchors" / "text", root / data / "input.txt", work / "lstm.json"
    budget = CELLS[0][2]
    apart(anchors / "run_lstm.py", "--data", text, "--seconds", budget, "--marks", budget, "--out", out)
    told = json.loads(out.read_text())
    bare = {
        "data": data, "model": "LSTM in a bare loop", "cpu_s": budget, "nats": told["rows"][-1]["val"],
        "rate": told["generate_chars_per_s_batch200"],
        **judged(root, data, work, samples=work / "lstm_samples.txt"),
    }  # fmt: skip
    if not (repo := os.environ.get("NANOGPT")):
        return [bare, {"data": data, **QUOTED, "note": "quoted from the judge"}]
    apart(anchors / "run_nanogpt.py", "--repo", repo, "--out", work / "nanogpt.json")
    checkpoint, score = Path(repo) / "out-shakespeare-char" / "ckpt.pt", work / "gpt.json"
    apart(
        anchors / "score_nanogpt.py", "--repo", repo, "--ckpt", checkpoint, "--data", text, "--out", score,
        "--chars", CHARACTERS,
    )  # fmt: skip
    run, told = json.loads((work / "nanogpt.json").read_text()), json.loads(score.read_text())
    rate = next(v for k, v in told.items() if k.startswith("generate_chars_per_s_batch") and k[-2:] != "h1")
    figures = {"cpu_s": run["cpu_s"], "nats": told["val_stride_quarter"], "rate": rate}
    found = judged(root, data, work, samples=work / "gpt_samples.txt")
    return [bare, {"data": data, "model": QUOTED["model"], **figures, **found}]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| data | model | CPU s | nats a character | words | copied | characters a CPU s | goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        told = [f"{row[k]:.{n}f}" if k in row else "" for k, n in (("nats", 3), ("words", 2), ("copied", 4))]
        name = row["model"] + (f" ({row['note']})" if "note" in row else "")
        cells = [row["data"], name, f"{row['cpu_s']:.0f}", *told, f"{row['rate']:,.0f}"]
        lines.append("| " + " | ".join([*cells, GOALS.get(row["model"], "")]) + " |")
    return "\n".join(lines)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", default="", help="cells that begin so, such as: tinyshakespeare text_gpt")
    words.add_argument("--fit", nargs=6, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.fit:
        place, data, recipe, budget, seed, out = given.fit
        fit(Path(place), data, recipe, float(budget), int(seed), Path(out))
        return
    root = Path(os.environ.get("GENPIPE_DATA", "")).absolute()
    if not (root / CELLS[0][0]).exists() or not (root.parent / "anchors" / "text" / "evaluate.py").exists():
        print("skipped: GENPIPE_DATA names no folder with tinyshakespeare/ and ../anchors/text/")
        return
    chosen = [cell for cell in CELLS if " ".join(cell[:2]).startswith(given.only)]
    kept = json.loads(RESULT.read_text()) if given.only and RESULT.exists() else []
    rows = [row for row in kept if (row["data"], row["model"]) not in {cell[:2] for cell in chosen}]
    with tempfile.TemporaryDirectory() as folder:
        for data, recipe, budget in chosen:
            rows.append(ours(root, data, recipe, budget, given.seed, Path(folder)))
            keep(rows, given.seed)
        if not given.only:
            rows += rivals(root, CELLS[0][0], Path(folder))
            keep(rows, given.seed)
    print(table(rows))


def keep(rows: list[dict[str, Any]], seed: int) -> None:
    """After each cell: the whole takes half an hour on a busy machine."""
    rows.sort(key=lambda row: (row["data"], row["nats"]))
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    write_part("text", table(rows), seed, "one core")


if __name__ == "__main__":
    main()
