"""Training that goes on from an earlier model: what it begins with, what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genpipe
from genpipe.bundle import Bundle
from genpipe.bundle.folder import read_document
from genpipe.cli import execute
from genpipe.errors import DataError, GenpipeError, PrivacyError, UsageError
from genpipe.registry import resolve
from genpipe.requests import Train

QUICK = {"base": "text_lstm", "family": {"model": {"width": 48}}, "training": {"steps": 150}}
SHORT = {"base": "text_lstm", "family": {"model": {"width": 48}}, "training": {"steps": 5, "warmup": 0}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GENPIPE_STORE", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        yield folder


def letters(home: Path, name: str, words: tuple[str, ...], seed: int, rows: int = 400) -> Any:
    rng = np.random.default_rng(seed)
    lines = [" ".join(rng.choice(words, rng.integers(4, 8))) for _ in range(rows)]
    (home / f"{name}.txt").write_text("\n".join(lines))
    return genpipe.ingest(home / f"{name}.txt", kind="text", record="lines", workers=0, name=name)


@pytest.fixture(scope="module")
def first(home: Path) -> Any:
    data = letters(home, "first", ("alpha", "beta", "gamma", "delta", "omega"), 0)
    model = genpipe.train(data, recipe=QUICK)
    return genpipe.register(model, name="greek", despite="made-up words of a test, nobody's")


@pytest.fixture(scope="module")
def second(home: Path, first: Any) -> Any:
    return letters(
        home, "second", ("alpha", "beta", "gamma", "delta", "omega", "beam", "tablet"), 1, rows=320
    )


def test_it_begins_where_the_other_ended_and_says_so(home: Path, first: Any, second: Any) -> None:
    on = genpipe.train(second, recipe=SHORT, from_model="models:/greek@champion")
    anew = genpipe.train(second, recipe=SHORT)
    losses = [Bundle.open(str(m)).metrics["holdout.nats_per_position"] for m in (on, anew)]
    assert losses[0] < 0.7 * losses[1]
    origin = read_document(str(on), "origin")
    assert origin["from"] == first.uri and "from" not in read_document(str(anew), "origin")
    assert origin["from_fingerprint"] == Bundle.open(resolve(first.uri).uri).fingerprint
    assert Bundle.open(str(on)).codec.to_json() == Bundle.open(resolve(first.uri).uri).codec.to_json()
    assert genpipe.train(second, recipe=SHORT, from_model="greek").uri == on.uri  # the same request
    report = genpipe.evaluate(on, rows=60)
    assert f"it went on from {first.uri}" in report.warnings[0]
    made = genpipe.register(on, name="second", report=report, despite="made-up words of a test, nobody's")
    assert resolve(made.uri).tags["from"] == first.uri


def test_it_is_not_cross_fitted_as_no_fold_leaves_out_what_the_earlier_one_learnt(
    home: Path, first: Any
) -> None:
    few = letters(home, "few", ("alpha", "beta", "gamma", "delta", "omega"), 0, rows=120)
    assert genpipe.evaluate(genpipe.train(few, recipe=SHORT), rows=60).holdout_rows > few.rows("holdout")
    with pytest.raises(PrivacyError, match="not enough hold-out rows"):
        genpipe.evaluate(genpipe.train(few, recipe=SHORT, from_model="greek"), rows=60)


def test_one_that_learnt_all_rows_is_not_gone_on_from(home: Path, second: Any) -> None:
    final = genpipe.train(second, recipe=SHORT, final="all", name="final")
    with pytest.raises(UsageError, match=r"a model that learnt all rows.*go on from its twin"):
        genpipe.train(second, recipe=SHORT, from_model=final)


def test_its_texts_are_not_compared_with_half_of_what_it_learnt(home: Path, first: Any, second: Any) -> None:
    on = genpipe.train(second, recipe=SHORT, from_model="greek")
    with pytest.raises(UsageError, match="a model that went on from models:/greek/1"):
        genpipe.generate(on, rows=5, no_copies=50, workers=0)


def test_a_few_steps_change_little_and_the_command_line_says_from(
    home: Path, first: Any, second: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = home / "still.yaml"
    recipe.write_text(
        "base: text_lstm\nfamily: {model: {width: 48}}\ntraining: {steps: 1, learning_rate: 1.0e-9}\n"
    )
    assert execute(["train", "second", "--recipe", str(recipe), "--from", "greek"]) == 0
    shown = capfd.readouterr()
    assert f"it went on from {first.uri}" in shown.err
    model = next(line.split()[1] for line in shown.out.splitlines() if line.startswith("model"))
    mine, theirs = (Bundle.open(u).nets["model"].state_dict() for u in (model, resolve(first.uri).uri))
    assert all(np.allclose(mine[n], theirs[n], atol=1e-6) for n in theirs)


def test_one_killed_goes_on_from_its_checkpoint_and_not_from_the_beginning(
    home: Path, first: Any, second: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**SHORT, "training": {"steps": 8, "checkpoint_every": 4, "evaluate_every": 8}}
    whole = genpipe.train(second, recipe=recipe, from_model="greek", tag="whole")
    from genpipe.training import loop

    steps, take = [], loop.take_step

    def counted(state: Any, *rest: Any) -> None:
        steps.append(state.step)
        if len(steps) == 7:
            raise KeyboardInterrupt
        take(state, *rest)

    monkeypatch.setattr(loop, "take_step", counted)
    with pytest.raises(KeyboardInterrupt):
        genpipe.train(second, recipe=recipe, from_model="greek", tag="killed")
    again = genpipe.train(second, recipe=recipe, from_model="greek", tag="killed")
    assert steps[7] in (4, 6)  # kept at 4, and at 6, where it was scored, if that was written in time
    mine, theirs = (Bundle.open(str(m)).nets["model"].state_dict() for m in (again, whole))
    assert all(bool((mine[n] == theirs[n]).all()) for n in theirs)


def test_a_spec_says_from(home: Path, first: Any, second: Any) -> None:
    spec = home / "spec.yaml"
    source = "source: {path: second.txt, kind: text, options: {record: lines}}"
    spec.write_text(f"name: spec\n{source}\ntrain: {{from: models:/greek@champion, workers: 0}}\n")
    found = genpipe.validate(spec)
    asked = Train.of(dataset=second.uri, **found.train.model_dump(exclude={"steps"}))
    assert asked.from_model == "models:/greek@champion"
    assert Train.of(dataset="d").identity().keys() == {"seed", "minutes", "tag"}  # as it always was
    spec.write_text(f"name: spec\n{source}\ntrain: {{from: [1]}}\n")
    with pytest.raises(GenpipeError, match=r"from: found"):
        genpipe.validate(spec)


def test_by_itself_it_takes_the_recipe_of_the_earlier_one_at_a_lower_rate(second: Any, first: Any) -> None:
    model = Bundle.open(str(genpipe.train(second, from_model="greek", minutes=0.001)))
    before = Bundle.open(resolve(first.uri).uri).recipe
    assert model.recipe.family == before.family and model.recipe.training.learning_rate < 4e-3 / 3


def test_what_does_not_match_is_refused_before_work(
    home: Path, first: Any, second: Any, table_bundle: str, image_bundle: str
) -> None:
    wider = {"base": "text_lstm", "family": {"model": {"width": 64}}}
    with pytest.raises(UsageError, match=r"from: model\..* of \[192\]; expected model\..* of \[256\]"):
        genpipe.train(second, recipe=wider, from_model="greek")
    with pytest.raises(DataError, match=r"another schema: text instead of tabular"):
        genpipe.train(second, from_model=table_bundle)
    people = pd.DataFrame({"age": range(60), "city": ["Ulm", "Bonn", "Kiel"] * 20})
    data = genpipe.ingest(people, name="people")
    with pytest.raises(GenpipeError, match=r"another schema"):
        genpipe.train(data, from_model="greek")
    trees = genpipe.train(data, recipe="tabular_trees")
    with pytest.raises(UsageError, match=r"from: a generator of family trees, which is fitted at once"):
        genpipe.train(data, from_model=str(trees))
    with pytest.raises(UsageError, match=r"unknown model"):
        genpipe.train(second, from_model="nobody")
    assert execute(["train", "second", "--from", "nobody"]) == 2


@pytest.mark.parametrize("recipe", ["tabular_autoregressive", "tabular_vae", "tabular_gan"])
def test_tables_go_on_too_and_a_gan_has_no_critic_to_go_on_with(recipe: str, home: Path) -> None:
    rng = np.random.default_rng(0)
    people = pd.DataFrame(
        {"age": rng.integers(18, 90, 300), "city": rng.choice(["Ulm", "Bonn", "Kiel"], 300)}
    )
    data = genpipe.ingest(people, name="first-people")
    more = genpipe.ingest(people.iloc[:200].assign(age=lambda t: t.age + 1), name="more-people")
    training = {"training": {"steps": 20}}
    model = genpipe.train(data, recipe={"base": recipe, **training})
    if recipe == "tabular_gan":
        with pytest.raises(UsageError, match=r"from: a model without its critic, which bundles .* keep"):
            genpipe.train(more, from_model=str(model), recipe={"base": recipe, **training})
        return
    on = genpipe.train(more, from_model=str(model), recipe={"base": recipe, **training})
    assert len(Bundle.open(str(on)).sample(50)) == 50
