"""Tools that come with a JSON Schema of their arguments instead of annotations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jsonschema
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, RootModel, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from hl_tools.signature import Signature
from hyperlight_core.errors import ConfigurationError

__all__ = ["DescribedTool", "described"]

#: What agent frameworks call the schema, and what is called with the arguments.
_SCHEMAS = ("input_schema", "inputSchema", "json_schema", "params_json_schema", "parameters")
_HANDLERS = ("handler", "func", "function", "fn", "callback")
#: Definitions followed within each other; a schema may contain itself.
_DEPTH = 8


@dataclass(frozen=True)
class DescribedTool:
    """A tool as agent frameworks know it.

    Attributes:
        name: what models call it.
        description: for models.
        schema: JSON Schema of the arguments, an object.
        handler: called with the arguments by name; may be a coroutine function.
    """

    name: str
    description: str
    schema: dict[str, Any]
    handler: Callable[..., Any]

    @property
    def signature(self) -> Signature:
        """How it is called.

        Raises:
            ConfigurationError: the schema is none.
        """
        return _DescribedSignature(
            request=_arguments(self.schema),
            response=_Result,
            positional=(),
            named=(),
            is_async=inspect.iscoroutinefunction(self.handler),
        )


def described(tool: object) -> DescribedTool | None:
    """A tool given as an object with a name, a description, a schema and a handler; or None."""
    if isinstance(tool, DescribedTool):
        return tool
    schema, handler = (
        next((getattr(tool, name) for name in names if hasattr(tool, name)), None)
        for names in (_SCHEMAS, _HANDLERS)
    )
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        schema = schema.model_json_schema()
    name = getattr(tool, "name", None)
    if not isinstance(name, str) or not isinstance(schema, dict) or not callable(handler):
        return None
    return DescribedTool(name, str(getattr(tool, "description", None) or ""), schema, handler)


class _DescribedSignature(Signature):
    def bind(self, function: Any, request: BaseModel) -> Callable[[], Any]:
        return functools.partial(function.handler, **request.model_dump())


class _Result(RootModel[Any]):
    """Whatever it returns."""


class _Arguments(RootModel[dict[str, Any]]):
    """Arguments by name."""

    model_config = ConfigDict(frozen=True, strict=True)


def _arguments(schema: dict[str, Any]) -> type[BaseModel]:
    """A model that takes what the schema describes, and is described by it."""
    shown = _inlined(schema, schema.get("$defs", {}), _DEPTH)
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"its schema is none: {error.message}") from error
    validator = kind(schema)

    class Arguments(_Arguments):
        @model_validator(mode="after")
        def _check(self) -> Arguments:
            for error in validator.iter_errors(self.root):
                raise ValueError(f"{error.json_path}: {error.message[:200]}")
            return self

        @classmethod
        def __get_pydantic_json_schema__(
            cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
        ) -> JsonSchemaValue:
            del core_schema, handler
            return {"type": "object", "properties": {}, **shown}

    return Arguments


def _inlined(schema: Any, definitions: dict[str, Any], depth: int) -> Any:
    """The schema with its own definitions put where they are referred to."""
    if isinstance(schema, list):
        return [_inlined(item, definitions, depth) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = definitions.get(str(schema["$ref"]).removeprefix("#/$defs/"), {})
        return _inlined(target, definitions, depth - 1) if depth else {}
    return {
        key: _inlined(value, definitions, depth)
        for key, value in schema.items()
        if key not in {"$defs", "$schema", "$id"}
    }
