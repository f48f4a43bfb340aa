"""What gets out of people's data? Attacks on default recipes, against as many people who were never shown.

    python -m benchmarks.privacy [--seeds 2] [--only visits]

The people are made up (people.py); with GENPIPE_DATA naming a folder that holds `adult/` (meta.json,
train.csv.gz) Adult is attacked, too. Half of the entities are held out. `before` is what was found before the
entity was the unit of privacy, by attacks from outside on the like of this data. AUC: how often a training
entity is likelier than an unseen one; read off: how much more often trying all values tells a training
entity's, in points, of the worst column.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import people
from benchmarks.panels import constant, told_apart

RESULT = Path(__file__).parent / "results" / "privacy.json"
AUTO, TREES = "tabular_autoregressive", "tabular_trees"
# (what, before, goal, value of one seed)
Line = tuple[str, str, str, float | str]


def learnt(folder: Path, table: pd.DataFrame, name: str, recipe: str, seed: int, **options: Any) -> Any:
    """(dataset, model, report) of half of a table."""
    import genpipe

    table.to_csv(folder / f"{name}.csv", index=False)
    dataset = genpipe.ingest(str(folder / f"{name}.csv"), name=name, holdout=0.5, **options)
    model = genpipe.train(dataset, recipe=recipe, seed=seed)
    return dataset, model, genpipe.evaluate(model, seed=seed)


def scores(report: Any) -> dict[str, tuple[float, float]]:
    """{name: (value, of people never shown)}"""
    return {s.name: (s.value, s.ceiling or 0.0) for s in report.scores if s.value is not None}


def points(report: Any, name: str) -> float | str:
    value, others = scores(report).get(name, (np.nan, np.nan))
    return "not asked" if np.isnan(value) else 100 * (value - others)


def beside_marginals(dataset: Any, model: Any) -> float:
    """AUC of the likelihood less that of each column by itself: what is rare in everybody's eyes does not
    drown what the model remembers of a row (difficulty calibration: Watson et al., "On the importance of
    difficulty calibration in membership inference attacks", 2022, section 3).
    """
    import torch

    from genpipe.bundle import Bundle
    from genpipe.bundle.observed import log_probability, partial_conditioning
    from genpipe.evaluation.privacy.membership import area

    bundle = Bundle.open(model.uri)
    family, codec = partial_conditioning(bundle.family, bundle.codec)
    sides = []
    for split in ("train", "holdout"):
        batch = dataset.table(split).combine_chunks().to_batches()[0]
        x = torch.from_numpy(codec.observed(batch, fill=False)).long()
        classes = torch.from_numpy(codec.conditions.codes(batch)).long()
        with torch.inference_mode():
            nats = log_probability(family, bundle.nets, x, classes).double()
        shares = zip(bundle.spec.frequencies, x.t(), strict=True)
        alone = torch.stack([torch.tensor(share).add(1e-4).log()[code] for share, code in shares], 1)
        sides.append(torch.where(x >= 0, nats - alone, 0.0).sum(1).numpy())
    return area(*sides)[0]


def bundle_text(model: Any) -> str:
    """All of a generator that is text: codecs, origins, recipes, and what ties its tables."""
    places = [model.uri, *getattr(model, "models", {}).values()]
    files = [p for uri in places for p in sorted(Path(uri).glob("*.json"))]
    return "\n".join(p.read_text(errors="replace") for p in files)


def attack_visits(folder: Path, seed: int) -> Iterator[Line]:
    """300 insured persons, five to twelve rows each, and nobody says so."""
    table = people.visits(600, seed)
    for recipe in (TREES, AUTO):
        dataset, model, report = learnt(folder, table, f"visits-{seed}-{recipe[8:]}", recipe, seed)
        real = dataset.table("train").to_pandas().astype(str)
        text = bundle_text(model)
        known = real.groupby("insured", sort=False).first() if "insured" in real else real
        named = sum(person in text for person in known.index.astype(str))
        dated = sum(
            day in text and code in text for day, code in zip(known.birth_date, known.postcode, strict=True)
        )
        made = generated(model, 1_000, seed)
        pairs = set(zip(real.birth_date, real.postcode, strict=True))
        shown = sum(pair in pairs for pair in zip(made.birth_date, made.postcode, strict=True))
        where = f"visits, {recipe[8:]}: "
        yield where + "insured numbers of people in the bundle", "300 of 300", "0", named
        yield where + "people whose birth date and postcode are in it", "300 of 300", "0", dated
        yield (
            where + "of 1,000 rows, those with a real person's birth date and postcode",
            "1,000",
            "<= 1",
            shown,
        )
        yield where + "AUC per person, the worse table", ".86", "<= .60", scores(report)["membership"][0]
        others = dataset.table("holdout").to_pandas()
        whole = rows_of(model, len(others), seed)
        same = constant(whole, "insured", ["birth_date", "blood_group", "postcode", "diagnosis"])
        yield where + "% of persons whose constants are constant", "-", "100", 100 * same
        apart = told_apart(others, whole, "insured")
        yield where + "rows with their person's aggregates told apart, AUC", "1.00", "<= .65", apart
        yield where + "verdict", "excellent", "-", report.verdict


def rows_of(model: Any, rows: int, seed: int) -> pd.DataFrame:
    import genpipe

    return genpipe.generate(model, rows=rows, seed=seed, workers=0).table("generated").to_pandas()


def generated(model: Any, rows: int, seed: int) -> pd.DataFrame:
    return rows_of(model, rows, seed).astype(str)


def attack_few_patients(folder: Path, seed: int) -> Iterator[Line]:
    """190 patients: exact birth dates and incomes."""
    dataset, model, _ = learnt(folder, people.patients(380, seed), f"few-{seed}", AUTO, seed)
    mine, others = (dataset.table(split).to_pandas() for split in ("train", "holdout"))
    text, made = bundle_text(model), generated(model, 2_000, seed)
    yield (
        "190 patients: their birth dates in the bundle",
        "189",
        "0",
        sum(str(day) in text for day in mine.birth_date.astype(str)),
    )
    yield "190 patients: their incomes in the bundle", "190", "0", sum(f"{v}" in text for v in mine.income)
    for who, table, before in (("a training", mine, "100 %"), ("another", others, "0 %")):
        share = 100 * made.income.astype(float).isin(table.income).mean()
        yield f"190 patients: % of incomes that are {who} person's", before, "as of others", share


def attack_patients(folder: Path, seed: int) -> Iterator[Line]:
    before = {(400, AUTO): ".71", (1600, AUTO): ".81", (400, TREES): ".82", (1600, TREES): ".98"}
    goal = {(400, AUTO): "<= .56", (1600, AUTO): "<= .55"}
    read = {(1600, AUTO): "19", (1600, TREES): "60"}
    for (rows, recipe), found in before.items():
        name = f"patients-{rows}-{seed}-{recipe[8:]}"
        dataset, model, report = learnt(folder, people.patients(2 * rows, seed), name, recipe, seed)
        where = f"patients, {rows:,} rows, {recipe[8:]}: "
        beside = beside_marginals(dataset, model)
        yield where + "AUC beside what columns by themselves tell", "-", "<= .60", beside
        yield where + "AUC", found, goal.get((rows, recipe), "<= .60"), scores(report)["membership"][0]
        yield where + "read off, points", read.get((rows, recipe), "-"), "<= 3", points(report, "read_off")
        yield where + "one person's values, points", "-", "0", points(report, "single_values")
        yield where + "verdict", "excellent", "-", report.verdict


def attack_families(folder: Path, seed: int) -> Iterator[Line]:
    import genpipe

    parents, children = people.families(662, seed)
    parents.to_csv(folder / f"p-{seed}.csv", index=False)
    children.to_csv(folder / f"v-{seed}.csv", index=False)
    for recipe in (TREES, AUTO):
        spec = {
            "name": f"families-{seed}", "recipe": recipe, "seed": seed, "holdout": 0.5,
            "tables": {
                "patients": {"source": str(folder / f"p-{seed}.csv"), "key": "patient"},
                "visits": {"source": str(folder / f"v-{seed}.csv"), "parent": "patients",
                           "foreign_key": "patient", "order_by": "day"},
            },
        }  # fmt: skip
        report = genpipe.evaluate(genpipe.train_tables(spec), seed=seed)
        for name, (value, _) in scores(report).items():
            if "membership" in name:
                yield f"331 patients and visits, {recipe[8:]}: {name}", ".97", "<= .60", value
        yield f"331 patients and visits, {recipe[8:]}: verdict", "good", "-", report.verdict


def attack_letters(folder: Path, seed: int) -> Iterator[Line]:
    import genpipe
    from genpipe.bundle import Bundle

    place = folder / f"letters-{seed}"
    place.mkdir()
    written = people.letters(200, seed)
    for number, (_, letter) in enumerate(written):
        (place / f"{number:03d}.txt").write_text(letter)
    dataset = genpipe.ingest(str(place), name=place.name, kind="text", holdout=0.5)
    texts = {split: " ".join(dataset.table(split)["text"].to_pylist()) for split in ("train", "holdout")}
    for recipe, mark in (("text_lstm", ""), ("text_gpt", " (gpt)")):
        model = genpipe.train(dataset, recipe=recipe, seed=seed)
        made = " ".join(Bundle.open(model.uri).sample(1_000, seed=seed)["text"].to_pylist())
        for split, before in (("train", "9 of 70"), ("holdout", "0 of 102")):
            names = [name for name, _ in written if name in texts[split]]
            found = f"{sum(name in made for name in names)} of {len(names)}"
            what = f"letters{mark}: names of {split} that come out"
            yield what, before if not mark else "-", "as many as of others", found
        report = genpipe.evaluate(model, seed=seed)
        yield f"letters{mark}: AUC", ".87" if not mark else "-", "-", scores(report)["membership"][0]
        yield f"letters{mark}: verdict", "refused" if not mark else "-", "-", report.verdict


def attack_adult(folder: Path, seed: int) -> Iterator[Line]:
    place = Path(os.environ.get("GENPIPE_DATA", "")) / "adult"
    if not (place / "meta.json").exists():
        yield "Adult: skipped, GENPIPE_DATA names no folder with adult/", "-", "-", "-"
        return
    target = json.loads((place / "meta.json").read_text())["target"]
    table = pd.read_csv(place / "train.csv.gz")
    before = {(400, AUTO): ".70", (1600, AUTO): ".61", (400, TREES): ".75", (1600, TREES): ".80"}
    goal = {(400, AUTO): "<= .55", (1600, AUTO): "<= .54"}
    for (rows, recipe), found in before.items():
        some = table.sample(2 * rows, random_state=seed)
        name = f"adult-{rows}-{seed}-{recipe[8:]}"
        options = {"target": target, "entity": "none: one row each"}
        dataset, model, report = learnt(folder, some, name, recipe, seed, **options)
        where = f"Adult, {rows:,} rows, {recipe[8:]}: "
        beside = beside_marginals(dataset, model)
        yield where + "AUC beside what columns by themselves tell", "-", "<= .60", beside
        yield where + "AUC", found, goal.get((rows, recipe), "<= .60"), scores(report)["membership"][0]
        yield where + "read off, points", "-", "<= 3", points(report, "read_off")
        yield (
            where + "usefulness (AUC on real rows; real rows' own .87 to .92)",
            "-",
            "-",
            scores(report)["usefulness"][0],
        )
        yield where + "verdict", "good", "-", report.verdict


ATTACKS: dict[str, Callable[[Path, int], Iterator[Line]]] = {
    "visits": attack_visits,
    "few": attack_few_patients,
    "patients": attack_patients,
    "families": attack_families,
    "letters": attack_letters,
    "adult": attack_adult,
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seeds", type=int, default=2)
    words.add_argument("--only", choices=ATTACKS, help="one of the data sets")
    given = words.parse_args()
    kept: dict[str, Any] = json.loads(RESULT.read_text()) if given.only and RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENPIPE_HOME"] = str(Path(folder) / "home")
        for name in [given.only] if given.only else ATTACKS:
            began = time.process_time()
            print(f"\n{name}: {'':<74} before      goal                  now, by seed", flush=True)
            found: dict[str, list[Any]] = {}
            about: dict[str, tuple[str, str]] = {}
            for seed in range(given.seeds):
                for what, before, goal, value in ATTACKS[name](Path(folder), seed):
                    found.setdefault(what, []).append(value)
                    about[what] = before, goal
            for what, values in found.items():
                print(f"{what:<82} {about[what][0]:<11} {about[what][1]:<21} {shown(values)}", flush=True)
            kept[name] = found
            print(f"{time.process_time() - began:.0f} CPU s")
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")


def shown(values: list[Any]) -> str:
    if any(isinstance(v, str) for v in values):
        return ", ".join(v if isinstance(v, str) else f"{v:.1f}" for v in values)
    mean = f"{statistics.mean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{v:.3g}' for v in values)})"


if __name__ == "__main__":
    main()
