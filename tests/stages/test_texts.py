"""Texts along the road: what may be set of sampling, in every place that asks for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genpipe
from genpipe.bundle import Bundle
from genpipe.bundle.held import check_held
from genpipe.cli import execute
from genpipe.codecs.text import TextCodec
from genpipe.errors import GenpipeError, PrivacyError, QualityError, UsageError
from genpipe.registry.package import pack
from genpipe.registry.pyfunc import save_pyfunc
from genpipe.registry.pyfunc_model import ServedGenerator

WORDS = ("anna", "bern", "carl", "dora", "emil", "fritz", "gert", "hans", "ilse", "jens")
BY_HEART = {"epochs": None, "steps": 400, "monitor": "fidelity", "patience": 1000, "learning_rate": 0.01}
QUICK = {"base": "text_lstm", "family": {"model": {"width": 32}}, "training": {"steps": 60}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GENPIPE_STORE", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def model(home: Path) -> str:
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(5, 9))) for _ in range(400)]
    (home / "names.txt").write_text("\n".join(lines))
    data = genpipe.ingest(home / "names.txt", kind="text", record="lines", workers=0)
    return str(genpipe.train(data, recipe=QUICK))


def texts(model: str, **asked: Any) -> list[str]:
    return genpipe.generate(model, rows=60, workers=0, **asked).table("generated")["text"].to_pylist()


def test_the_likeliest_token_alone_makes_one_text_and_no_repeat_ends_its_loop(model: str) -> None:
    alone = texts(model, top_k=1)
    assert len(set(alone)) == 1 and alone == texts(model, top_p=1e-9)
    assert len(set(texts(model))) > 50
    short = [t[i : i + 6] for t in texts(model, top_k=3, no_repeat=6) for i in range(len(t) - 5)]
    free = [t[i : i + 6] for t in texts(model, top_k=3) for i in range(len(t) - 5)]
    assert len(set(short)) > len(set(free))
    for text in texts(model, top_k=3, no_repeat=6):
        runs = [text[i : i + 6] for i in range(len(text) - 5)]
        assert len(set(runs)) == len(runs)


def test_what_is_set_of_sampling_is_part_of_what_a_delivery_is(model: str, home: Path) -> None:
    plain = genpipe.generate(model, rows=60, workers=0)
    held = genpipe.generate(model, rows=60, workers=0, top_p=0.9)
    assert plain.uri != held.uri and held.uri == genpipe.generate(model, rows=60, workers=0, top_p=0.9).uri
    assert held.manifest.origin["top_p"] == 0.9
    assert "top_p" not in plain.manifest.origin  # the id of such a request is as it always was
    out = home / "cold"
    assert execute(["generate", model, "--rows", "60", "--workers", "0", "--top-p", ".9",
                    "--output", str(out)]) == 0  # fmt: skip
    assert pd.read_parquet(out).equals(held.pandas())
    assert genpipe.explain(str(out))["top_p"] == 0.9


def test_a_consumer_sets_it_too(model: str, home: Path) -> None:
    class Context:
        artifacts = {"bundle": model}

    served = ServedGenerator()
    served.load_context(Context())
    ask = {"rows": 60, "sampling": '{"top_p": 0.9, "no_repeat": 9}'}
    made = served.predict(None, None, ask)["text"].tolist()  # type: ignore[arg-type]
    assert made == texts(model, top_p=0.9, no_repeat=9)
    plain = served.predict(None, None, {"rows": 60})["text"].tolist()  # type: ignore[arg-type]
    assert plain == texts(model)  # what one asks for changes nothing for the next
    for sampling, said in (
        ('{"top_p": 3}', "top_p: 3; expected"),
        ('{"speed": 3}', "speed: 3; expected"),
        ("hot", "expected JSON such as"),
    ):
        with pytest.raises(Exception, match=said):
            served.predict(None, None, {"sampling": sampling})  # type: ignore[arg-type]
    package = pack(model, home / "packed")
    save_pyfunc(home / "served", package, Path(genpipe.registry.pyfunc_model.__file__), model_id="m")
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(home / "served"))
    assert loaded.predict(pd.DataFrame(), params=ask)["text"].tolist() == made


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"top_k": 0}, "top_k: 0; expected a whole number from 1"),
        ({"top_p": 0.0}, "top_p: 0.0; expected a number above 0 to 1"),
        ({"no_repeat": 1}, "no_repeat: 1; expected a whole number from 2"),
    ],
)
def test_a_limit_is_said_before_work_begins(model: str, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        genpipe.generate(model, rows=5, workers=0, **asked)


def test_other_generators_say_what_they_have(table_bundle: str, image_bundle: str, home: Path) -> None:
    cold = Bundle.open(table_bundle)
    one = genpipe.generate(table_bundle, rows=300, workers=0, top_k=1).pandas()
    assert (one.nunique() <= cold.sample(300).to_pandas().nunique()).all()
    with pytest.raises(UsageError, match=r"top_k: 3 for a generator of family gan; .*trees"):
        genpipe.generate(image_bundle, rows=5, workers=0, top_k=3)
    with pytest.raises(UsageError, match=r"no_repeat: 3 for a .* sequence and layout tokens; .*of texts"):
        genpipe.generate(table_bundle, rows=5, workers=0, no_repeat=3)


def test_pieces_of_words_go_the_whole_road(model: str, home: Path) -> None:
    """Trained, generated, gone on from a prompt; its nats are of a character, as those of characters are."""
    data = genpipe.Dataset(str(Bundle.open(model).origin["dataset_uri"]))
    recipe = {**QUICK, "codec": {"tokens": "bpe", "vocabulary": 60}}
    by_pieces = genpipe.train(data, recipe=recipe, name="pieces")
    bundle = Bundle.open(str(by_pieces))
    assert (
        30 < bundle.spec.vocabulary[0] <= 60 and bundle.spec.shape[0] < Bundle.open(model).spec.shape[0] / 2
    )
    assert (
        bundle.metrics["holdout.nats_per_position"] < Bundle.open(model).metrics["holdout.nats_per_position"]
    )
    made = texts(str(by_pieces), conditions={"prompt": "anna "})
    assert all(t.startswith("anna ") for t in made) and len(set(made)) > 50
    words = [w for t in texts(str(by_pieces)) for w in t.split()]
    assert sum(w in WORDS for w in words) > 0.5 * len(words)  # after 60 steps
    assert genpipe.train(data, recipe=recipe, name="pieces").uri == by_pieces.uri
    check_held(bundle, data)
    told = bundle.codec.to_json()
    few = data.table("train")["text"].to_pylist()[0][:12]  # what one text has must not be told
    codes = [[told["points"].index(ord(c)) + 2 for c in few[i : i + 2]] for i in range(0, 12, 2)]
    last = 2 + len(told["points"]) + len(codes) - 1
    joins = [[last - 5, last - 4], [last - 3, last - 2], [last - 1, last], [last + 1, last + 2]]
    joins.append([last + 4, last + 3])
    bundle.codec = TextCodec.from_json(bundle.schema, {**told, "merges": [*codes, *joins]})
    with pytest.raises(PrivacyError, match=r"values that fewer than 5 entities have \(text"):
        check_held(bundle, data)


MOTTO = " - with the kind regards of the whole house of Weber"


@pytest.fixture(scope="module")
def reciting(home: Path) -> tuple[str, list[str]]:
    """A model that knows 40 letters by heart, each with a line of its own and one that all have."""
    rng = np.random.default_rng(1)
    lines = [" ".join(rng.choice(WORDS, 9)) + MOTTO for _ in range(40)]
    (home / "letters.txt").write_text("\n".join(lines))
    data = genpipe.ingest(home / "letters.txt", kind="text", record="lines", workers=0, name="letters")
    recipe = {"base": "text_lstm", "family": {"model": {"width": 96}}, "training": BY_HEART}
    return str(genpipe.train(data, recipe=recipe)), data.table("train")["text"].to_pylist()


def shared(text: str, learnt: list[str]) -> int:
    """Characters of the longest run of a text that a learnt one has before its motto."""
    cut, best = [t.removesuffix(MOTTO) for t in learnt], 0
    for i in range(len(text)):
        while i + best < len(text) and any(text[i : i + best + 1] in t for t in cut):
            best += 1
    return best


def test_texts_that_copy_are_left_out_and_counted(
    reciting: tuple[str, list[str]], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, learnt = reciting
    plain = genpipe.generate(model, rows=60, workers=0)
    free = [shared(t, learnt) for t in plain.table("generated")["text"].to_pylist()]
    assert sum(n >= 24 for n in free) > 10  # it does recite
    clean = genpipe.generate(model, rows=60, workers=0, no_copies=24, temperature=1.2)
    made = clean.table("generated")["text"].to_pylist()
    assert len(made) == 60 and max(shared(t, learnt) for t in made) < 24
    assert any(MOTTO in t for t in made)  # what five letters have is nobody's
    assert clean.manifest.origin["redrawn"] > 0 and "redrawn" not in plain.manifest.origin
    assert execute(["generate", model, "--rows", "60", "--workers", "0", "--no-copies", "24",
                    "--temperature", "1.2"]) == 0  # fmt: skip
    assert "24 characters in a row of a training text and were left out" in capfd.readouterr().err


def test_the_same_texts_come_from_several_parts_and_after_a_prompt(reciting: tuple[str, list[str]]) -> None:
    model, learnt = reciting
    asked: dict[str, Any] = {"workers": 0, "no_copies": 24, "temperature": 1.2}
    one = genpipe.generate(model, rows=40, **asked, tag="one")
    parts = genpipe.generate(model, rows=40, **asked, rows_per_part=16)
    assert one.table("generated").equals(parts.table("generated"))
    begun = learnt[0][:30]  # a user may begin with what he has
    asked |= {"temperature": 3.0, "conditions": {"prompt": begun}}
    told = genpipe.generate(model, rows=5, **asked).table("generated")
    assert all(t.startswith(begun) for t in told["text"].to_pylist())


def test_one_that_can_only_recite_is_refused_and_so_is_what_cannot_be_compared(
    reciting: tuple[str, list[str]], table_bundle: str, home: Path
) -> None:
    model, _ = reciting
    with pytest.raises(QualityError, match=r"generated rows .* have no run of 16 .*; .*this model recites"):
        genpipe.generate(model, rows=60, workers=0, no_copies=16, top_k=1)
    with pytest.raises(UsageError, match=r"no_copies: 20 for a generator of tabular data; .*for texts"):
        genpipe.generate(table_bundle, rows=5, workers=0, no_copies=20)
    with pytest.raises(UsageError, match=r"no_copies: 8; expected a whole number from 16"):
        genpipe.generate(model, rows=5, workers=0, no_copies=8)
    gone = home / "elsewhere"
    shutil.copytree(model, gone)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(GenpipeError, match=r"dataset"):
        patch.setenv("GENPIPE_HOME", str(home / "other"))
        genpipe.generate(str(gone), rows=5, workers=0, no_copies=24)
