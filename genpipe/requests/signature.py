"""A function's signature made of requests: what a flow's parameters and a command's options are read from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.fields import FieldInfo

from genpipe.requests.models import Request
from genpipe.requests.types import complaint
from genpipe.requests.words import usage_error

F = TypeVar("F", bound=Callable[..., Any])
Spell = Callable[[str, FieldInfo], inspect.Parameter]


def typed(name: str, field: FieldInfo) -> inspect.Parameter:
    """A field as a keyword whose type says its limits, as Prefect reads them."""
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated.__class_getitem__((annotation, *field.metadata))  # type: ignore[attr-defined]

    default = inspect.Parameter.empty if field.is_required() else field.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def takes(*requests: type[Request], spell: Spell = typed) -> Callable[[F], F]:
    """Give a function `f(first, *, own, **given)` the parameters of requests in place of `**given`.

    Its positional parameters come first, its own keywords stand as it declares them, so that what differs
    from the request is seen where it does.
    """
    fields = {name: field for request in requests for name, field in request.model_fields.items()}

    def decorate(function: F) -> F:
        hints = get_type_hints(function, include_extras=True)
        mine = {
            name: parameter.replace(annotation=hints.get(name, parameter.annotation))
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        made = []
        for name, field in fields.items():
            own = mine.pop(name, None)
            if own is None or own.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                derived = spell(name, field)
                own = derived.replace(kind=own.kind) if own else derived
            if spell is typed:
                says = _says(next(r for r in requests if name in r.model_fields), name)
                own = own.replace(annotation=Annotated[own.annotation, says])
            made.append(own)
        function.__signature__ = inspect.Signature([*made, *mine.values()])  # type: ignore[attr-defined]
        if spell is typed:
            _explain(function, {name: str(field.description) for name, field in fields.items()})
        return function

    return decorate


def _says(request: type[Request], name: str) -> WrapValidator:
    """What Prefect finds wrong with a parameter, in the words of the request."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            wrong = usage_error(error, request, within=(name,))
            raise complaint(wrong.found, wrong.expected, wrong.fix) from None

    return WrapValidator(check)


def documented(request: type[Request]) -> Callable[[F], F]:
    """Add what a request says of each parameter to a function's docstring, for `help()`."""
    fields = {field.alias or name: str(field.description) for name, field in request.model_fields.items()}
    fields.pop("options", None)  # any other keyword

    def decorate(function: F) -> F:
        _explain(function, fields)
        return function

    return decorate


def _explain(function: Callable[..., Any], texts: dict[str, str]) -> None:
    """The parameters' help at the end of a docstring, where editors and Prefect look for it."""
    lines = [f"    {name}: {text}" for name, text in texts.items()]
    function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Args:", *lines])
