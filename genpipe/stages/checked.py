"""Was this generator checked? What is said where nothing is known of whom it shows.

Enough held-out entities are needed to tell; an entity is whom rows are about (`Schema.about`), else a row. Of
fewer the evaluation cross-fits (crossfit.py), and of fewer still nobody can know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import FEWEST_FOLDED, MIN_HOLDOUT, MOST_FOLDED, Dataset
from genpipe.errors import GenpipeError, PrivacyError
from genpipe.evaluation.report import REFUSED, Report
from genpipe.keys import entity_keys
from genpipe.progress import Event, Progress
from genpipe.registry import Resolved, holds_tables
from genpipe.registry.relations import name_of_tables
from genpipe.requests import Evaluate
from genpipe.stages.train.process import TrainedModel

NOTHING = "nothing was checked"


def count_entities(dataset: Dataset, *splits: str, most: int) -> int:
    """How many entities these splits hold, counted up to `most`; rows that name nobody are one."""
    names = dataset.schema.about
    if not names:
        return min(most, sum(dataset.rows(split) for split in splits))
    seen = np.zeros(0, np.uint64)
    for split in splits:
        for batch in dataset.batches(split, columns=list(names)):
            seen = np.union1d(seen, entity_keys(batch, names, unnamed="together"))
            if len(seen) >= most:
                return most
    return len(seen)


def few_held_out(dataset: Dataset) -> int | None:
    """The number of held-out entities where it is too small to tell anything by; else None."""
    found = count_entities(dataset, "holdout", most=MIN_HOLDOUT)
    return found if found < MIN_HOLDOUT else None


def too_few(dataset: Dataset, held: int, *, folds: bool) -> PrivacyError:
    """The error of so few held-out entities. folds: whether cross-fitting them was possible at all.

    More data are advised, or a way to judge these; never a split until a model passes.
    """
    every = count_entities(dataset, "train", "holdout", most=MOST_FOLDED + 1)
    fix = "collect more of them; a pipeline that delivers all the same says `unchecked: REASON`"
    if every > MOST_FOLDED:
        fix = f"ingest again with the usual share held out (holdout=0.2): there are more than {MOST_FOLDED}"
    elif every >= FEWEST_FOLDED and folds:
        fix = "evaluate it with folds=5, which takes as many trainings"
    elif every >= FEWEST_FOLDED:
        fix = "evaluate it on the dataset it was trained on: there it is cross-fitted"
    who = "entities" if dataset.schema.about else "rows"
    return PrivacyError(
        "FEWHOLDOUT",
        where=dataset.uri,
        found=f"not enough hold-out {who} for the privacy test: {held}",
        expected=f"at least {MIN_HOLDOUT}, or {FEWEST_FOLDED} held-out and training ones together",
        fix=fix,
    )


def training_note(dataset: Dataset) -> str:
    """What training says of a dataset by which nothing can be checked as usual; else empty."""
    held = few_held_out(dataset)
    if held is None:
        return ""
    every = count_entities(dataset, "train", "holdout", most=MOST_FOLDED + 1)
    if FEWEST_FOLDED <= every <= MOST_FOLDED:
        return f"NOT CHECKED YET: {held} held-out entities are too few, `genpipe evaluate` will cross-fit"
    return f"{NOTHING.upper()}, and nothing can be: {held} held-out entities (it takes {MIN_HOLDOUT})"


def tuning_note(dataset: Dataset) -> str:
    """What a search says of a table of several rows an entity, which it does not learn as `train` does."""
    who = dataset.schema.entity
    if dataset.schema.kind != "tabular" or not who:
        return ""
    return (
        f"recipes are compared row by row: how the rows of one {' and '.join(who)} belong together counts "
        "for nothing here, though `train` learns it; train the best two or three, and compare their reports"
    )


def told(dataset: Dataset, made: TrainedModel, progress: Progress) -> TrainedModel:
    """`made`, after the note of its dataset, which is loud and comes last."""
    if note := training_note(dataset):
        progress(Event("train", made.steps, made.steps, "steps", made.metrics, note=note))
    return made


def check_of(resolved: Resolved, fingerprint: str) -> str:
    """What generated rows say of their generator: empty where an evaluation of it passed.

    A registered version is told of by its tags; of a model in the store the reports beside its run are read.
    fingerprint: as reports name it.
    """
    tags = resolved.tags
    if resolved.reference.startswith("models:/"):
        if reason := tags.get("unchecked", ""):
            return f"{NOTHING}: {reason}"
        return (
            f"{tags.get('verdict', 'refused')}, published despite: {tags['despite']}"
            if "despite" in tags
            else ""
        )
    found = ""
    for report in _reports(resolved):
        if str(report.lineage.get("model fingerprint")) != fingerprint:
            continue
        if report.verdict not in REFUSED:
            return ""
        found = f"its evaluation says: {report.verdict}"
    return found or f"{NOTHING}: no evaluation of this generator is known"


def loud(check: str) -> str:
    """What `check_of` says, as a note on the screen."""
    return (
        f"{check[:1].upper()}{check[1:]}" if NOTHING not in check else check.replace(NOTHING, NOTHING.upper())
    )


def learnt_before(origin: Mapping[str, Any]) -> str:
    """What is to be said of a model that went on from another; empty of others."""
    if "from" not in origin:
        return ""
    known = "what that learnt counts as learnt, and no report on other data sees it"
    return f"it went on from {origin['from']}: {known}"


def said(made: Dataset, progress: Progress, *, note: str = "") -> Dataset:
    """`made`, after the last note of its generation: what is to be said of its generator comes in it."""
    origin = made.manifest.origin
    check, redrawn = str(origin.get("check", "")), origin.get("redrawn")
    if redrawn:
        copied = f"{redrawn} drawn texts had {origin.get('no_copies')} characters in a row of a training text"
        note = "; ".join(part for part in (note, f"{copied} and were left out for others") if part)
    if text := "; ".join(part for part in (note, loud(check)) if part):
        progress(Event("generate", made.rows(), made.rows(), "rows", note=text))
    return made


def _reports(resolved: Resolved) -> list[Report]:
    run = resolved.uri if resolved.tables else resolved.uri.rstrip("/").rsplit("/", 1)[0]
    folder, found = store.join(run, "evaluation"), []
    try:
        for name in sorted(store.listing(folder)):
            if name.endswith("/report.json"):
                found.append(Report.model_validate_json(store.read_bytes(store.join(folder, name))))
    except (ValueError, GenpipeError, OSError):
        pass  # what cannot be read vouches for nothing
    return found


def unchecked_report(model: str, reason: str) -> Report:
    """In place of an evaluation, where there are too few to tell and somebody says why it goes on."""
    if holds_tables(model):
        name, fingerprint = name_of_tables(model)
        kind, data = "tables", {"dataset": name, "dataset fingerprint": fingerprint}
    else:
        bundle = Bundle.open(model)
        kind, fingerprint = bundle.schema.kind, bundle.fingerprint
        data = {"dataset fingerprint": str(bundle.origin.get("dataset_fingerprint", ""))}
    return Report(
        kind=kind,
        train_rows=0,
        holdout_rows=0,
        rows=0,
        seed=0,
        scores=(),
        verdict="unchecked",
        headline=f"{NOTHING.upper()}: too few tell whom it shows. It goes on because: {reason}",
        lineage={"model fingerprint": fingerprint, **data},
    )


def unless_unchecked(
    evaluate: Callable[..., Report], asked: Evaluate, unchecked: str, progress: Progress
) -> Report:
    """What `evaluate` returns; a report with the verdict "unchecked" where too few entities tell nothing, and
    `unchecked` says why it goes on.
    """
    try:
        return evaluate(asked, progress=progress)
    except PrivacyError as error:
        if error.code != "FEWHOLDOUT" or not unchecked.strip():
            raise
        report = unchecked_report(asked.model, unchecked)
        progress(Event("evaluate", done=1, total=1, unit="steps", note=report.headline))
        return report
