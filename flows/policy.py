"""How a step fails, is tried again, and is remembered; and who listens to its progress.

Steps hand each other references (URIs, versions, small JSON), and every stage is idempotent: trying again is
safe, and a remembered result is a reference to something that still exists, or the step runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from functools import wraps
from typing import Any

from prefect import get_run_logger, task
from prefect.exceptions import MissingContextError

from genpipe import store
from genpipe.dataset import Dataset
from genpipe.errors import GenpipeError, InfrastructureError
from genpipe.progress import Event, Progress, throttled
from genpipe.redaction import guard_logs, redact, shown
from genpipe.settings import read_settings
from genpipe.version import __version__

HOURS = 3600.0
_listener: ContextVar[Progress | None] = ContextVar("listener", default=None)


def transient(task: Any, task_run: Any, state: Any) -> bool:
    """Only trouble with a store, server or cluster passes by itself; bad data or a bad model does not."""
    try:
        state.result()
    except InfrastructureError:
        return True
    except BaseException:
        return False
    return False


def step(name: str, *, hours: float = 2.0, cached: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """A Prefect task with our policy. hours: time limit. cached: remember the result by fingerprint."""
    memory: dict[str, Any] = (
        {"cache_key_fn": by_fingerprint(name), "cache_expiration": timedelta(days=30)} if cached else {}
    )

    def decorate(function: Callable[..., Any]) -> Any:
        @wraps(function)
        def guarded(*args: Any, **parameters: Any) -> Any:
            guard_logs()
            try:
                return function(*args, **parameters)
            except GenpipeError:
                raise
            except Exception as error:
                told = redact(str(error))
                if told == str(error):
                    raise
                # Prefect keeps the text of what a step raises
                raise RuntimeError(f"{type(error).__name__}: {told}") from None

        return task(
            name=name,
            retries=2,
            retry_delay_seconds=[2, 20],
            retry_condition_fn=transient,
            timeout_seconds=hours * HOURS,
            persist_result=cached,
            result_serializer="json",
            **memory,
        )(guarded)

    return decorate


def by_fingerprint(name: str) -> Callable[[Any, dict[str, Any]], str]:
    """The same step on equal data with equal settings, by the same code, into the same store."""

    def key(context: Any, parameters: dict[str, Any]) -> str:
        inputs = {k: Dataset(v).fingerprint if k == "dataset" and v else v for k, v in parameters.items()}
        return f"{name}-{store.digest([name, __version__, read_settings().store, inputs])}"

    return key


def remembered(call: Any, exists: Callable[[Any], bool], /, **parameters: Any) -> Any:
    """The step's result; if it was remembered but what it refers to is gone, the step runs again."""
    state = call(**parameters, return_state=True)
    result = state.result()
    if state.name == "Cached":
        tell()(Event(call.name, note="already done"))
    return result if exists(result) else call.with_options(refresh_cache=True)(**parameters)


@contextmanager
def listening(progress: Progress | None) -> Iterator[None]:
    """Tell `progress` of every step inside; without one, the flow run's log hears of it now and then."""
    mark = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(mark)


def tell() -> Progress:
    """The listener for the step that runs now."""
    return _listener.get() or throttled(_log, seconds=15)


def _log(event: Event) -> None:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
    total = f"/{event.total:,.0f}" if event.total else ""
    text = shown(f"{event.stage} {event.done:,.0f}{total} {event.unit} {event.note} {numbers}".strip())
    with suppress(MissingContextError):
        get_run_logger().info(text)
