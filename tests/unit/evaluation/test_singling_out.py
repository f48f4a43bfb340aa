"""Does a report see what generated rows show of one person alone? Controls that must be called leaks, and
fresh rows that must not.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from evaluation_samples import Sample, sample

from genpipe.errors import PrivacyError
from genpipe.evaluation import evaluate_tables
from genpipe.evaluation.privacy import singling_out as module
from genpipe.evaluation.privacy.attacks import UNSEEN, Evidence
from genpipe.evaluation.privacy.findings import Finding
from genpipe.evaluation.privacy.singling_out import Distinct, Shown, SinglingOut, whose
from genpipe.fields import Date, Identifier, Integer
from genpipe.schema import Schema

ROWS = 300


def found(
    made: pa.Table, train: pa.Table, unseen: pa.Table, schema: Schema, pieces: int = 1
) -> list[Finding]:
    asked = SinglingOut(made, unseen, whose(unseen, schema, UNSEEN), schema)
    step = -(-train.num_rows // pieces)
    for start in range(0, train.num_rows, step):
        piece = train.slice(start, step)
        asked.see(piece, whose(piece, schema, start), member=True)
    asked.see(unseen, whose(unseen, schema, UNSEEN), member=False)
    return asked.findings()


def leaks(findings: list[Finding]) -> set[str]:
    return {f.score.name for f in findings if f.leak}


def flipped(table: pa.Table, share: float, seed: int) -> pa.Table:
    """So many of the cells are those of other rows."""
    rng, columns = np.random.default_rng(seed), []
    for column in table.columns:
        other = rng.random(len(column)) < share
        places = np.where(other, rng.permutation(len(column)), np.arange(len(column)))
        columns.append(column.take(pa.array(places)))
    return pa.table(columns, names=table.column_names)


def test_what_one_entity_alone_has_equals_the_plain_loop_in_any_pieces() -> None:
    rng = np.random.default_rng(0)
    made = rng.integers(0, 60, 200).astype(np.uint64) << np.uint64(50)
    things = [rng.integers(0, 100, n).astype(np.uint64) << np.uint64(50) for n in (60, 40)]
    who = [rng.integers(0, 40, len(t)).astype(np.uint64) + np.uint64(100 * i) for i, t in enumerate(things)]
    holders: dict[int, set[int]] = {}
    for t, w in zip(things, who, strict=True):
        for thing, entity in zip(t.tolist(), w.tolist(), strict=True):
            holders.setdefault(thing, set()).add(entity)
    wanted: dict[int, int] = {}
    for thing in made.tolist():
        if len(holders.get(thing, ())) == 1:
            (entity,) = holders[thing]
            wanted[entity] = wanted.get(entity, 0) + 1
    for pieces in (1, 7):
        shown = Shown(made)
        for part, of in zip(np.array_split(things[0], pieces), np.array_split(who[0], pieces), strict=True):
            shown.see(part, of, member=True)
        shown.see(things[1], who[1], member=False)
        for member, entities in ((True, range(100)), (False, range(100, 200))):
            tally = shown.tally(member=member)
            assert len(tally) > 2 and sorted(tally) == sorted(n for e, n in wanted.items() if e in entities)


def test_entities_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, rough = Distinct(), Distinct()
    keys = np.random.default_rng(0).integers(0, 2**63, 30_000).astype(np.uint64)
    for part in np.array_split(np.concatenate([keys, keys]), 9):
        exact.see(part)
    assert exact.count == 30_000
    monkeypatch.setattr(module, "SAMPLE", 1_000)
    for part in np.array_split(np.concatenate([keys, keys]), 9):
        rough.see(part)
    assert len(rough.least) == 1_000 and abs(rough.count - 30_000) < 3_000


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_the_training_data_are_leaks_and_fresh_rows_are_not(seed: int) -> None:
    s, fresh = sample("tabular", rows=ROWS, seed=seed), sample("tabular", rows=ROWS, seed=seed + 50).holdout
    rng = np.random.default_rng(seed)
    some = s.train.take(pa.array(rng.integers(0, s.train.num_rows, ROWS)))
    planted = pa.concat_tables([fresh.slice(0, ROWS - 20), some.slice(0, 20)])
    for made in (some, flipped(some, 0.1, seed), planted):
        told = found(made, s.train, s.holdout, s.schema)
        assert "single_values" in leaks(told) and "income" in told[0].leak
        assert [f.leak for f in found(made, s.train, s.holdout, s.schema, pieces=4)] == [f.leak for f in told]
    assert not leaks(found(fresh, s.train, s.holdout, s.schema))
    assert not leaks(found(flipped(s.holdout, 0.1, seed), s.train, s.holdout, s.schema))


def report_sample() -> tuple[Sample, pa.Table]:
    s = sample("tabular", rows=ROWS)
    return s, s.train.take(pa.array(np.random.default_rng(0).integers(0, s.train.num_rows, ROWS)))


def test_a_report_of_such_rows_is_refused_and_names_columns_and_figures() -> None:
    s, some = report_sample()
    half = pa.concat_tables([sample("tabular", rows=ROWS, seed=60).holdout.slice(0, 270), some.slice(0, 30)])
    report = evaluate_tables(s.train, s.holdout, half, s.schema)
    assert report.verdict == "leaks" and report.score("single_values").value == pytest.approx(0.1, abs=0.01)
    with pytest.raises(
        PrivacyError, match=r"one training entity alone has: .*income 1\d\.\d% \(others 0\.0%\)"
    ) as caught:
        report.check()
    assert caught.value.exit_code == 5
    flip = evaluate_tables(s.train, s.holdout, flipped(some, 0.1, 0), s.schema)
    assert flip.verdict in ("leaks", "copies") and "income" in flip.headline


VISITS = Schema(
    kind="tabular",
    fields=(
        Identifier(name="insured", storage="integer"),
        Date(name="born"),
        Integer(name="postcode"),
        Integer(name="day"),
    ),
    entity=("insured",),
)


def visits(people: int, seed: int, first: int = 0) -> pa.Table:
    """Birth dates and postcodes that many have, and pairs of them that one person has, in all of her rows."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), rng.integers(2, 9, people))
    columns = [
        pa.array(who + first),
        pa.array(rng.integers(0, 60, people)[who].astype(np.int32)).cast(pa.date32()),
        pa.array(rng.integers(0, 60, people)[who]),
        pa.array(rng.integers(0, 365, len(who))),
    ]
    return pa.table(columns, schema=VISITS.arrow())


