"""Reads a callable's signature into the models its arguments and its result are checked with."""

from __future__ import annotations

import functools
import inspect
import typing
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model
from pydantic.errors import PydanticUserError

from hyperlight_core.errors import ConfigurationError
from hyperlight_core.functions import Model

__all__ = ["Signature", "signature_of"]


class _Result(RootModel[Any]):
    """The result of a callable; its JSON is the value itself."""

    model_config = ConfigDict(frozen=True, strict=True)


@dataclass(frozen=True)
class Signature:
    """How a callable is called.

    Attributes:
        request: model with a field for each parameter, which has the parameter's name as its alias.
        response: root model of the return annotation.
        positional: the fields passed by position, in order.
        named: keyword and field of each of the others.
        is_async: whether the result is awaited.
    """

    request: type[BaseModel]
    response: type[RootModel[Any]]
    positional: tuple[str, ...]
    named: tuple[tuple[str, str], ...]
    is_async: bool

    def bind(self, function: Callable[..., Any], request: BaseModel) -> Callable[[], Any]:
        """A call of `function` with the arguments in `request`."""
        values = request.__dict__
        return functools.partial(
            function,
            *[values[field] for field in self.positional],
            **{keyword: values[field] for keyword, field in self.named},
        )


# Building models takes most of a millisecond, and every sandbox is granted the same functions.
_known: weakref.WeakKeyDictionary[Callable[..., Any], dict[bool, Signature]]
_known = weakref.WeakKeyDictionary()


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of `function`.

    Raises:
        ConfigurationError: its arguments or its result cannot be checked; the message says why.
    """
    bound = inspect.ismethod(function)
    plain = typing.cast("Any", function).__func__ if bound else function
    if not inspect.isfunction(plain):
        return _read(function)
    found = _known.setdefault(plain, {})
    if bound not in found:
        found[bound] = _read(function)
    return found[bound]


def _read(function: Callable[..., Any]) -> Signature:
    try:
        parameters = inspect.signature(function).parameters
        hints = _hints(function)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigurationError(f"its signature cannot be read: {error}") from error
    fields = list(_fields(parameters, hints))
    try:
        request = create_model(
            "Arguments", __base__=Model, **{field: definition for field, _, definition in fields}
        )
        response = create_model("Result", __base__=_Result, root=(hints.get("return", Any), ...))
    except PydanticUserError as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"an annotation cannot be checked: {reason}") from error
    by_keyword = {inspect.Parameter.KEYWORD_ONLY}
    return Signature(
        request=request,
        response=response,
        positional=tuple(field for field, given, _ in fields if given.kind not in by_keyword),
        named=tuple((given.name, field) for field, given, _ in fields if given.kind in by_keyword),
        is_async=any(map(inspect.iscoroutinefunction, (function, type(function).__call__))),
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what `function` calls in the end, those given as strings resolved."""
    if isinstance(function, functools.partial):
        return _hints(function.func)
    if inspect.isclass(function):
        return typing.get_type_hints(function.__init__, include_extras=True) | {"return": function}
    if not inspect.isroutine(function):
        return typing.get_type_hints(type(function).__call__, include_extras=True)
    return typing.get_type_hints(function, include_extras=True)


def _fields(
    parameters: typing.Mapping[str, inspect.Parameter], hints: dict[str, Any]
) -> Iterator[tuple[str, inspect.Parameter, Any]]:
    """For each parameter: a field name that no pydantic model uses itself, and its definition."""
    for index, (name, parameter) in enumerate(parameters.items()):
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise ConfigurationError(f"the arguments behind {parameter} cannot be checked")
        required = parameter.default is parameter.empty
        default = Field(... if required else parameter.default, alias=name, title=name)
        yield f"argument_{index}", parameter, (hints.get(name, Any), default)
