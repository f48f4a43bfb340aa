"""What a registered generator answers: requests within limits, and errors that say what to change.

`Served` is what MLflow's `load_model` and `models serve` call; a subclass says what a request costs
(`weigh`) and makes the rows. Whatever goes wrong becomes an MlflowException: one line of bounded length,
status 400 where the request is to blame, and else 500 without the cause, which is in the log. In a scoring
server a request passes `gate.py` before MLflow reads it.
"""

from __future__ import annotations

import json
import logging
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, CANCELLED, INTERNAL_ERROR
from mlflow.pyfunc import PythonModel
from mlflow.tracking import is_tracking_uri_set

from genpipe.bundle import Bundle
from genpipe.errors import DataError, GenpipeError, QualityError, UsageError, unknown
from genpipe.settings import serve_limits

MAX_NUMBER = 2**63 - 1
LONGEST, LONGEST_TEXT = 1000, 2**16  # characters of an error, and of one text in a request
FORMATS = ("dataframe_split", "dataframe_records")
gone: ContextVar[threading.Event | None] = ContextVar("gone", default=None)
log = logging.getLogger(__name__)


class Unwanted(Exception):
    """Nobody waits for the reply any more."""


def go_on() -> None:
    """Raise Unwanted where the client has gone or MLflow has given it up; called between two blocks."""
    if (event := gone.get()) is not None and event.is_set():
        raise Unwanted


class Watched(Bundle):
    """A bundle that stops drawing when nobody waits."""

    def draw(self, *args: Any, **options: Any) -> Any:
        go_on()
        return super().draw(*args, **options)


class Served(PythonModel):
    """defaults: of the parameters of `predict`; there are no others."""

    defaults: Mapping[str, Any]

    @abstractmethod
    def weigh(self, columns: Sequence[str], rows: int, asked: Mapping[str, Any]) -> float:
        """Blocks to draw for a frame of `rows` rows and these parameters; a UsageError where it cannot be."""

    @abstractmethod
    def make(self, frame: pd.DataFrame, asked: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of a request that `weigh` has let through."""

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        with answering():
            frame = pd.DataFrame() if model_input is None else pd.DataFrame(model_input)
            asked = self.asked(params)
            self.weigh(_names(list(frame.columns)), len(frame), asked)
            return self.make(frame, asked)

    def asked(self, params: Any) -> dict[str, Any]:
        """Checked parameters with the defaults of those that are absent."""
        if not isinstance(params, Mapping | None):
            raise UsageError(
                "PARAMS", where="params", found=f"a {type(params).__name__}", expected="an object"
            )
        for name, value in (params or {}).items():
            where = f"params: {str(name)[:80]}"
            if name not in self.defaults:
                raise unknown("parameter", str(name)[:80], self.defaults, where="params")
            if isinstance(self.defaults[name], int):
                _check_whole(value, 1 if name == "rows" else 0, where)
            elif not isinstance(value, str) or len(value) > LONGEST_TEXT:
                found = f"{len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"
                raise UsageError(
                    "PARAMS", where=where, found=found, expected=f"text of at most {LONGEST_TEXT}"
                )
        return {**self.defaults, **(params or {})}

    def weigh_body(self, body: bytes) -> float:
        """What the JSON of a request asks for, before MLflow makes a frame of it."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError) as error:
            found = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise UsageError("JSON", where="request", found=found, expected="a JSON object") from None
        if not isinstance(told, dict):
            raise UsageError("JSON", where="request", found=f"a {type(told).__name__}", expected="an object")
        for key in told:
            if key not in (*FORMATS, "params"):
                raise unknown("key", key[:80], (*FORMATS, "params"), where="request")
        if sum(name in told for name in FORMATS) != 1:
            found = "both" if FORMATS[0] in told else "neither"
            raise UsageError(
                "FRAME", where="request", found=found, expected="one of " + " and ".join(FORMATS)
            )
        columns, rows = _split(told[FORMATS[0]]) if FORMATS[0] in told else _records(told[FORMATS[1]])
        return self.weigh(columns, rows, self.asked(told.get("params")))


def check_limits(rows: float, cells: float) -> None:
    """Raise a UsageError where one request may not ask for so much."""
    limits, fix = serve_limits(), "ask several times with other seeds, or use `genpipe generate`"
    for what, number, most in (("rows", rows, limits.rows), ("cells", cells, limits.cells)):
        if number > most:
            raise UsageError(
                "LIMIT",
                where="request",
                found=f"{number:.0f} {what}" if number < 1e30 else f"far too many {what}",
                expected=f"at most {most} (GENPIPE_SERVE_MAX_{what.upper()} of the server)",
                fix=fix,
            )


def check_columns(columns: Sequence[str], allowed: Sequence[str]) -> None:
    seen = set[str]()
    for name in columns:
        if name not in allowed:
            raise unknown("column", name[:80], allowed, where="frame")
        if name in seen:
            raise UsageError("FRAME", where="frame", found=f"column {name!r} twice", expected="each once")
        seen.add(name)


def check_published(context: Any, fingerprint: str) -> None:
    """Compare what was opened with what was published: as noted beside it, and with the tag of the tracking
    server, where one is named and knows the model.

    Raises DataError. Who may write the model's folder may write this code too: `genpipe generate models:/..`
    compares without running anything from the registry.
    """
    noted = getattr(context, "model_config", None) or {}
    expected = {noted["bundle_fingerprint"]} if "bundle_fingerprint" in noted else set()
    if noted.get("model_id") and is_tracking_uri_set():
        try:
            tags = MlflowClient().get_logged_model(noted["model_id"]).tags
            expected |= {tags["bundle_fingerprint"]} if "bundle_fingerprint" in tags else set()
        except MlflowException as error:
            log.warning("not compared with the tracking server: %s", " ".join(str(error).split())[:200])
    if expected - {fingerprint}:
        found = f"a model with fingerprint {fingerprint}"
        raise DataError(
            "SHA256", where="model", found=found, expected=" and ".join(sorted(map(str, expected)))
        )


@contextmanager
def answering() -> Iterator[None]:
    """Every error as MLflow's, short, with the status it deserves."""
    try:
        yield
    except MlflowException:
        raise
    except Unwanted:
        raise MlflowException("nobody waits for this any more", CANCELLED) from None
    except GenpipeError as error:
        if isinstance(error, UsageError) or (isinstance(error, QualityError) and error.code == "RARE"):
            raise MlflowException(shortened(f"[E-{error.code}] {error}"), BAD_REQUEST) from error
        raise _failed(error.code) from error
    except Exception as error:
        raise _failed("INTERNAL") from error


def _failed(code: str) -> MlflowException:
    log.exception("E-%s", code)
    return MlflowException(f"[E-{code}] the model could not answer; its log says why", INTERNAL_ERROR)


def shortened(text: str) -> str:
    """One line; of a long text its beginning and its end, where the remedy is."""
    text = " ".join(text[: 2 * LONGEST].split()) + text[2 * LONGEST :]
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 300]} .. ({len(text)} characters) .. {' '.join(text[-250:].split())}"


