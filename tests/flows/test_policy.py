"""Retries only where they help; results remembered by content; parameters checked before anything runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from genpipe.errors import DataError, GenpipeError, InfrastructureError


def failing(error: GenpipeError, times: int) -> tuple[Any, list[str]]:
    """A flow of one step that fails `times` times; the list holds the name of the thread of each attempt."""
    from prefect import flow

    from genpipe.flows.policy import step

    attempts: list[str] = []

    @step("flaky")
    def flaky() -> str:
        attempts.append(threading.current_thread().name)
        if len(attempts) <= times:
            raise error
        return "done"

    @flow(name="retries")
    def retries() -> str:
        return flaky.with_options(retry_delay_seconds=0)()

    return retries, attempts


def test_infrastructure_errors_are_tried_again_in_the_main_thread(api: Path) -> None:
    run, attempts = failing(InfrastructureError("STORE", found="no answer"), times=2)
    assert run() == "done"
    # Ray may only be started from the main thread, so steps must run there
    assert attempts == ["MainThread"] * 3


def test_bad_data_is_not_tried_again(api: Path) -> None:
    run, attempts = failing(DataError("RAGGED", where="a.csv:3", found="2 cells"), times=1)
    with pytest.raises(DataError, match=r"a\.csv:3: 2 cells"):
        run()
    assert len(attempts) == 1


def test_a_remembered_result_that_is_gone_is_made_again(api: Path) -> None:
    from prefect import flow

    from genpipe.flows.policy import remembered, step

    made: list[int] = []
    gone: set[int] = set()

    @step("count", cached=True)
    def count(dataset: str, *, number: int) -> dict[str, int]:
        made.append(number)
        return {"id": len(made)}

    @flow(name="memory")
    def memory(number: int) -> dict[str, int]:
        return remembered(count, lambda result: result["id"] not in gone, dataset="", number=number)

    assert memory(7) == memory(7) == {"id": 1}
    assert memory(8) == {"id": 2}
    gone.add(1)
    assert memory(7) == {"id": 3}
    assert made == [7, 8, 7]


@pytest.mark.parametrize(
    ("message", "parameters"),
    [
        ("rows: '?ten'?; expected a whole number from 1", {"rows": "ten"}),
        ("rows: 0; expected a whole number from 1", {"rows": 0}),
        ("seed: -1; expected a whole number from 0; leave it out for 0", {"rows": 5, "seed": -1}),
        ("temperature: 0; expected a number above 0", {"rows": 5, "temperature": 0}),
    ],
)
def test_a_parameter_of_the_wrong_type_is_refused(
    api: Path, message: str, parameters: dict[str, Any]
) -> None:
    from prefect.exceptions import ParameterTypeError

    from genpipe.flows.generate import generate

    with pytest.raises(ParameterTypeError, match=message):
        generate(model="models:/nobody@champion", **parameters)
