"""Describes host functions as one OpenRPC document (specification 1.3.2)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaValue, models_json_schema

from hyperlight_core.errors import HostFunctionError
from hyperlight_core.functions import HostFunction

__all__ = ["DISCOVER", "openrpc_document"]

#: The method every guest may call: it answers with the document of what is within its reach
#: (OpenRPC 1.3.2, "Service Discovery Method").
DISCOVER = "rpc.discover"

_Key = tuple[type[BaseModel], Literal["validation", "serialization"]]
_REFERENCE = "#/components/schemas/"


def openrpc_document(functions: Iterable[HostFunction]) -> dict[str, Any]:
    """The document, ready for `json.dumps`; methods are sorted by name."""
    ordered = sorted(functions, key=lambda function: function.name)
    keys = [key for function in ordered for key in (_request(function), _response(function))]
    references, shared = models_json_schema(keys, ref_template=_REFERENCE + "{model}")
    schemas = shared.get("$defs", {})
    return {
        "openrpc": "1.3.2",
        "info": {"title": "hyperlight host functions", "version": version("hyperlight-core")},
        "methods": [_method(function, references, schemas) for function in ordered],
        "components": {"schemas": schemas},
    }


def _request(function: HostFunction) -> _Key:
    return function.request, "validation"


def _response(function: HostFunction) -> _Key:
    return function.response, "serialization"


def _method(
    function: HostFunction, references: dict[Any, JsonSchemaValue], schemas: dict[str, Any]
) -> dict[str, Any]:
    request = references[_request(function)]["$ref"].removeprefix(_REFERENCE)
    members = schemas[request]
    required = members.get("required", [])
    return {
        "name": function.name,
        "summary": function.doc,
        "tags": [{"name": function.plugin}] if function.plugin else [],
        "paramStructure": "by-name",
        "params": [
            {"name": name, "required": name in required, "schema": schema}
            for name, schema in members.get("properties", {}).items()
        ],
        "result": {"name": "result", "schema": references[_response(function)]},
        "errors": [_error(error) for error in function.errors],
        "x-version": function.version,
    }


def _error(error: type[Exception]) -> dict[str, Any]:
    code = error.code if issubclass(error, HostFunctionError) else HostFunctionError.code
    return {"code": code, "message": inspect.cleandoc(error.__doc__ or "").partition("\n")[0]}
