"""Every request is written once: the library, the command line, the flows and a spec ask for the same.

Where one of them differs on purpose, DIFFERS says so and why.
"""

from __future__ import annotations

import builtins
import inspect
import json
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import genpipe
from genpipe import latent_verbs, requests, upkeep_verbs, verbs
from genpipe.cli import execute
from genpipe.cli.options import ARGUMENTS, asked, flag
from genpipe.cli.verbs import app
from genpipe.errors import UsageError
from genpipe.flows import embedded
from genpipe.pipeline import spec
from genpipe.requests import (
    LATENT,
    Clean,
    Doctor,
    Evaluate,
    Generate,
    Impute,
    Ingest,
    Likelihood,
    Promote,
    Register,
    Request,
    Run,
    Train,
    Tune,
)

VERBS: dict[str, type[Request]] = {
    "ingest": Ingest,
    "train": Train,
    "tune": Tune,
    "evaluate": Evaluate,
    "register": Register,
    "promote": Promote,
    "generate": Generate,
    "impute": Impute,
    "likelihood": Likelihood,
    "run": Run,
    "clean": Clean,
    "doctor": Doctor,
    **{job.__name__.lower(): job for job in LATENT},
}
SECTIONS: list[tuple[type[BaseModel], type[Request]]] = [
    (spec.SourceSpec, Ingest),
    (spec.Search, Tune),
    (spec.Train, Train),
    (spec.Generate, Generate),
]
# (place, verb, parameter) -> why it is another there
DIFFERS = {
    (
        "flow",
        "train",
        "workers",
    ): "a deployment does not know the size of the data",
    ("flow", "generate", "rows"): "a deployment says how many rows it delivers",
    ("flow", "promote", "name"): "a deployment says which champion it may replace",
    ("spec", "train", "workers"): "as in the flow",
    ("spec", "generate", "rows"): "as in the flow",
    ("spec", "ingest", "holdout"): "a pipeline judges what it delivers, so something must be held out",
}
OWN = {  # what only one place asks for
    ("cli", "ingest"): {"save_schema"},
    ("cli", "generate"): {"prompt", "history"},
    ("library", "ingest"): {"progress"},
    ("library", "register"): {"progress", "report"},
    ("flow", "promote"): {"progress", "fidelity", "relative"},
}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def default_of(field: FieldInfo) -> Any:
    return inspect.Parameter.empty if field.is_required() else field.default


