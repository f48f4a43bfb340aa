"""People who do not exist: insured persons with several visits, patients, families of tables, letters.

Each is drawn anew from the seed, so that people never shown to a generator are to be had in any number.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

WORDS = {
    "job": "Nurse Teacher Welder Lawyer Baker Driver Engineer Clerk Tiler Florist Pilot Cook Painter",
    "ill": "hypertension diabetes asthma depression migraine arthritis HIV epilepsy healthy hepatitis",
    "first": "Ada Boris Clara Dmitri Elena Farid Greta Hugo Ines Jonas Karin Liam Mira Noor Oskar Petra",
    "start": "Bel Cor Dan Fel Gor Hel Mar Ter Val Wen",
    "end": "a en is or ula",
    "last": "Arnold Brandt Castillo Duval Eriksen Fontana Grimaldi Hansen Iqbal Jansen Keller Lindqvist",
    "woe": "cough fever rash knee shoulder sleep stomach back throat tooth",
    "cure": "rest tea ointment tablets exercise surgery splints syrup",
}
OF = {name: words.split() for name, words in WORDS.items()}
JOBS = [f"{rank} {job}".strip() for rank in ("", "Senior", "Junior", "Lead") for job in OF["job"]]
ILL = np.array([20, 12, 10, 9, 8, 8, 1, 2, 24, 1]) / 95


def _common(rng: np.random.Generator, things: int, rows: int, power: float) -> np.ndarray:
    """(rows,) of that many things, the first ones most often (Zipf)."""
    share = 1 / np.arange(1, things + 1) ** power
    return rng.choice(things, rows, p=share / share.sum())


def _born(rng: np.random.Generator, rows: int) -> np.ndarray:
    age = np.clip(rng.normal(48, 17, rows), 18, 95)
    return np.datetime64("2026-06-01") - (age * 365.25).astype(int).astype("timedelta64[D]")


def patients(rows: int, seed: int) -> pd.DataFrame:
    """One row each; what ails them hardly depends on the rest."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        "birth_date": _born(rng, rows).astype(str),
        "postcode": (10_000 + 211 * _common(rng, 400, rows, 0.7)).astype(str),
        "sex": rng.choice(["f", "m"], rows),
        "job": np.array(JOBS)[_common(rng, len(JOBS), rows, 0.8)],
        "income": rng.lognormal(10.4, 0.5, rows).round(2),
        "visits": rng.poisson(4, rows),
        "diagnosis": rng.choice(OF["ill"], rows, p=ILL),
    })  # fmt: skip


def visits(people: int, seed: int) -> pd.DataFrame:
    """Five to twelve rows a person, in order of the day."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(people), rng.integers(5, 13, people))
    number = rng.choice(10**8, people, replace=False)
    table = pd.DataFrame({
        "insured": [f"756.{n:08d}" for n in number[of]],
        "birth_date": _born(rng, people).astype(str)[of],
        "blood_group": rng.choice(["A+", "B-", "0+", "AB+"], people)[of],
        "postcode": (10_000 + rng.choice(89_000, people, replace=False)).astype(str)[of],
        "diagnosis": rng.choice(OF["ill"], people, p=ILL)[of],
        "day": rng.integers(1, 366, len(of)),
        "cost": rng.lognormal(5, 1, len(of)).round(2),
    })  # fmt: skip
    return table.sort_values(["insured", "day"], ignore_index=True)


def families(people: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(patients by number, their visits)."""
    rng = np.random.default_rng([seed, 1])
    parents = patients(people, seed).drop(columns="visits").assign(patient=np.arange(people))
    of = np.repeat(np.arange(people), rng.integers(1, 9, people))
    children = pd.DataFrame({
        "patient": of,
        "day": rng.integers(1, 366, len(of)),
        "cost": rng.lognormal(5, 1, len(of)).round(2),
        "ward": rng.choice(["north", "south", "west"], len(of)),
    })  # fmt: skip
    return parents, children


def letters(count: int, seed: int) -> list[tuple[str, str]]:
    """(full name, letter about that person)."""
    rng = np.random.default_rng(seed)
    names = [
        f"{first} {start}{end} {last}"
        for first, start, end, last in itertools.product(OF["first"], OF["start"], OF["end"], OF["last"])
    ]
    found = []
    for name in rng.choice(names, count, replace=False):
        woe, cure, how = (
            rng.choice(OF["woe"]),
            rng.choice(OF["cure"]),
            rng.choice(["better", "worse", "the same"]),
        )
        letter = (
            f"Dear colleague, I saw {name} on day {rng.integers(1, 366)} about the {woe}. It began"
            f" {rng.integers(2, 30)} days before and is {how} now. I advised {cure} and shall see the patient"
            f" again in {rng.integers(1, 9)} weeks. Kind regards."
        )
        found.append((str(name), letter))
    return found


def care(people: int, seed: int) -> pd.DataFrame:
    """One to fifteen rows a person, in order of the day, which depend on the person and on the row before."""
    rng = np.random.default_rng([seed, 2])
    of = np.repeat(np.arange(people), np.clip(rng.poisson(5, people) + 1, 1, 15))
    first = np.r_[True, of[1:] != of[:-1]]
    born, sex = _born(rng, people), rng.choice(["f", "m"], people)
    age = (np.datetime64("2026-06-01") - born).astype(int) / 365.25
    ill, ward = rng.choice(OF["ill"], people, p=ILL), rng.choice(["north", "south", "west"], people)
    gaps = np.where(first, rng.integers(0, 200, len(of)), 1 + rng.gamma(1.2, 40, len(of)).astype(int))
    day = np.cumsum(gaps) - np.maximum.accumulate(np.where(first, np.cumsum(gaps) - gaps, 0))
    pressure, level = np.zeros(len(of)), 100 + age * 0.6 + rng.normal(0, 9, people)
    for i in range(len(of)):
        before = 0.0 if first[i] else pressure[i - 1] - level[of[i]]
        pressure[i] = level[of[i]] + 0.5 * before + rng.normal(0, 5)
    moved = rng.random(len(of)) < 0.15
    where = np.where(moved, rng.choice(["north", "south", "west"], len(of)), ward[of])
    return pd.DataFrame({
        "patient": [f"P{n:07d}" for n in rng.choice(10**7, people, replace=False)[of]],
        "birth_date": born.astype(str)[of],
        "sex": sex[of],
        "diagnosis": ill[of],
        "date": (np.datetime64("2025-01-01") + day.astype("timedelta64[D]")).astype(str),
        "ward": where,
        "floor": pd.Series(where).map({"north": 1, "south": 2, "west": 3}).to_numpy(),
        "pressure": pressure.round().astype(int),
        "cost": (rng.lognormal(4.5, 0.5, len(of)) * np.where(ill == "healthy", 0.5, 1.5)[of]).round(2),
    })  # fmt: skip
