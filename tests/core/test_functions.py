"""Declaring host functions: what the annotations say is what is offered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hyperlight_core.errors import DeniedError
from hyperlight_core.functions import HostCall, Model, functions_of, host_function


class Request(Model):
    value: int


class Response(Model):
    value: int


class Plugin:
    @host_function("a.plain", blocking=True, errors=[DeniedError])
    def plain(self, request: Request) -> Response:
        """One line.

        Another one.
        """
        return Response(value=request.value)

    @host_function("a.with_call")
    def with_call(self, request: Request, call: HostCall) -> Response:
        return Response(value=len(call.attachment))

    def unmarked(self, request: Request) -> Response:
        return Response(value=request.value)


def test_marked_methods_are_found_with_all_they_declare() -> None:
    plain, with_call = sorted(functions_of(Plugin()), key=lambda function: function.name)
    assert (plain.name, plain.doc, plain.blocking) == ("a.plain", "One line.", True)
    assert (plain.request, plain.response) == (Request, Response)
    assert (plain.errors, plain.wants_call) == ((DeniedError,), False)
    assert (with_call.name, with_call.doc, with_call.wants_call) == ("a.with_call", "", True)


def test_the_handler_is_bound_to_its_instance() -> None:
    (plain, _) = sorted(functions_of(Plugin()), key=lambda function: function.name)
    assert plain.handler(Request(value=3)) == Response(value=3)


def test_a_subclass_inherits_and_overrides() -> None:
    class Other(Plugin):
        @host_function("a.plain")
        def plain(self, request: Request) -> Response:
            return Response(value=-request.value)

    plain = {function.name: function for function in functions_of(Other())}["a.plain"]
    assert plain.handler(Request(value=3)) == Response(value=-3)


def no_request(self: object) -> Response:
    raise NotImplementedError


def unannotated(self: object, request) -> Response:  # type: ignore[no-untyped-def]  # noqa: ANN001
    raise NotImplementedError


def no_model(self: object, request: dict[str, int]) -> Response:
    raise NotImplementedError


def no_result(self: object, request: Request) -> None:
    raise NotImplementedError


def too_many(self: object, request: Request, call: HostCall, more: int) -> Response:
    raise NotImplementedError


@pytest.mark.parametrize("method", [no_request, unannotated, no_model, no_result, too_many])
def test_a_method_without_its_models_is_an_error(method: Any) -> None:
    broken = type("Broken", (), {"method": host_function("a.b")(method)})
    with pytest.raises(TypeError, match=r"'a\.b': .* must take an annotated pydantic model"):
        functions_of(broken())


@pytest.mark.parametrize("values", [{"value": "1"}, {"value": 1.0}, {"value": 1, "more": 2}, {}])
def test_a_model_is_strict_and_closed(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Request(**values)


def test_a_model_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Request(value=1).value = 2
