"""Which changes of a schema break its callers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.schema.compatibility import breaking_changes


class Empty(Model):
    pass


class Tree(Model):
    children: list[Tree] = Field(default_factory=list)
    weight: int = 0


class WiderTree(Model):
    children: list[WiderTree] = Field(default_factory=list)
    weight: float = 0


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")


def model(**fields: Any) -> type[BaseModel]:
    """A model called Parts, whose fields are types, or types with defaults."""
    given: Any = {name: f if isinstance(f, tuple) else (f, ...) for name, f in fields.items()}
    made: type[BaseModel] = create_model("Parts", __base__=Model, **given)
    return made


def document(
    request: type[BaseModel] = Empty, response: type[BaseModel] = Empty, version: int = 1
) -> dict[str, Any]:
    function = HostFunction("a.b", lambda _: None, request, response, version=version)
    return openrpc_document([function])


def text(**bounds: Any) -> Any:
    return Annotated[str, Field(**bounds)]


#: Types of which the second takes everything the first does, and not the other way round.
WIDER: dict[str, tuple[Any, Any]] = {
    "a wider kind of number": (int, float),
    "null": (int, int | None),
    "another type": (int, int | str),
    "another value": (Literal["a"], Literal["a", "b"]),
    "more than some values": (Literal["a"], str),
    "anything": (int, Any),
    "a lower minimum": (Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0)]),
    "no maximum": (Annotated[int, Field(lt=5)], int),
    "longer text": (text(max_length=3), text(max_length=4)),
    "shorter text": (text(min_length=3), str),
    "no pattern": (text(pattern="a"), str),
    "other items": (list[int], list[int | str]),
    "more items": (Annotated[list[int], Field(max_length=2)], list[int]),
    "other values of a mapping": (dict[str, int], dict[str, float]),
    "a member that may be missing": (model(x=int), model(x=(int, 0))),
    "other values of a member": (model(x=int), model(x=float)),
    "a schema that contains itself": (Tree, WiderTree),
}
#: The same, but only for parameters: more members do not harm who reads a result.
MORE_MEMBERS: dict[str, tuple[Any, Any]] = {
    "one more member": (model(x=int), model(x=int, y=(int, 0))),
    "any member": (Tree, Loose),
}
TAKEN = WIDER | MORE_MEMBERS


@pytest.mark.parametrize(("narrow", "wide"), TAKEN.values(), ids=TAKEN)
def test_a_parameter_may_take_more_and_not_less(narrow: Any, wide: Any) -> None:
    old, new = document(model(p=narrow)), document(model(p=wide))
    assert breaking_changes(old, new) == []
    assert breaking_changes(new, old) == ["a.b: parameter p no longer takes all it took"]


@pytest.mark.parametrize(("narrow", "wide"), WIDER.values(), ids=WIDER)
def test_a_result_may_be_less_and_not_more(narrow: Any, wide: Any) -> None:
    old, new = document(Empty, model(p=wide)), document(Empty, model(p=narrow))
    assert breaking_changes(old, new) == []
    assert breaking_changes(new, old) == ["a.b: the result is not always what it was"]


def test_a_result_may_have_more_members_and_not_fewer() -> None:
    less, more = document(Empty, model(x=int)), document(Empty, model(x=int, y=int))
    assert breaking_changes(less, more) == []
    assert breaking_changes(more, less) == ["a.b: the result is not always what it was"]


def test_parameters_may_come_only_if_they_may_be_left_out() -> None:
    old = document(model(x=int))
    assert breaking_changes(old, document(model(x=int, y=(int, 0)))) == []
    assert breaking_changes(old, document(model(x=int, y=int))) == [
        "a.b: parameter y must be given now"
    ]


def test_parameters_and_methods_may_not_go() -> None:
    old = document(model(x=int, y=(int, 0)))
    assert breaking_changes(old, document(model(x=int))) == ["a.b: parameter y is gone"]
    assert breaking_changes(old, openrpc_document([])) == ["a.b is gone"]


def test_what_may_be_left_out_may_not_become_required() -> None:
    old, new = document(model(x=(int, 0))), document(model(x=int))
    assert breaking_changes(old, new) == ["a.b: parameter x must be given now"]


def test_a_raised_version_allows_everything() -> None:
    old = document(model(x=int))
    assert breaking_changes(old, document(model(x=str), version=2)) == []
    assert breaking_changes(document(model(x=int), version=2), document(model(x=str), version=2))


def test_words_do_not_matter() -> None:
    old = document(model(x=Annotated[int, Field(description="a", title="b")]))
    assert breaking_changes(old, document(model(x=int))) == []
    assert breaking_changes(document(model(x=int)), old) == []
