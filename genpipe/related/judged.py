"""One generator of related tables against families it has not seen; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from genpipe.bundle import Bundle
from genpipe.bundle.folder import read_document
from genpipe.dataset import MIN_HOLDOUT, Dataset
from genpipe.errors import PrivacyError
from genpipe.evaluation.report import Report
from genpipe.registry.tracking import placed
from genpipe.related.judge.scores import evaluate_related
from genpipe.related.judge.tables import Tables
from genpipe.related.panel_generate import lookups_of
from genpipe.related.sample import sample_tables
from genpipe.related.train import TrainedTables
from genpipe.related.unflatten import kin_of, tables_of
from genpipe.stages.evaluate.crossfit import FEWEST
from genpipe.stages.rows.likelihoods import evidence


@dataclass(frozen=True)
class Judge:
    """rows: generated ones without parents. step: is told how far it is, and what is done. foreign: whether
    the families are others than were set aside in training, so that nothing is known of members.
    """

    rows: int
    seed: int
    lineage: Mapping[str, Any]
    step: Callable[[int, str], None]
    foreign: bool = False
    fewest: int = MIN_HOLDOUT

    def __call__(self, trained: TrainedTables, data: Mapping[str, Dataset]) -> tuple[Report, Tables, Tables]:
        """(the report, held-out tables, generated tables). data: the flat rows of each table."""
        train, holdout = (real(trained, data, split) for split in ("train", "holdout"))
        synthetic = self.generated(trained)
        self.step(2, "scoring")
        models = {} if self.foreign else trained.models
        known = {n: evidence(Bundle.open(u), data[n], self.seed) for n, u in models.items()}
        report = evaluate_related(
            train,
            holdout,
            synthetic,
            seed=self.seed,
            lineage=self.lineage,
            evidence=known,
            fewest=self.fewest,
        )
        return report, holdout, synthetic

    def generated(self, trained: TrainedTables) -> Tables:
        self.step(1, f"generating {self.rows:,} families")
        made = kin_of(trained.nodes, sample_tables(trained, rows=self.rows, seed=self.seed))
        return trained.panel.seen(made, lookups_of(trained)) if trained.panel else made

    def of_fold(self, rows: int, step: Callable[[int, str], None]) -> Judge:
        """Of a model of one fold, by which a few are enough."""
        return replace(self, rows=rows, step=step, fewest=FEWEST)


def real(trained: TrainedTables, data: Mapping[str, Dataset], *splits: str) -> Tables:
    """The real tables of some splits as people know them."""
    tables = tables_of(trained.nodes, data, *splits)
    return trained.panel.seen(tables) if trained.panel else tables


def flat_data(trained: TrainedTables) -> dict[str, Dataset]:
    """The flat rows each table of a model was trained on, where they are still what they were."""
    found = {}
    for name, uri in trained.models.items():
        origin = read_document(uri, "origin")
        where, wanted = placed(str(origin["dataset_uri"])), str(origin["dataset_fingerprint"])
        dataset = Dataset(where)
        if dataset.fingerprint != wanted:
            raise PrivacyError(
                "HOLDOUT",
                where=where,
                found=f"fingerprint {dataset.fingerprint}, so its holdout may hold rows trained on",
                expected=f"the rows trained on, {wanted}",
                fix="restore them, or name a set of tables to judge against",
            )
        found[name] = dataset
    return found
