"""Host functions: what one is, and how a plugin declares it."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

__all__ = ["HostCall", "HostFunction", "Model", "functions_of", "host_function"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Model(BaseModel):
    """A request or response: frozen, strict, and without members nobody declared."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class HostCall(Protocol):
    """One call in progress, for handlers that take a second parameter.

    Both buffers are guest memory and become invalid when the handler returns. The guest does not
    run meanwhile, so what they hold does not change under the handler.
    """

    @property
    def attachment(self) -> memoryview:
        """The binary attachment of the request, read-only; empty if it has none."""

    def reply_buffer(self, size: int) -> memoryview:
        """The place, `size` bytes long and writable, where the response's attachment goes.

        Raises:
            CallLimitError: the guest's buffer is smaller; see `reply_limit`.
        """

    def reply_size(self, size: int) -> None:
        """Shorten the attachment handed out by `reply_buffer` to its first `size` bytes."""

    @property
    def reply_limit(self) -> int:
        """The largest attachment a response may have, in bytes."""

    @property
    def run(self) -> int:
        """Which run of the sandbox this call belongs to: a number that differs for every run."""

    @property
    def deadline(self) -> float | None:
        """When the running sandbox call times out, on `time.monotonic`'s clock; None for never."""

    @property
    def cancelled(self) -> bool:
        """Whether the sandbox was killed; a handler that blocks looks at it, or at `wake_fd`."""

    @property
    def wake_fd(self) -> int:
        """A file descriptor that polls readable once the sandbox is killed."""


@dataclass(frozen=True)
class HostFunction:
    """One named ability that a guest may be given.

    Attributes:
        name: `namespace.verb`; the JSON-RPC method.
        handler: called with the validated request, and with a HostCall if `wants_call`.
        request: model of the params object.
        response: model of the result object.
        doc: one line for people.
        wants_call: whether the handler takes the HostCall as its second argument.
        blocking: whether the handler may wait for something outside this process.
        errors: the HostFunctionError types it raises on purpose.
        result_limit: the largest result in bytes of JSON; None for what the guest's buffer takes.
        version: of the two models; raised by a change that breaks callers.
        plugin: name of the plugin that offers it; filled in by core.
    """

    name: str
    handler: Callable[..., Any]
    request: type[BaseModel]
    response: type[BaseModel]
    doc: str = ""
    wants_call: bool = False
    blocking: bool = False
    errors: tuple[type[Exception], ...] = field(default=())
    result_limit: int | None = None
    version: int = 1
    plugin: str = ""


def host_function(
    name: str,
    *,
    blocking: bool = False,
    errors: Iterable[type[Exception]] = (),
    version: int = 1,
) -> Callable[[_F], _F]:
    """Mark a method `(self, request: Model[, call: HostCall]) -> Model` as a host function.

    The models are taken from the annotations, the documentation from the docstring's first line;
    the other arguments are attributes of HostFunction.
    """
    declared = {"name": name, "blocking": blocking, "errors": tuple(errors), "version": version}

    def mark(method: _F) -> _F:
        method.__host_function__ = declared  # type: ignore[attr-defined]
        return method

    return mark


def functions_of(instance: object) -> list[HostFunction]:
    """The host functions that the methods of `instance` declare with `host_function`.

    Raises:
        TypeError: a marked method lacks an annotation or has the wrong number of parameters.
    """
    owner: Any = type(instance)
    return [
        replace(declared, handler=getattr(instance, attribute))
        for attribute, declared in _declared(owner)
    ]


@functools.lru_cache(maxsize=256)
def _declared(owner: type[Any]) -> tuple[tuple[str, HostFunction], ...]:
    """What a class declares, by attribute; reading annotations takes a millisecond or two."""
    return tuple(
        (attribute, _declare(function, mark))
        for attribute, function in inspect.getmembers(owner, inspect.isfunction)
        if (mark := getattr(function, "__host_function__", None)) is not None
    )


def _declare(function: Callable[..., Any], declared: dict[str, Any]) -> HostFunction:
    parameters = list(inspect.signature(function).parameters)[1:]
    hints = typing.get_type_hints(function)
    models = [hints.get(parameter) for parameter in parameters[:1]] + [hints.get("return")]
    if len(parameters) not in (1, 2) or not all(map(_is_model, models)):
        raise TypeError(
            f"host function {declared['name']!r}: {function.__qualname__} must take an annotated"
            " pydantic model (and optionally a HostCall) and return an annotated pydantic model"
        )
    request, response = typing.cast("list[type[BaseModel]]", models)
    doc = (inspect.getdoc(function) or "").partition("\n")[0]
    return HostFunction(
        handler=function,
        request=request,
        response=response,
        doc=doc,
        wants_call=len(parameters) == 2,
        **declared,
    )


def _is_model(annotation: object) -> bool:
    # Python 3.10 takes list[int] for a class, which issubclass then refuses.
    plain = isinstance(annotation, type) and typing.get_origin(annotation) is None
    return plain and issubclass(typing.cast("type", annotation), BaseModel)