def kinds_of(annotation: Any) -> set[Any]:
    """The plain types a parameter takes; a library takes a Mapping for a dict, a Sequence for a tuple."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds_of(get_args(annotation)[0])
    if str(origin) in ("<class 'types.UnionType'>", "typing.Union"):
        return set().union(*map(kinds_of, get_args(annotation)))
    if str(origin) == "typing.Literal":
        return {str}
    word = getattr(origin or annotation, "__name__", "").lower()
    word = {"dict": "mapping", "tuple": "sequence", "list": "sequence"}.get(word, word)
    return {word if word in ("mapping", "sequence") else origin or annotation}


@pytest.mark.parametrize("verb", VERBS)
def test_the_library_asks_for_the_same(verb: str) -> None:
    function, fields = getattr(genpipe, verb), VERBS[verb].model_fields
    found = dict(inspect.signature(function).parameters)
    wanted = {field.alias or name: field for name, field in fields.items()}
    assert found.keys() - OWN.get(("library", verb), {"progress"}) == wanted.keys()
    hints = get_type_hints(function, localns=Unloaded(), include_extras=True)
    for name, field in wanted.items():
        if name == "options":
            continue
        assert found[name].default == default_of(field), name
        assert f"{name}: {field.description}" in (function.__doc__ or ""), name
        if hints[name] is not object:
            assert kinds_of(field.annotation) <= kinds_of(hints[name]) | {"sequence"}, name


class Unloaded(dict[str, Any]):
    """What genpipe/verbs.py names for type checkers alone is any object here."""

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name) or hasattr(verbs, name) or hasattr(embedded, name):
            raise KeyError(name)
        return object


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_asks_for_the_same(verb: str) -> None:
    found = {p.name: p for p in COMMANDS[verb].params if p.name != "help"}
    fields = VERBS[verb].model_fields
    assert found.keys() - OWN.get(("cli", verb), set()) == fields.keys()
    for name, field in fields.items():
        parameter, kinds = found[name], kinds_of(field.annotation)
        assert parameter.required == field.is_required(), name
        number = kinds <= {int, type(None)} or kinds <= {float, type(None)}
        if number and field.default and not field.is_required():  # read by the request, shown by the help
            assert parameter.default is None and f"[default: {field.default}]" in parameter.help, name
        else:
            assert parameter.default == (None if field.is_required() else field.default or parameter.default)
        assert parameter.help.startswith(field.description), name
        assert (name in ARGUMENTS and field.is_required()) or flag(name) in parameter.opts
        if number:
            value = 20 if int in kinds or verb == "clean" else 0.5
            said = asked(VERBS[verb], needed(VERBS[verb]) | {name: value})
            assert getattr(said, name) == value


def needed(request: type[Request]) -> dict[str, Any]:
    required = (name for name, field in request.model_fields.items() if field.is_required())
    return {name: "1" if name == "version" else "x" for name in required}


def flows() -> dict[str, tuple[Any, list[type[Request]]]]:
    from genpipe.flows import clean, generate, ingest, promote, train, tune

    return {
        "clean": (clean.clean, [Clean]),
        "ingest": (ingest.ingest, [Ingest]),
        "train": (train.train, [Train]),
        "tune": (tune.tune, [Tune]),
        "promote": (promote.promote, [Evaluate, Register]),
        "generate": (generate.generate, [Generate]),
    }


@pytest.mark.parametrize("verb", ["clean", "ingest", "train", "tune", "promote", "generate"])
def test_the_flows_ask_for_the_same(verb: str) -> None:
    flow, models = flows()[verb]
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    found = flow.parameters.properties
    schemas = {k: v for m in models for k, v in m.model_json_schema(by_alias=False)["properties"].items()}
    assert found.keys() - OWN.get(("flow", verb), {"progress"}) == fields.keys()
    for name, field in fields.items():
        assert found[name]["description"] == field.description, name
        if ("flow", verb, name) in DIFFERS:
            continue
        assert bare(found[name]) == bare(schemas[name]), name
        assert (name in (flow.parameters.required or [])) == field.is_required(), name


@pytest.mark.parametrize(("section", "request_"), SECTIONS, ids=lambda model: model.__name__)
def test_a_spec_asks_for_the_same(section: type[BaseModel], request_: type[Request]) -> None:
    verb = request_.__name__.lower()
    shared = section.model_fields.keys() & request_.model_fields.keys()
    assert len(shared) >= 3
    for name in shared:
        if ("spec", verb, name) in DIFFERS:
            continue
        ours, theirs = section.model_fields[name], request_.model_fields[name]
        assert (ours.annotation, ours.metadata) == (theirs.annotation, theirs.metadata), name
        assert (default_of(ours), ours.description) == (default_of(theirs), theirs.description), name


def test_what_deployments_are_given_is_checked_as_it_was() -> None:
    """Names, types, limits and defaults of version 0.2, which schedules and `-p name=value` rely on."""
    from genpipe.flows import pipeline, tables

    now = {name: flow for name, (flow, _) in flows().items()}
    now |= {"pipeline": pipeline.pipeline, "tables": tables.tables, "generate-tables": tables.generate_tables}
    before = json.loads((Path(__file__).parents[1] / "fixtures/flow_parameters.json").read_text())
    added = {
        "ingest": {"workers", "on_bad_file", "max_bad", "min_rows"},
        "train": {"by", "final", "from_model"},
        "generate": {"top_k", "top_p", "no_repeat", "no_copies"},
        "promote": {"rows", "real_examples", "folds", "despite", "allow"},
    }
    more = {"type": "object", "additionalProperties": True}  # a recipe of one's own beside a name
    before["tune"]["properties"]["recipes"]["anyOf"][0]["items"] = {"anyOf": [{"type": "string"}, more]}
    assert now.keys() - before.keys() == {"clean"}
    for name, flow in ((name, now[name]) for name in before):
        found = {k: bare(v) for k, v in flow.parameters.properties.items()}
        assert found.keys() - before[name]["properties"].keys() == added.get(name, set())
        assert {k: found[k] for k in before[name]["properties"]} == before[name]["properties"], name
        assert flow.parameters.required == before[name]["required"]


def bare(schema: Any) -> Any:
    """A property without its help and its place on the screen."""
    return {k: v for k, v in schema.items() if k not in ("description", "position", "title")}


LIMITS = [
    ("generate", {"model": "m", "rows": 0}, "rows: 0; expected a whole number from 1"),
    (
        "generate",
        {"model": "m", "rows": 5, "temperature": 0.0},
        "temperature: 0.0; expected a number above 0",
    ),
    ("generate", {"model": "m", "rows": 5, "workers": -1}, "workers: -1; expected a whole number from 0"),
    ("train", {"dataset": "d/d", "seed": -1}, "seed: -1; expected a whole number from 0; leave it out for 0"),
    ("train", {"dataset": "d/d", "workers": -1}, "workers: -1; expected a whole number from 0"),
    ("train", {"dataset": "d/d", "minutes": -0.5}, "minutes: -0.5; expected a number above 0"),
    (
        "tune",
        {"dataset": "d/d", "trials": 0},
        "trials: 0; expected a whole number from 1; leave it out for",
    ),
    ("ingest", {"source": "s", "holdout": 1.0}, "holdout: 1.0; expected a number from 0 to below 1"),
    ("ingest", {"source": "s", "max_bad": 1.5}, "max_bad: 1.5; expected a number from 0 to 1; leave it out"),
    ("evaluate", {"model": "m", "rows": 1}, "rows: 1; expected a whole number from 2; leave it out"),
    ("register", {"model": "m", "unchecked": "why"}, "unchecked: 'why'; expected a reason, of 8 to 500"),
]


@pytest.mark.parametrize(("verb", "given", "message"), LIMITS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_limit_is_the_same_in_the_library_and_on_the_command_line(
    verb: str, given: dict[str, Any], message: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, *rest = given.items()
    with pytest.raises(UsageError, match=message):
        getattr(genpipe, verb)(first[1], **dict(rest))
    assert execute([verb, first[1], *(f"{flag(name)}={value}" for name, value in rest)]) == 2
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not home.exists()


def test_o_is_another_spelling_of_a_parameter() -> None:
    said = asked(Ingest, {"source": ["x.csv"], "options": ["min-rows=5", "max_bad=0.5", "delimiter=;"]})
    assert (said.min_rows, said.max_bad, said.options) == (5, 0.5, {"delimiter": ";"})
    typed = {"source": ["x.csv"], "min_rows": 20, "on_bad_file": "fail"}  # what was not typed has its default
    said = asked(Ingest, typed | {"options": ["min_rows=5", "on_bad_file=skip"]})
    assert (said.min_rows, said.on_bad_file, said.options) == (5, "skip", {})
    with pytest.raises(UsageError, match=r"said twice.*say it once, with --min-rows"):
        asked(Ingest, {"source": ["x.csv"], "min_rows": 6, "options": ["min_rows=5"]})
    with pytest.raises(UsageError, match="max_bad"):
        asked(Ingest, {"source": ["x.csv"], "options": ["max_bad=x"]})


@pytest.mark.parametrize(
    ("verb", "name"),
    [(v, n) for v in ("ingest", "impute", "likelihood") for n in ("options", "progress")]
    + [("ingest", "source"), ("impute", "model"), ("likelihood", "model")],
)
def test_an_option_that_is_an_argument_is_refused(
    verb: str, name: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = [verb, "builtin:titanic"] if verb == "ingest" else [verb, "m", "x.csv"]
    assert execute([*first, "-o", f"{name}=0.3"]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith(f"genpipe: error [E-OPTION] {name}: ")
    if name not in ("options", "progress"):
        assert last.endswith(f"say it as the argument {name}")
    assert not home.exists()


def test_options_of_a_source_hold_no_parameter_either() -> None:
    with pytest.raises(UsageError, match="options: 'holdout', which is a parameter of ingest; expected"):
        Ingest.of(source="a.csv", options={"holdout": 0.3})
    assert Ingest.of(source="a.csv", options={"entity": "sensor"}).options == {
        "entity": "sensor"
    }  # of series


@pytest.mark.parametrize(
    ("old", "new", "rest"),
    [("train-tables", "train", ["none.yaml"]), ("generate-tables", "generate", ["m", "--rows", "0"])],
)
def test_an_earlier_name_works_and_says_so(
    old: str, new: str, rest: list[str], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert COMMANDS[old].hidden
    assert execute([new, *rest]) == 2
    now = capfd.readouterr().err.splitlines()
    assert execute([old, *rest]) == 2
    then = capfd.readouterr().err.splitlines()
    assert then[0] == f"genpipe: {old} is now called {new}; the old name goes with the next version"
    assert then[-1] == now[-1]


def test_related_tables_refuse_what_they_do_not_have(home: Path) -> None:
    with pytest.raises(UsageError, match=r"seed: 3 for related tables; .*; say it in the spec"):
        genpipe.train("shop.yaml", seed=3)
    with pytest.raises(UsageError, match=r"tag: 'x' for related tables"):
        genpipe.train({"name": "shop", "tables": {}}, tag="x")
    with pytest.raises(UsageError, match=r"the spec of a pipeline; expected one of .*; genpipe run"):
        genpipe.train({"name": "people", "source": {"path": "people.csv"}})


def test_a_request_is_what_decides_the_bytes() -> None:
    """A new parameter is part of the id of a run unless its request says that it does not matter."""
    assert Train.of(dataset="d", minutes=5).identity() == {"seed": 0, "minutes": 5, "tag": ""}
    assert type(Train.of(dataset="d", minutes=5).minutes) is int  # 5 and 5.0 are two ids
    assert Generate.of(model="m", rows=3, workers=2, output="o", name="n").identity().keys() == {
        "rows", "conditions", "temperature", "seed", "rows_per_part", "tag",
    }  # fmt: skip
    for request in VERBS.values():
        assert request.aside <= request.model_fields.keys()
        with pytest.raises(ValueError, match="frozen"):
            request.of(**needed(request)).model = "x"  # type: ignore[attr-defined]


def test_several_problems_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"2 problems\n  workers: -1; expected .*\n  seed: 1\.5; expected"):
        Train.of(dataset="d", workers=-1, seed=1.5)
    with pytest.raises(UsageError, match=r"rows\.products: 0; expected a whole number from 1"):
        Generate.of(model="m", rows={"products": 0})
    with pytest.raises(UsageError, match=r"sed: unknown key; .*did you mean 'seed'"):
        Train.of(dataset="d", sed=1)


def test_every_verb_of_the_library_is_one_of_these() -> None:
    assert {name for name in VERBS if name != "run"} <= {*dir(verbs), *dir(latent_verbs), *dir(upkeep_verbs)}
    assert all(issubclass(getattr(requests, request.__name__), Request) for request in VERBS.values())


@pytest.mark.parametrize("rows", [np.int64(1000), np.int32(1000), 1e3, "1e3", "1_000", "1,000", 1000])
def test_whole_numbers_are_taken_as_people_and_libraries_write_them(rows: object) -> None:
    asked_for = requests.Generate.of(model="m", rows=rows, seed=None)
    assert (asked_for.rows, type(asked_for.rows), asked_for.seed) == (1000, int, 0)


@pytest.mark.parametrize("rows", [2.5, "2.5", "10,00", "many", True, float("nan"), "1_00", np.float64(0.5)])
def test_what_is_no_whole_number_is_refused(rows: object) -> None:
    with pytest.raises(UsageError, match=r"rows: .*expected a whole number from 1"):
        requests.Generate.of(model="m", rows=rows)