def test_a_birth_date_with_a_postcode_is_one_persons_and_many_rows_are_one_person() -> None:
    train, unseen, fresh = visits(200, 0), visits(100, 1, 200), visits(120, 2, 300)
    assert not leaks(found(fresh, train, unseen, VISITS))
    # constants of real people with other days: neither column alone tells, and no row is equal to one
    days = pa.array(np.random.default_rng(3).integers(0, 365, train.num_rows))
    shown = train.set_column(0, "insured", pa.array(np.arange(train.num_rows) + 900)).set_column(
        3, "day", days
    )
    told = found(shown, train, unseen, VISITS)
    assert leaks(told) == {"single_pairs"} and "born with postcode" in told[1].leak
    # one person's rows for ever are one piece of evidence
    assert not leaks(found(shown.take(pa.array(np.zeros(400, int))), train, unseen, VISITS))


def test_numbers_made_up_anew_are_no_leak_and_the_real_ones_are() -> None:
    train, unseen, fresh = visits(200, 0, 5_000), visits(100, 1, 6_000), visits(120, 2)
    assert not leaks(found(fresh, train, unseen, VISITS))
    real = fresh.set_column(0, "insured", pa.array(np.resize(train["insured"].to_numpy(), fresh.num_rows)))
    told = found(real, train, unseen, VISITS)
    assert "single_values" in leaks(told) and "insured 100.0% (others 0.0%)" in told[0].leak


def test_entities_may_be_told_beside_the_rows() -> None:
    """Related tables have no column of whom a row is about."""
    train, unseen, fresh = visits(200, 0), visits(100, 1, 200), visits(120, 2, 300)
    who = tuple(whose(t, VISITS) for t in (train, unseen))
    bare = VISITS.model_copy(update={"fields": VISITS.fields[1:], "entity": ()})
    tables = [t.drop_columns(["insured"]) for t in (train, unseen, fresh)]
    told = evaluate_tables(*tables, bare, evidence=Evidence(entities=who))  # type: ignore[arg-type]
    named = evaluate_tables(train, unseen, fresh, VISITS)
    assert told.score("membership").value == named.score("membership").value
    assert told.score("single_pairs") == named.score("single_pairs")
