"""Do two versions of the code make the same weights, losses and rows? One small run of each recipe.

    python -m benchmarks.fingerprints > before.json      # in the old version
    python -m benchmarks.fingerprints --against before.json

Each recipe learns a few steps of data that is made here or comes with the package, and generates some rows. A
fingerprint has a hash of the weights, one of the history of losses, and one of the rows. They hold for one
machine and one build of torch: another rounds differently. Exits with 1 where a fingerprint differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np

STEPS, ROWS = 12, 24


def series(folder: Path) -> str:
    rng = np.random.default_rng(1)
    lines = ["when,load,heat"]
    for k in range(600):
        load, heat = np.sin(k / 7) + rng.normal(0, 0.1), np.cos(k / 11) + rng.normal(0, 0.1)
        day, hour = divmod(k, 24)
        lines.append(f"2026-01-{day + 1:02d}T{hour:02d}:00:00,{load:.3f},{heat:.3f}")
    (folder / "load.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "load.csv")


def text(folder: Path) -> str:
    rng = np.random.default_rng(2)
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "and",
        "saw",
        "red",
        "fish",
        "swim",
        "by",
        "old",
        "stone",
        "walls",
    ]
    lines = [json.dumps({"text": " ".join(rng.choice(words, 12)) + "."}) for _ in range(300)]
    (folder / "lines.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder / "lines.jsonl")


def audio(folder: Path) -> str:
    rng = np.random.default_rng(3)
    clips = folder / "clips"
    for k in range(120):
        (clips / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(2048) * (0.05 + 0.05 * (k % 2) + rng.normal(0, 0.005)))
        with wave.open(str(clips / "ab"[k % 2] / f"{k:03d}.wav"), "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes((tone * 12_000).astype("<i2").tobytes())
    return str(clips)


def digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:16]


def fingerprint(recipe: str, dataset: Any) -> dict[str, str]:
    """Weights, losses and rows of one small run."""
    import genpipe

    short: dict[str, Any] = {"base": recipe}
    if not recipe.endswith("trees"):
        short["training"] = {"steps": STEPS, "epochs": None, "batch_size": 32, "evaluate_every": STEPS // 2}
        short["training"] |= {"weight_decay": 0.1}
    model = genpipe.train(dataset, recipe=short, seed=5)
    made = genpipe.generate(model, rows=ROWS, seed=7)
    table = made.table("generated").to_pylist()
    where = Path(model.uri.removeprefix("file://"))
    return {
        "weights": digest((where / "weights.safetensors").read_bytes()),
        "losses": digest(Path(model.run.removeprefix("file://"), "history.json").read_bytes()),
        "rows": digest(repr(table).encode()),
    }


def fingerprints(folder: Path, only: list[str]) -> dict[str, dict[str, str]]:
    import genpipe
    from genpipe.recipes import RECIPES

    sources: dict[str, tuple[Any, dict[str, Any]]] = {
        "tabular": (lambda _: "builtin:titanic", {}),
        "image": (lambda _: "builtin:digits", {}),
        "series": (series, {"kind": "series", "window": 24}),
        "text": (text, {"kind": "text"}),
        "audio": (audio, {"kind": "audio"}),
    }
    datasets, found = {}, {}
    for name in [name for name in RECIPES if not only or name in only]:
        kind = RECIPES[name]().kind
        if kind not in datasets:
            make, options = sources[kind]
            datasets[kind] = genpipe.ingest(make(folder), name=kind, **options)
        found[name] = fingerprint(name, datasets[kind])
        print(name, *found[name].values(), file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipes", nargs="*", help="only these (default: all)")
    parser.add_argument("--against", type=Path, help="fingerprints of another version, to be compared with")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENPIPE_HOME"] = str(Path(folder, "home"))
        found = fingerprints(Path(folder), args.recipes)
    json.dump(found, sys.stdout, indent=1)
    print()
    if args.against is None:
        return 0
    before = json.loads(args.against.read_text())
    other = [name for name, each in found.items() if before.get(name) != each]
    print("differ: " + ", ".join(other) if other else "all as before", file=sys.stderr)
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main())
