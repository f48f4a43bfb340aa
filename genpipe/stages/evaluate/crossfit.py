"""Cross-fitting: what a held-out part of 20 to 49 entities cannot tell, all of 100 to 500 together can.

The entities of both splits are cut into folds. For each fold a model is trained by the recipe, the steps and
the seed of the one that is judged, on all entities but those of the fold, which judge it (Stone,
"Cross-validatory choice and assessment of statistical predictions", 1974, section 1). So every entity is held
out once, and what is known of members is pooled over all. It costs as many trainings as there are folds. The
scores are those of the recipe on about as many entities as the model has learnt from that is registered; and
that one must not know its own few held-out ones apart either.

Folds are datasets below the one they are cut from, <dataset>/folds/<n>-<i>/, so they are kept as it is; their
models are runs like any other, so an evaluation that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import FEWEST_FOLDED, MOST_FOLDED, Dataset, commit, new_attempt, write_part
from genpipe.evaluation.privacy.membership import LIMIT, Likelihoods, Membership, area, by_entity, membership
from genpipe.evaluation.report import Report, Score, Verdict
from genpipe.evaluation.verdict import MARGIN, graded
from genpipe.keys import entity_keys, mix, row_keys
from genpipe.progress import Event
from genpipe.requests import Train
from genpipe.seeds import drawn, numpy_rng
from genpipe.stages.checked import count_entities, few_held_out, too_few
from genpipe.stages.rows.likelihoods import likelihoods
from genpipe.stages.train.process import result_of
from genpipe.stages.train.verb import train_as

FOLDS = 5
CHEAP_SECONDS = 600.0  # of the training that is judged; dearer ones are cross-fitted where that is asked for
FEWEST = 10  # held-out rows of a fold
_SALT = np.uint64(0x5851F42D4C957F2D)

Step = Callable[[int, str], None]
Judged = Callable[..., tuple[Report, pa.Table, pa.Table]]


def folds_for(dataset: Dataset, asked: int | None, run: str, *, foreign: bool) -> int:
    """How many folds to judge by; 0: enough entities are held out. Raises PrivacyError where nothing helps.

    foreign: another dataset than the one trained on, whose recipe says nothing about it.
    """
    held = few_held_out(dataset)
    if held is None:
        return 0
    every = count_entities(dataset, "train", "holdout", most=MOST_FOLDED + 1)
    possible = FEWEST_FOLDED <= every <= MOST_FOLDED and not foreign
    done = result_of(run)
    folds = (FOLDS if done is None or done.seconds <= CHEAP_SECONDS else 0) if asked is None else asked
    if not possible or folds < 2:
        raise too_few(dataset, held, folds=possible)
    return min(folds, every // 2)


def cross_fitted(
    bundle: Bundle,
    dataset: Dataset,
    rows: int,
    seed: int,
    lineage: Mapping[str, Any],
    folds: int,
    judged: Judged,
    step: Step,
    run: str,
) -> tuple[Report, pa.Table, pa.Table]:
    """(the report, all real rows, generated rows of the bundle itself). judged: see evaluate.py."""
    reports, nats = [], []
    cut, once = cut_into(dataset, folds), result_of(run)
    cost = f", about {folds * once.seconds:.0f} s" if once else ""
    step(0, f"few entities are held out: cross-fitting, {folds} more trainings{cost}")
    for number, fold in enumerate(cut, 1):
        where = f"fold {number} of {folds}"

        def training(event: Event, where: str = where) -> None:
            done = f"{event.done:,.0f} of {event.total or 0:,.0f} {event.unit}"
            step(0, f"cross-fitting, {where}: {event.stage} {done}")

        asked = Train.of(
            dataset=fold.uri,
            seed=int(bundle.origin.get("seed", 0)),
            name=f"{dataset.name[:48]}-fold-{number}",
            minutes=bundle.origin.get("minutes"),
        )
        model = train_as(fold, bundle.recipe, asked, progress=training)
        other = Bundle.open(model.uri)
        few = max(2, min(rows, fold.rows("train")))

        def scoring(done: int, note: str, where: str = where) -> None:
            step(0, f"cross-fitting, {where}: {note}")

        reports.append(judged(other, fold, few, seed, lineage, scoring, fewest=FEWEST)[0])
        nats.append(likelihoods(other, fold, seed))
    step(1, f"generating {rows:,} rows")
    own = likelihoods(bundle, dataset, seed)
    members = [pooled_membership(nats, seed), membership(own) if own else None]
    every = pa.concat_tables([fold.table("holdout") for fold in cut])
    told = f"{folds} models, each judged by the entities it has not seen"
    report = pooled(reports, members, dict(lineage) | {"cross-fitting": told}, every.num_rows, rows)
    return report, every, bundle.sample(rows, seed=seed)


def cut_into(dataset: Dataset, folds: int) -> list[Dataset]:
    """The dataset cut anew: all entities but those of a fold to train on, these to judge by."""
    table = pa.concat_tables([dataset.table(split) for split in ("train", "holdout")]).combine_chunks()
    of = _fold_of(table, dataset, folds)
    made = []
    for fold in range(folds):
        uri = store.join(dataset.uri, "folds", f"{folds}-{fold}")
        if not Dataset.exists(uri):
            attempt, parts = new_attempt(), []
            for split, mask in (("train", of != fold), ("holdout", of == fold)):
                some = table.filter(pa.array(mask)).cast(dataset.schema.arrow())
                parts.append(write_part(uri, some, split=split, name=f"{split}-00000", attempt=attempt))
            origin = {"stage": "cross-fitting", "dataset": dataset.fingerprint, "fold": fold, "folds": folds}
            commit(uri, name=dataset.name, schema=dataset.schema, parts=parts, origin=origin)
        made.append(Dataset(uri))
    return made


def _fold_of(table: pa.Table, dataset: Dataset, folds: int) -> np.ndarray:
    """(N,) the fold of each row: entities in the order of a hash of their own, dealt out in turn."""
    about = dataset.schema.about
    keys = np.concatenate(
        [
            entity_keys(b, about, unnamed="together") if about else row_keys(b)
            for b in table.to_batches(max_chunksize=4096)
        ]
    )
    names, back = np.unique(keys, return_inverse=True)
    place = np.empty(len(names), np.int64)
    place[np.argsort(mix(names ^ _SALT), kind="stable")] = np.arange(len(names)) % folds
    return place[back]


def pooled_membership(found: list[Likelihoods | None], seed: int) -> Membership | None:
    """Of all folds together: of each model the likelihoods less what it usually gives entities it has not
    seen, so that they can be compared. None for a family without likelihood.

    Every entity is among the others once and among the members once less than there are folds; these are not
    independent, so the error is that of as many members as there are entities.
    """
    members, others = [], []
    for one in found:
        if one is None:
            return None
        seen, unseen = by_entity(one.train, one.train_entities), by_entity(one.unseen, one.unseen_entities)
        finite = unseen[np.isfinite(unseen)]
        usual = float(np.median(finite)) if len(finite) else 0.0
        members.append(seen - usual)
        others.append(unseen - usual)
    side, other = np.concatenate(members), np.concatenate(others)
    some = side[drawn(numpy_rng(seed, "cross-fitting"), len(side), len(other))]
    return Membership(area(side, other)[0], area(some, other)[1], len(other), len(other))


def pooled(
    reports: list[Report],
    told: list[Membership | None],
    lineage: dict[str, Any],
    real: int,
    rows: int,
    tables: Mapping[str, Report] | None = None,
) -> Report:
    """One report of all folds: means of their scores, and a verdict by what they show together. told:
    membership; that of the folds together first, and any others it is judged by. tables: see Report.
    """
    first = reports[0]
    scores = tuple(_mean([r.score(s.name) for r in reports]) for s in first.scores)
    if told and (worst := told[0]) is not None:
        ends = {"value": worst.auc, "ceiling": 0.5, "floor": 1.0, "error": worst.error, "reason": ""}
        scores = tuple(s.model_copy(update=ends) if s.name == "membership" else s for s in scores)
    parts = {
        name: {end: float(np.mean([r.parts[name][end] for r in reports])) for end in ends_}
        for name, ends_ in first.parts.items()
    }
    verdict, headline = _verdict(reports, {s.name: s for s in scores}, told)
    note = f"judged by cross-fitting, as too few entities are held out: {lineage['cross-fitting']}"
    said = dict.fromkeys(w for r in reports for w in r.warnings if not w.startswith("only "))
    return Report(
        kind=first.kind,
        train_rows=real,
        holdout_rows=real,
        rows=rows,
        seed=first.seed,
        scores=scores,
        parts=parts,
        warnings=(note, *said),
        verdict=verdict,
        headline=headline,
        lineage=lineage,
        tables=dict(tables or {}),
    )


def _mean(found: list[Score]) -> Score:
    there = [s for s in found if s.value is not None]
    if not there:
        return found[0]

    def of(end: str) -> float | None:
        numbers = [n for s in there if (n := getattr(s, end)) is not None]
        return float(np.mean(numbers)) if numbers else None

    errors = [s.error for s in there if s.error is not None]
    error = float(np.sqrt(np.sum(np.square(errors)))) / len(errors) if errors else None
    ends = {end: of(end) for end in ("value", "ceiling", "floor")}
    return there[0].model_copy(update={**ends, "error": error})


def _verdict(
    reports: list[Report], scores: Mapping[str, Score], told: list[Membership | None]
) -> tuple[Verdict, str]:
    """told: membership of the folds together, and of the bundle itself."""
    for bad, least in (
        ("collapsed", len(reports) // 2 + 1),
        ("copies", 2),
        ("leaks", 2),
    ):  # one may be by chance
        those = [r for r in reports if r.verdict == bad]
        if len(those) >= least:
            return those[0].verdict, f"In {len(those)} of {len(reports)} folds: {those[0].headline}"
    near, same = scores["privacy"], scores["copies"]
    excess = (same.value or 0) - (same.ceiling or 0)
    if (near.value or 0) - 3 * (near.error or 0) > max(0.5, near.ceiling or 0.5) + MARGIN or excess > 0.1:
        return "copies", (
            f"Generated rows hug the training rows: {near.value:.0%} lie nearer to them than to unseen ones,"
            f" {same.value or 0:.1%} are equal to one."
        )
    for one in told:
        if one is not None and one.low > LIMIT:
            return "leaks", (
                f"It knows who was in the training data: a training entity is likelier than an unseen one"
                f" {one.auc:.0%} of the time (at least {one.low:.0%}; allowed {LIMIT:.0%})."
            )
    reached = scores["fidelity"].position or 0.0
    useful = scores["usefulness"].position if "usefulness" in scores else None
    level = reached if useful is None else min(reached, 0.5 * (reached + useful))
    grade, seen = graded(level, scores)
    text = f"{grade.capitalize()}, by cross-fitting: {reached:.0%} of the way from shuffled to real data"
    return grade, text + (
        f"; models trained on it keep {useful:.0%} of the skill{seen}." if useful is not None else f"{seen}."
    )
