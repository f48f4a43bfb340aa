"""Every verb's request: what may be asked, with names, types, defaults, limits and help, written once.

From these the command line takes its options (genpipe/cli/options.py), the flows their parameters
(genpipe/requests/signature.py), a spec its sections (genpipe/pipeline/spec.py) and a run its identity. The
functions of genpipe/verbs.py repeat the names, for editors; tests/unit/test_requests.py compares them all.

A class `X` that a spec shares with a verb holds the middle of the verb's parameters; `XOf` what comes first.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError, field_validator
from pydantic import Field as About

from genpipe.errors import keys_in_uri
from genpipe.kinds import DataKind
from genpipe.redaction import secrets_in
from genpipe.requests.types import (
    By,
    Column,
    ColumnsOrNone,
    Data,
    Final,
    Flag,
    Folds,
    Holdout,
    Judged,
    Minutes,
    Name,
    Permission,
    Place,
    Places,
    ReasonOrNone,
    RecipeOrNone,
    RecipesOrNone,
    Rows,
    Seed,
    Share,
    Trials,
    Workers,
    complaint,
)
from genpipe.requests.words import usage_error
from genpipe.yaml_file import dotted


class Part(BaseModel):
    """Something asked for: it never changes, and holds nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


class Request(Part):
    """What one verb is asked.

    aside: parameters that say of what, where or how; the others decide the bytes of the result.
    later: parameters of a later version: where they are not said, the id of a request is as it was.
    """

    aside: ClassVar[frozenset[str]] = frozenset()
    later: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def of(cls, **given: Any) -> Self:
        """A request, or the UsageError that says what was given, what is allowed and what to do."""
        for path in secrets_in(given):  # a tag or a reason is kept and shown as much as a place is
            raise keys_in_uri(dotted(path))
        try:
            made = cls.model_validate(given)
        except ValidationError as error:
            raise usage_error(error, cls) from None
        # the id of a run tells 5 minutes from 5.0, so a whole number stays what it was
        whole = {k: v for k, v in given.items() if type(v) is int and isinstance(getattr(made, k), float)}
        return made.model_copy(update=whole)

    def identity(self) -> dict[str, Any]:
        """What the bytes of the result depend on, beside the data and the code."""
        told = self.model_dump(exclude=set(self.aside))
        return {name: value for name, value in told.items() if value is not None or name not in self.later}


SEED = About(default=0, description="Root of all randomness: same seed, same result.")
OUTPUT = About(default=None, description="Folder, file, s3:// prefix or database; by default in the store.")
NAMED = "A name (its champion, else its last run), name@3, models:/name@champion or a run's folder"
MODEL = About(description=f"{NAMED}; also of related tables.")
DATASET = About(description="A dataset's name, the file it was ingested from, or its folder.")
TABLE_MODEL = About(description=f"{NAMED}.")
TABLE_ROWS = About(description="A table: file, folder, glob, s3:// or database.")
OPTIONS = About(default=None, description="Options of this kind of source: delimiter, size, window, ...")


class IngestOf(Request):
    """What is read."""

    source: Places = About(description="File, folder, glob, s3://, database or builtin:digits; or several.")
    name: Name | None = About(default=None, description="What to call it; by default after its source.")


class Reading(Request):
    """How raw data is read."""

    kind: DataKind | None = About(default=None, description="tabular, image, series, text, audio; inferred.")
    target: Column | None = About(default=None, description="The label column.")
    key: ColumnsOrNone = About(
        default=None, description="Columns whose rows stay in one split; by default the entity, or the row."
    )
    entity: Column | tuple[Column, ...] | None = About(
        default=None,
        description="Columns that name whom rows are about, or one series from the next, if not found; "
        "'none: REASON' where rows are about nobody.",
    )
    holdout: Holdout = About(default=0.2, description="Share of rows set aside and never trained on.")
    schema_file: Place | None = About(
        default=None, alias="schema", description="An edited schema file to obey."
    )
    options: dict[str, Any] | None = OPTIONS
    workers: Workers | None = About(
        default=None, description="0: this process, else Ray tasks; by default Ray where much is to be read."
    )
    on_bad_file: Literal["fail", "skip"] = About(
        default="fail", description="What becomes of files that cannot be read."
    )
    max_bad: Share = About(default=0.01, description="Share of the files that may be skipped.")
    min_rows: Rows = About(default=20, description="Fewer rows are refused: a model would repeat them.")


