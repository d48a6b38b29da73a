"""Signatures: any annotated callable can be a tool, and its arguments are what it says."""

from __future__ import annotations

import dataclasses
import enum
import functools
import gc
import weakref
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union
from uuid import UUID

import pytest
from hl_tools.signature import signature_of
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from hyperlight_core.errors import ConfigurationError


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    name: str


class Order(BaseModel):
    sku: str
    count: int = Field(gt=0)


class Pair(NamedTuple):
    a: int
    b: str


class Color(enum.Enum):
    RED = "red"


def call(function: Callable[..., Any], text: str) -> Any:
    """Call as a guest does: with JSON arguments, strictly."""
    signature = signature_of(function)
    request = signature.request.model_validate_json(text, strict=True)
    return signature.bind(function, request)()


def takes(annotation: Any) -> Callable[..., Any]:
    """A function with one argument of that annotation, which it returns."""

    def function(value: Any) -> Any:
        return value

    function.__annotations__ = {"value": annotation}
    return function


# ---- the matrix: which JSON value suits which annotation -----------------------------------------

JSON = {
    "null": "null",
    "bool": "true",
    "int": "1",
    "float": "1.5",
    "text": '"x"',
    "date": '"2026-01-31"',
    "array": "[1, 2]",
    "mixed": '[1, "b"]',
    "object": '{"x": 1}',
    "empty": "{}",
}

ACCEPTED: list[tuple[Any, set[str]]] = [
    (None, {"null"}),
    (bool, {"bool"}),
    (int, {"int"}),
    (float, {"int", "float"}),
    (str, {"text", "date"}),
    (bytes, {"text", "date"}),
    (date, {"date"}),
    (UUID, set()),
    (Any, set(JSON)),
    (object, set(JSON)),
    (list, {"array", "mixed"}),
    (list[int], {"array"}),
    (Sequence[int], {"array"}),
    (tuple[int, int], {"array"}),
    (tuple[int, str], {"mixed"}),
    (set[int], {"array"}),
    (dict, {"object", "empty"}),
    (dict[str, int], {"object", "empty"}),
    (dict[str, str], {"empty"}),
    (Optional[int], {"null", "int"}),  # noqa: UP045 - both spellings are in use
    (int | None, {"null", "int"}),
    (Union[int, str], {"int", "text", "date"}),  # noqa: UP007
    (int | list[int], {"int", "array"}),
    (Literal["x", "y"], {"text"}),
    (Annotated[int, Field(gt=1)], set()),
    (Annotated[float, Field(ge=1)], {"int", "float"}),
    (Annotated[str, Field(max_length=1)], {"text"}),
    (Point, {"object"}),
    (Movie, set()),
    (Order, set()),
    (Pair, {"mixed"}),
    (Color, set()),
    ("int", {"int"}),
    ("Point | None", {"null", "object"}),
]


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize(
    ("annotation", "accepted"), ACCEPTED, ids=[str(annotation) for annotation, _ in ACCEPTED]
)
def test_an_argument_suits_its_annotation_or_is_refused(
    annotation: Any, accepted: set[str], kind: str
) -> None:
    """Strictly: no text becomes a number, no number becomes text, no 1 becomes true."""
    text = f'{{"value": {JSON[kind]}}}'
    if kind in accepted:
        call(takes(annotation), text)
    else:
        with pytest.raises(ValidationError):
            call(takes(annotation), text)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Point, '{"x": 1}', Point(1)),
        (Movie, '{"name": "m"}', {"name": "m"}),
        (Order, '{"sku": "a", "count": 2}', Order(sku="a", count=2)),
        (list[Order], '[{"sku": "a", "count": 2}]', [Order(sku="a", count=2)]),
        (Pair, '[1, "b"]', Pair(1, "b")),
        (Color, '"red"', Color.RED),
        (Literal[1, 2], "1", 1),
        (set[int], "[1, 1]", {1}),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (date, '"2026-01-31"', date(2026, 1, 31)),
        (Path, '"a/b"', Path("a/b")),
        (
            UUID,
            '"12345678-1234-5678-1234-567812345678"',
            UUID("12345678123456781234567812345678"),
        ),
    ],
)
def test_the_callable_gets_the_type_it_asked_for(annotation: Any, text: str, value: Any) -> None:
    given = call(takes(annotation), f'{{"value": {text}}}')
    assert (type(given), given) == (type(value), value)


@pytest.mark.parametrize("text", ['{"sku": "a", "count": 0}', '{"sku": "a", "count": "2"}', "{}"])
def test_the_fields_of_a_model_are_checked_too(text: str) -> None:
    """Strictly, though the model itself is lax."""
    with pytest.raises(ValidationError):
        call(takes(Order), f'{{"value": {text}}}')


# ---- kinds of callables ------------------------------------------------------------------------


def plain(a: int, /, b: str = "b", *, c: list[int] = []) -> tuple[int, str, list[int]]:  # noqa: B006
    return a, b, c


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    def buy(self, count: int) -> int:
        return self.price * count

    @classmethod
    def named(cls, name: str) -> str:
        return cls.__name__ + name

    @staticmethod
    def static(x: int) -> int:
        return x

    def __call__(self, count: int) -> int:
        return -count


