"""Links of every sort: a parent's key as the own, no parent, the own table, circles, several columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_references import frames_of, spec_of

import genpipe
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.errors import PrivacyError, QualityError
from genpipe.evaluation import Report
from genpipe.related.evaluate import flat_data
from genpipe.related.generate import GeneratedTables
from genpipe.related.judge.scores import evaluate_related
from genpipe.related.sample import sample_tables
from genpipe.related.train import TrainedTables, open_tables
from genpipe.related.unflatten import kin_of, tables_of
from genpipe.stages.register import check_published

RANKS = np.array([2e5, 8e4, 3e4, 1e4])


def staff(rows: int = 600, heads: int = 6, *, rng: np.random.Generator | None = None) -> pd.DataFrame:
    """Four levels; a department is the superior's, and the pay is some share of theirs."""
    rng = rng or np.random.default_rng(0)
    level = np.r_[[0] * heads, np.sort(rng.choice([1, 2, 3], rows - heads, p=[0.07, 0.3, 0.63]))]
    above = np.full(rows, -1)
    for one in (1, 2, 3):
        mine, bosses = np.flatnonzero(level == one), np.flatnonzero(level == one - 1)
        above[mine] = rng.choice(bosses, len(mine))
    unit, pay = np.empty(rows, object), np.zeros(rows)
    for i, boss in enumerate(above):
        unit[i] = rng.choice(["art", "law", "war"]) if boss < 0 else unit[boss]
        pay[i] = RANKS[0] if boss < 0 else pay[boss] * rng.uniform(0.25, 0.55)
    ids = rng.permutation(rows) + 100
    boss = pd.array(np.where(above < 0, None, ids[above]), "Int64")
    frame = pd.DataFrame(
        {"id": ids, "boss": boss, "unit": unit, "pay": (pay * rng.lognormal(0, 0.05, rows)).round(2)}
    )
    return frame.sample(frac=1, random_state=0)