class Ingest(Reading, IngestOf):
    """Raw data -> a dataset."""

    @field_validator("options")
    @classmethod
    def _sources_own(cls, options: dict[str, Any] | None) -> dict[str, Any] | None:
        """`entity` is an option of series, too."""
        names = {*cls.model_fields, "schema", "progress"} - {"entity"}
        if taken := sorted(names & set(options or {})):
            found = f"{taken[0]!r}, which is a parameter of ingest"
            raise complaint(
                found, "options of the source", f"say {taken[0]} beside the options", code="OPTION"
            )
        return options


class TrainOf(Request):
    """What is learnt, and how."""

    dataset: str = About(description="A dataset's name, the file it is from, or a spec of related tables.")
    recipe: RecipeOrNone = About(
        default=None,
        description="A recipe's name, or a YAML file of changes to one; by default the kind's.",
    )


class Fit(Request):
    """How a training runs."""

    workers: Workers = About(default=0, description="Ray Train workers; 0 trains in this process.")
    seed: Seed = SEED
    minutes: Minutes | None = About(default=None, description="Stop after so long, keep the best.")
    by: By | None = About(default=None, description="Learn entity by entity, if there are any, or by row.")
    final: Final = About(default="train", description="all: a twin is judged, then all rows are learnt.")
    from_model: str | None = About(
        default=None,
        validation_alias=AliasChoices("from", "from_model"),
        description="A model to go on from, as models:/NAME@champion: its codec, its networks, its weights.",
    )


class Train(Fit, TrainOf):
    """A dataset -> a generator."""

    aside = frozenset({"dataset", "recipe", "workers", "name", "by", "final", "from_model"})
    name: Name | None = About(default=None, description="What to call it; by default as its dataset.")
    tag: str = About(default="", description="Any text; makes an equal request another run.")


class TuneOf(Request):
    """What a search looks at."""

    dataset: str = DATASET


class Budget(Request):
    """What a search may try, and how much."""

    recipes: RecipesOrNone = About(default=None, description="Search these; by default all of the kind.")
    vary: dict[str, Any] | None = About(
        default=None,
        description='Parameter -> values, ["hinge", "wasserstein"], or range; by default the declared.',
    )
    trials: Trials = About(default=8, description="Trials at most.")
    minutes: Minutes | None = About(default=None, description="Minutes at most.")
    workers: Workers = About(
        default=0, description="Ray Train workers of each trial; 0: the trial's own process."
    )


class Tune(Budget, TuneOf):
    """A dataset -> the best recipe of a search."""

    seed: Seed = SEED
    name: Name | None = About(default=None, description="What to call it; by default as its dataset.")


class Evaluate(Request):
    """A generator -> a report of how good and how private it is."""

    aside = frozenset({"model", "dataset"})
    model: str = MODEL
    dataset: str | None = About(
        default=None, description="By default the one it learnt from; of related tables another such model."
    )
    rows: Judged | None = About(
        default=None, description="Generated rows to judge; of related tables those without parents."
    )
    seed: Seed = SEED
    real_examples: Flag = About(
        default=False, description="Show held-out pictures, series, clips: for you alone."
    )
    folds: Folds | None = About(
        default=None, description="Of few entities: models to judge by those each has not seen; 0: never."
    )


class Register(Request):
    """A generator -> a version in the registry."""

    model: str = MODEL
    name: Name | None = About(
        default=None, description="The name consumers load, models:/NAME@champion; by default the run's."
    )
    despite: ReasonOrNone = About(
        default="", description="Why one that copies or leaks is published all the same; recorded for all."
    )
    unchecked: ReasonOrNone = About(
        default="", description="Why one that too few entities can tell of is; recorded for all to see."
    )
    allow: tuple[Permission, ...] = About(
        default=(),
        description="What consumers may do with it beside generating: likelihood, impute, latent.",
    )


class Likelihood(Request):
    """A generator and rows -> how likely each row is."""

    model: str = TABLE_MODEL
    source: Data = TABLE_ROWS
    output: Data | None = OUTPUT
    name: Name | None = About(default=None, description="What to call it; by default after its model.")
    options: dict[str, Any] | None = OPTIONS


class Impute(Request):
    """A generator and rows with gaps -> rows without."""

    model: str = TABLE_MODEL
    source: Data = TABLE_ROWS
    output: Data | None = OUTPUT
    seed: Seed = SEED
    name: Name | None = About(default=None, description="What to call it; by default after its model.")
    options: dict[str, Any] | None = OPTIONS


class Run(Request):
    """A spec -> everything in it."""

    spec: str = About(description="A pipeline spec (YAML), see examples/; also one of related tables.")
    tag: str = About(default="", description="Any text; trains and generates again under it.")
