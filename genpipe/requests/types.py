"""The types of what is asked for, each with its limits: the only place where a limit stands.

Lower limits are pydantic's, so that JSON schemas, `--help` and deployments show them. What is checked by a
function (names, places, reasons, upper limits that nobody meets) is checked wherever a request is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from genpipe.databases import Address, is_database
from genpipe.errors import UsageError, refuse_keys


def complaint(found: str, expected: str, fix: str = "", *, code: str = "VALUE") -> PydanticCustomError:
    """A complaint in the three parts every error of ours has, through pydantic."""
    text = f"{found}; expected {expected}" + (f"; {fix}" if fix else "")
    return PydanticCustomError(
        "complaint", "{text}", {"text": text, "found": found, "expected": expected, "fix": fix, "code": code}
    )


def _own(error: UsageError) -> PydanticCustomError:
    return complaint(error.found, error.expected, error.fix, code=error.code)


def _name(text: str) -> str:
    from genpipe.store import check_name

    try:
        return check_name(text)
    except UsageError as error:
        raise _own(error) from None


def _place(uri: str) -> str:
    try:
        refuse_keys(uri)
    except UsageError as error:
        raise _own(error) from None
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", uri)
    if scheme and not re.match(r"(s3|file)://[^/]", uri):
        raise complaint(repr(uri[:60]), "a local path or s3://bucket/prefix")
    if not uri.strip() or "\0" in uri or len(uri) > 4096:
        raise complaint("an empty or impossible path", "a local path or s3://bucket/prefix")
    return os.path.expanduser(uri)  # a shell leaves the ~ of --output=~/x as it is


def _data(uri: str) -> str:
    if not is_database(uri):
        return _place(uri)
    try:
        Address.parse(uri)
    except UsageError as error:
        raise _own(error) from None
    return uri


def _some_places(places: tuple[str, ...]) -> tuple[str, ...]:
    if not places:
        raise complaint("no source", "a file, folder, glob, s3:// prefix, database or builtin:NAME")
    if len(places) > 1 and any(map(is_database, places)):
        raise complaint("several sources, one a database", "one database", "join its tables with query=")
    return places


def _column(text: str) -> str:
    if not text:
        raise complaint("an empty text", "the name of a column")
    return text


def _some_recipes(recipes: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if recipes == ():
        raise complaint("no recipe", "at least one", "leave it out for all")
    return recipes


def _reason(text: str) -> str:
    if not 8 <= len(text.strip()) <= 500:
        raise complaint(repr(text[:60]), "a reason, of 8 to 500 characters")
    return text.strip()


def _version(text: str) -> str:
    if text != "previous" and not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise complaint(repr(text[:60]), "the number of a version, or 'previous'")
    return text


def _several(value: Any) -> Any:
    """One text is a tuple of it."""
    return (value,) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """A model (such as a Recipe) or another mapping as the mapping that YAML would hold."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return dict(value) if isinstance(value, Mapping) else value


def _whole(value: Any) -> Any:
    """A whole number as people and libraries write it: np.int64(5), 1e6, "1e6", "1_000", "1,000"."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}([,_][0-9]{3})+|[0-9]+[eE]\+?[0-9]{1,2}", value):
        value = float(value.replace(",", "").replace("_", ""))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, bool | int) or not hasattr(value, "__index__") else int(value)


def _days(value: Any) -> Any:
    """Days as people write them: 90, "90d", "12w"."""
    if isinstance(value, str):
        written = re.fullmatch(r" *([0-9]{1,6}) ?(d|days?|w|weeks?)? *", value)
        if written is None:
            raise complaint(repr(value[:60]), "days, such as 90, 90d or 12w")
        return float(written[1]) * (7 if (written[2] or "d").startswith("w") else 1)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _most(limit: float) -> AfterValidator:
    def check(value: Any) -> Any:
        if value > limit:
            raise complaint(str(value), f"at most {limit}")
        return value

    return AfterValidator(check)


WHOLE = BeforeValidator(_whole)
WHOLE_OR_NONE = BeforeValidator(lambda value: 0 if value is None else _whole(value))
Name = Annotated[str, AfterValidator(_name)]
Place = Annotated[str, AfterValidator(_place)]
Data = Annotated[str, AfterValidator(_data)]  # a place, or a database
Places = Data | Annotated[tuple[Data, ...], AfterValidator(_some_places)]
Column = Annotated[str, AfterValidator(_column)]
ColumnsOrNone = Annotated[tuple[Column, ...] | None, BeforeValidator(_several)]
Reason = Annotated[str, AfterValidator(_reason)]
ReasonOrNone = Annotated[str, AfterValidator(lambda text: _reason(text) if text else "")]
RecipeOrNone = Annotated[str | dict[str, Any] | None, BeforeValidator(_plain)]
OneRecipe = Annotated[str | dict[str, Any], BeforeValidator(_plain)]
RecipesOrNone = Annotated[tuple[OneRecipe, ...] | None, AfterValidator(_some_recipes)]
Version = Annotated[
    str, BeforeValidator(lambda v: str(v) if isinstance(v, int) else v), AfterValidator(_version)
]
Rows = Annotated[int, Field(strict=True, ge=1), WHOLE, _most(10**12)]
Judged = Annotated[int, Field(strict=True, ge=2), WHOLE, _most(10**9)]
Seed = Annotated[int, Field(strict=True, ge=0), WHOLE_OR_NONE, _most(2**63 - 1)]
Workers = Annotated[int, Field(strict=True, ge=0), WHOLE, _most(4096)]
By = Literal["entity", "row"]
Final = Literal["train", "all"]
Clusters = Annotated[int, Field(strict=True, ge=2), WHOLE, _most(1000)]
Step = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]  # of codes
Strength = Annotated[float, Field(strict=True, allow_inf_nan=False), _most(1000)]
Steps = Annotated[int, Field(strict=True, ge=2), WHOLE, _most(1000)]
Ways = Annotated[int, Field(strict=True, ge=1), WHOLE, _most(100_000)]
Trials = Annotated[int, Field(strict=True, ge=1), WHOLE, _most(10_000)]
Folds = Annotated[int, Field(strict=True, ge=0), WHOLE, _most(1000)]
Minutes = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False), _most(60 * 24 * 30)]
Hours = Annotated[float, Field(strict=True, ge=1, allow_inf_nan=False)]
Days = Annotated[float, Field(strict=True, ge=1, allow_inf_nan=False)]
Kept = Annotated[int, Field(strict=True, ge=1), WHOLE, _most(10**6)]
Age = Annotated[Days, BeforeValidator(_days)]
Temperature = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
TopK = Annotated[int, Field(strict=True, ge=1), WHOLE, _most(2**31)]
TopP = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Copied = Annotated[int, Field(strict=True, ge=16), WHOLE, _most(2**20)]  # characters
TokenRun = Annotated[int, Field(strict=True, ge=2), WHOLE, _most(2**20)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Holdout = Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]


def _current(word: object) -> object:
    return "likelihood" if word == "score" else word  # its earlier name


Permission = Annotated[Literal["likelihood", "impute", "latent"], BeforeValidator(_current)]