def world(people: int = 400, groups: int = 60) -> dict[str, pd.DataFrame]:
    """A profile of some people; orders of nobody are cheap; claims name lines of orders; a group is led by
    its most senior member; posts are answered in their own thread.
    """
    rng = np.random.default_rng(0)
    rich = rng.random(people) < 0.4
    ids = np.arange(people) + 1
    has = rng.random(people) < np.where(rich, 0.9, 0.2)
    who = np.repeat(ids, rng.poisson(1.5, people)).astype(float)
    owner = np.r_[who, np.full(len(who) // 4, np.nan)]
    price = np.where(np.isnan(owner), 2, np.where(rich[np.nan_to_num(owner, nan=1).astype(int) - 1], 90, 20))
    orders = pd.DataFrame(
        {"no": np.arange(len(owner)) + 1, "person": pd.array(owner).astype("Int64"),
         "price": (price * rng.lognormal(0, 0.1, len(owner))).round(2)}
    )  # fmt: skip
    many = rng.integers(1, 3, len(orders))
    lines = pd.DataFrame({"order": np.repeat(orders.no, many)})
    lines["line"] = lines.groupby("order").cumcount() + 1
    lines["kind"] = rng.choice(["ink", "pen"], len(lines))
    some = lines.sample(300, random_state=0)
    claims = pd.DataFrame(
        {"order_no": some.order, "line_no": some.line, "why": np.where(some.kind == "ink", "dry", "bent")}
    )
    size = rng.integers(4, 9, groups)
    member = pd.DataFrame({"id": np.arange(size.sum()) + 1, "group": np.repeat(np.arange(groups) + 1, size)})
    member["years"] = rng.integers(1, 40, len(member))
    lead = member.loc[member.groupby("group").years.idxmax(), "id"].to_numpy()
    thread = np.repeat(np.arange(80) + 1, rng.integers(1, 8, 80))
    posts = pd.DataFrame({"id": np.arange(len(thread)) + 1, "thread": thread})
    first = posts.groupby("thread").id.transform("min")
    answers = (rng.random(len(posts)) < 0.6) & (posts.id > first)
    to = np.where(answers, first + (rng.random(len(posts)) * (posts.id - first)).astype(int), 0)
    posts["answers"] = pd.array(np.where(answers, to, None), "Int64")
    posts["tone"] = np.where(answers, "angry", "calm")
    return {
        "people": pd.DataFrame({"id": ids, "rich": rich}),
        "profiles": pd.DataFrame({"id": ids[has], "fame": rng.normal(np.where(rich[has], 9, 1), 1).round(2)}),
        "orders": orders.sample(frac=1, random_state=0), "lines": lines, "claims": claims,
        "groups": pd.DataFrame(
            {"id": np.arange(groups) + 1, "lead": lead, "size": rng.normal(0, 1, groups).round(2)}
        ),
        "members": member, "threads": pd.DataFrame({"id": np.arange(80) + 1, "hot": rng.random(80) < 0.5}),
        "posts": posts,
    }  # fmt: skip


ROLES: dict[str, dict] = {
    "people": {"key": "id"},
    "profiles": {"key": "id", "parent": "people", "foreign_key": "id"},
    "orders": {"key": "no", "parent": "people", "foreign_key": "person"},
    "lines": {"key": ["order", "line"], "parent": "orders", "foreign_key": "order"},
    "claims": {"references": {"order_no, line_no": "lines"}},
    "groups": {"key": "id", "references": {"lead": "members"}},
    "members": {"key": "id", "parent": "groups", "foreign_key": "group"},
    "threads": {"key": "id"},
    "posts": {"key": "id", "parent": "threads", "foreign_key": "thread", "references": {"answers": "posts"}},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("links")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        return genpipe.train_tables(spec_of(folder, world(), **ROLES) | {"recipe": "tabular_trees"}).uri


@pytest.fixture(scope="module")
def made(trained: str, tmp_path_factory: pytest.TempPathFactory) -> GeneratedTables:
    return genpipe.generate_tables(trained, workers=0, output=str(tmp_path_factory.mktemp("out") / "a"))


def test_a_key_that_is_the_parents(made: GeneratedTables) -> None:
    real, fake = world(), frames_of(made)
    shares = []
    for tables in (real, fake):
        has = tables["people"].id.isin(tables["profiles"].id)
        shares.append(has.groupby(tables["people"].rich.astype(bool)).mean().to_numpy())
    assert fake["profiles"].id.is_unique and fake["profiles"].id.isin(fake["people"].id).all()
    assert np.abs(shares[0] - shares[1]).max() < 0.12
    both = fake["profiles"].merge(fake["people"], on="id")
    assert both[both.rich].fame.median() > 7 and both[~both.rich].fame.median() < 3


def test_rows_without_a_parent(made: GeneratedTables, trained: str) -> None:
    real, fake = world(), frames_of(made)
    none = fake["orders"].person.isna()
    assert abs(none.mean() - real["orders"].person.isna().mean()) < 0.02 and none.mean() > 0.15
    assert fake["orders"].person.dropna().isin(fake["people"].id).all() and fake["orders"].no.is_unique
    cheap = fake["orders"].price < 5  # one in five
    assert cheap[none].mean() > 0.65 and cheap[~none].mean() < 0.1
    assert fake["lines"].order.isin(fake["orders"].no[none]).mean() > 0.1  # they have children, too
    few = sample_tables(trained, rows=40)["orders"].to_pandas()
    assert abs(few.person.isna().mean() - none.mean()) < 0.1


def test_references_of_several_columns(made: GeneratedTables) -> None:
    fake = frames_of(made)
    named = fake["claims"].merge(fake["lines"], left_on=["order_no", "line_no"], right_on=["order", "line"])
    assert len(named) == len(fake["claims"]) == 300
    assert ((named.kind == "ink") == (named.why == "dry")).mean() > 0.85


def test_a_circle_of_tables_and_threads_of_answers(made: GeneratedTables) -> None:
    fake = frames_of(made)
    led = fake["groups"].merge(fake["members"], left_on="lead", right_on="id", suffixes=("", "_"))
    assert len(led) == len(fake["groups"]) == 60 and (led.group == led.id).all()
    assert led.years.mean() > fake["members"].years.mean() + 4
    posts = fake["posts"]
    to = posts.dropna(subset="answers").merge(posts, left_on="answers", right_on="id", suffixes=("", "_to"))
    assert len(to) == posts.answers.notna().sum() > 50 and (to.thread == to.thread_to).all()
    assert (to.id_to < to.id).all()  # so nothing answers itself in the end
    assert ((posts.tone == "angry") == posts.answers.notna()).mean() > 0.8


def test_the_same_bytes_however_it_is_cut(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = [
        genpipe.generate_tables(trained, rows=100, workers=workers, output=str(tmp_path / str(i)))
        for i, workers in enumerate((0, 2))
    ]
    assert all(again[0][n].fingerprint == again[1][n].fingerprint for n in again[0])
    assert not list(tmp_path.glob("*/.referred*"))
    monkeypatch.setattr("genpipe.related.generate.JOB_ROWS", 2**9)
    fake = frames_of(genpipe.generate_tables(trained, rows=100, workers=0, output=str(tmp_path / "jobs")))
    assert fake["groups"].lead.isin(fake["members"].id).all() and fake["members"].id.is_unique
    led = fake["groups"].merge(fake["members"], left_on="lead", right_on="id", suffixes=("", "_"))
    assert (led.group == led.id).all()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> TrainedTables:
    folder = tmp_path_factory.mktemp("staff")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        pets = pd.DataFrame({"owner": staff().id.sample(300, random_state=1), "legs": 4})
        roles = {
            "staff": {"key": "id", "references": {"boss": "staff"}},
            "pets": {"parent": "staff", "foreign_key": "owner"},
        }
        spec = spec_of(folder, {"staff": staff(), "pets": pets}, **roles)
        return genpipe.train_tables(spec | {"recipe": "tabular_trees", "holdout": 0.3})


def levels(frame: pd.DataFrame) -> np.ndarray:
    """(N,) how many are above each; endless in a circle."""
    boss, out, at = dict(zip(frame.id, frame.boss, strict=True)), [], 0
    for one in frame.id:
        at = 0
        while pd.notna(boss[one]):
            one, at = boss[one], at + 1
            assert at < 50, "a circle"
        out.append(at)
    return np.array(out)


def test_a_table_that_refers_to_itself(chain: TrainedTables, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {n: t.to_pandas() for n, t in sample_tables(chain, rows=1200).items()}
    real, fake = staff(), tables["staff"]
    assert len(fake) == 1200 and fake.id.is_unique and fake.boss.dropna().isin(fake.id).all()
    assert tables["pets"].owner.isin(fake.id).all()
    shares = [np.bincount(levels(frame)) / len(frame) for frame in (real, fake)]
    assert len(shares[0]) == len(shares[1]) and np.abs(shares[0] - shares[1]).max() < 0.005
    both = fake.merge(fake, left_on="boss", right_on="id", suffixes=("", "_boss"))
    assert (both.unit == both.unit_boss).mean() > 0.85 and (both.pay <= both.pay_boss).all()
    units = [frame.unit.value_counts(normalize=True) for frame in (real, fake)]
    assert (units[0] - units[1]).abs().max() < 0.1
    named = [frame.boss.value_counts() for frame in (real, fake)]
    assert abs(named[0].mean() - named[1].mean()) < 1.5
    assert sum(len(t) for t in sample_tables(chain, rows=3).values()) >= 3
    monkeypatch.setattr("genpipe.related.generate.JOB_ROWS", 2**7)  # a job a head
    cut = sample_tables(chain, rows=1200)["staff"].to_pandas()
    assert len(cut) == 1200 and len(np.bincount(levels(cut))) == 4 and cut.id.is_unique


def test_no_superiors_own_value_is_kept(chain: TrainedTables) -> None:
    """One row of the flat table tells a superior's pay for each who reports: still it is one person's."""
    flat = Dataset(flat_data(chain)["staff"].uri).table("train")
    told = flat["boss.staff.pay"].drop_null().to_numpy()
    assert len(told) > 300 and not np.isin(told.round(2), staff().pay).mean() > 0.02
    unit = flat["boss.staff.unit"].drop_null()
    assert set(unit.to_pylist()) <= {"art", "law", "war"}
    tree = open_tables(chain.uri).node("staff").tree
    assert tree and tree.levels == tuple(np.bincount(levels(staff()))) and tree.bounds == (("pay", -1),)
    assert tree.inherited and tree.inherited[0] == "unit"
    for uri in chain.models.values():
        check_published(Bundle.open(uri))


def test_the_judge_sees_circles_levels_and_strangers(chain: TrainedTables) -> None:
    train, holdout = (tables_of(chain.nodes, flat_data(chain), split) for split in ("train", "holdout"))
    made = sample_tables(chain, rows=600)

    def judged(boss: np.ndarray) -> Report:
        rows = made["staff"]
        at, kind = rows.column_names.index("boss"), rows["boss"].type
        new = pa.array(boss, kind, from_pandas=True)
        return evaluate_related(
            train, holdout, kin_of(chain.nodes, made | {"staff": rows.set_column(at, "boss", new)})
        )

    boss = made["staff"]["boss"].to_pandas().to_numpy()
    ids, rng = made["staff"]["id"].to_numpy(), np.random.default_rng(0)
    honest = judged(boss)
    part, by = "staff above each by boss", "staff by the boss they name"
    assert honest.parts[part]["value"] > 0.9 and honest.score("integrity").value == 1.0
    top = ids[np.isnan(boss)]
    flat_ = judged(np.where(np.isnan(boss), np.nan, rng.choice(top, len(boss))))
    assert flat_.parts[part]["value"] < 0.6 and flat_.parts[by]["value"] < honest.parts[by]["value"] - 0.1
    circle = boss.copy()
    circle[np.isnan(boss)] = ids[-1]
    with pytest.raises(QualityError, match=r"100\.0% of the rows of staff are in a circle by boss"):
        judged(circle).check()


def test_a_boss_may_be_oneself_and_a_spouse_is_in_a_circle(home: Path, tmp_path: Path) -> None:
    people = staff(300).reset_index(drop=True)
    people["boss"] = people.boss.fillna(people.id)
    half = np.arange(300) ^ 1
    people["spouse"] = pd.array(np.where(np.arange(300) < 200, people.id.to_numpy()[half], None), "Int64")
    roles = {"staff": {"key": "id", "references": {"boss": "staff", "spouse": "staff"}}}
    spec = spec_of(tmp_path, {"staff": people}, **roles) | {"recipe": "tabular_trees"}
    fake = frames_of(genpipe.generate_tables(genpipe.train_tables(spec), workers=0))["staff"]
    assert fake.boss.notna().all() and fake.boss.isin(fake.id).all()
    assert abs((fake.boss == fake.id).sum() - 6) < 2
    levels(fake.assign(boss=fake.boss.where(fake.boss != fake.id)))
    assert fake.spouse.dropna().isin(fake.id).all() and not (fake.spouse == fake.id).any()
    assert abs(fake.spouse.isna().mean() - 1 / 3) < 0.1


def test_a_small_lookup_is_not_judged_and_said_so(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    team = rng.integers(0, 35, 900)
    tables = {
        "players": pd.DataFrame(
            {"id": np.arange(900), "team": team, "goals": team % 7 * 10 + rng.integers(0, 9, 900)}
        ),
        "teams": pd.DataFrame({"id": np.arange(35), "level": np.arange(35) % 7}),
    }
    roles = {"players": {"key": "id", "references": {"team": "teams"}}, "teams": {"key": "id"}}
    model = genpipe.train_tables(spec_of(tmp_path, tables, **roles) | {"recipe": "tabular_trees"})
    assert not model.note
    report = genpipe.evaluate(model.uri)
    assert any(w.startswith("teams: not judged by itself, for ") for w in report.warnings)
    assert "teams" not in report.tables and "players" in report.tables
    assert report.parts["players by the team they name"]["value"] > 0.6
    lone = {"teams": tables["teams"], "players": tables["players"]}
    roles = {"players": {"parent": "teams", "foreign_key": "team"}, "teams": {"key": "id"}}
    model = genpipe.train_tables(spec_of(tmp_path / "b", lone, **roles) | {"recipe": "tabular_trees"})
    with pytest.raises(PrivacyError, match="teams: not enough hold-out rows"):
        genpipe.evaluate(model.uri)