@functools.wraps(plain)
def wrapped(*arguments: Any, **keywords: Any) -> Any:
    return plain(*arguments, **keywords)


async def coroutine(x: int) -> int:
    return x


class AsyncCallable:
    async def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    ("function", "text", "result"),
    [
        (plain, '{"a": 1}', (1, "b", [])),
        (plain, '{"a": 1, "b": "x", "c": [2]}', (1, "x", [2])),
        (Shop(3).buy, '{"count": 2}', 6),
        (Shop(5).buy, '{"count": 2}', 10),
        (Shop.named, '{"name": "!"}', "Shop!"),
        (Shop.static, '{"x": 1}', 1),
        (Shop(1), '{"count": 2}', -2),
        (functools.partial(plain, 7), '{"b": "x"}', (7, "x", [])),
        (functools.partial(Shop(3).buy, count=4), "{}", 12),
        (wrapped, '{"a": 1, "b": "x"}', (1, "x", [])),
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (lambda x, y=2: (x, y), '{"x": [null]}', ([None], 2)),
    ],
)
def test_any_callable_is_called_with_its_arguments_and_defaults(
    function: Callable[..., Any], text: str, result: Any
) -> None:
    assert call(function, text) == result


def test_a_mutable_default_is_not_shared_between_calls() -> None:
    call(plain, '{"a": 1}')[2].append(9)
    assert call(plain, '{"a": 1}')[2] == []


@pytest.mark.parametrize("text", ['{"a": 1, "d": 2}', "{}", '{"argument_0": 1}', "[1]", "null"])
def test_unknown_and_missing_arguments_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        call(plain, text)


def test_a_parameter_may_have_a_name_that_pydantic_uses() -> None:
    def odd(model_config: int, json: int, schema: int, _private: int, self: int) -> list[int]:
        return [model_config, json, schema, _private, self]

    text = '{"model_config": 1, "json": 2, "schema": 3, "_private": 4, "self": 5}'
    assert call(odd, text) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (coroutine, True),
        (AsyncCallable(), True),
        (AsyncCallable().__call__, True),
        (functools.partial(coroutine, 1), True),
        (plain, False),
        (Shop(1), False),
    ],
)
def test_async_callables_are_known(function: Callable[..., Any], is_async: bool) -> None:
    assert signature_of(function).is_async is is_async


# ---- what cannot be checked ----------------------------------------------------------------------


def variadic(*values: int) -> None:
    """Takes any number of arguments."""


def keywords(**values: int) -> None:
    """Takes any keywords."""


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (variadic, r"behind \*values"),
        (keywords, r"behind \*\*values"),
        (takes("Missing"), "name 'Missing' is not defined"),
        (takes(type("Lock", (), {})), "an annotation cannot be checked"),
        (max, "signature cannot be read"),
    ],
)
def test_a_callable_that_cannot_be_checked_is_refused(
    function: Callable[..., Any], fault: str
) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        signature_of(function)


# ---- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (int, 1, "1"),
        (float, 1, "1.0"),
        (None, None, "null"),
        (Point, Point(1), '{"x":1,"y":0}'),
        (Movie, {"name": "m"}, '{"name":"m"}'),
        (Order, Order(sku="a", count=1), '{"sku":"a","count":1}'),
        (Color, Color.RED, '"red"'),
        (date, date(2026, 1, 31), '"2026-01-31"'),
        (tuple[int, str], (1, "b"), '[1,"b"]'),
        (set[int], {1}, "[1]"),
        (int | None, None, "null"),
        (Any, {"a": (1, date(2026, 1, 31))}, '{"a":[1,"2026-01-31"]}'),
        (dict[str, Point], {"p": Point(1)}, '{"p":{"x":1,"y":0}}'),
    ],
)
def test_a_result_goes_through_the_return_annotation(
    annotation: Any, value: Any, text: str
) -> None:
    function = takes(Any)
    function.__annotations__["return"] = annotation
    assert signature_of(function).response(value).model_dump_json() == text


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int, "1"), (int, 1.5), (str, None), (None, 1), (Point, {"x": 1}), (list[int], ["1"])],
)
def test_a_result_that_does_not_match_is_refused(annotation: Any, value: Any) -> None:
    function = takes(Any)
    function.__annotations__["return"] = annotation
    with pytest.raises(ValidationError):
        signature_of(function).response(value)


# ---- the cache ---------------------------------------------------------------------------------


def test_models_are_built_once_for_a_function_and_for_all_its_bound_methods() -> None:
    assert signature_of(plain) is signature_of(plain)
    assert signature_of(Shop(1).buy) is signature_of(Shop(2).buy)
    assert signature_of(Shop(1).buy) is not signature_of(Shop.buy)


def test_the_cache_keeps_no_function_alive() -> None:
    function = takes(int)
    signature_of(function)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None