def _check_whole(value: Any, smallest: int, where: str) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and smallest <= value <= MAX_NUMBER:
        return
    found = "a number of far too many digits" if whole and value.bit_length() > 200 else repr(value)
    expected = f"a whole number from {smallest} to {MAX_NUMBER}"
    raise UsageError("NUMBER", where=where, found=found, expected=expected)


def _split(told: Any) -> tuple[list[str], int]:
    """(columns, rows) of {"columns": [..], "data": [[..], ..]}."""
    if not isinstance(told, dict) or not set(told) <= {"columns", "data", "index"}:
        raise _frame(FORMATS[0], "an object of columns and data")
    names, rows = told.get("columns") or [], told.get("data")
    if not isinstance(names, list) or not isinstance(rows, list):
        raise _frame(FORMATS[0], "lists as columns and data")
    if any(not isinstance(row, list) or len(row) != len(names) for row in rows):
        raise _frame(FORMATS[0], f"rows of as many values as there are columns: {len(names)}")
    for row in rows:
        _check_values(row)
    return _names(names), len(rows)


def _records(told: Any) -> tuple[list[str], int]:
    """(columns, rows) of [{column: value, ..}, ..]."""
    if not isinstance(told, list) or any(not isinstance(row, dict) for row in told):
        raise _frame(FORMATS[1], "a list of objects")
    names = dict[str, None]()
    for row in told:
        _check_values(row.values())
        names |= dict.fromkeys(row)
    return list(names), len(told)


def _check_values(values: Any) -> None:
    for value in values:
        if isinstance(value, list | dict) or (isinstance(value, str) and len(value) > LONGEST_TEXT):
            raise _frame("a value of the frame", f"a number, a boolean or text of at most {LONGEST_TEXT}")


def _names(names: Sequence[Any]) -> list[str]:
    for name in names:
        if not isinstance(name, str):
            raise _frame("a column's name", "text")
    return list(names)


def _frame(where: str, expected: str) -> UsageError:
    return UsageError("FRAME", where=where, found="something else", expected=expected)
