"""Signatures and help of host functions, from the OpenRPC document that the host gives."""

from __future__ import annotations

import functools
import inspect
import keyword
import operator
from typing import Any, Literal

from . import call

_SIMPLE = {"integer": int, "number": float, "string": str, "boolean": bool, "null": type(None)}
#: References followed within each other; a schema may contain itself.
_DEPTH = 8


class _Document:
    """The methods within reach, and the schemas they refer to."""

    def __init__(self) -> None:
        document = call("rpc.discover")
        self.methods = {method["name"]: method for method in document["methods"]}
        self._schemas = document["components"]["schemas"]

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema itself, or the one it refers to."""
        reference = schema.get("$ref")
        return self._schemas.get(reference.rpartition("/")[2], {}) if reference else schema

    def type(self, schema: Any, depth: int = _DEPTH) -> Any:
        """The Python type of what a JSON Schema describes; Any where there is no simple one."""
        if not isinstance(schema, dict) or not depth:
            return Any
        if "$ref" in schema:
            return self.type(self.resolve(schema), depth - 1)
        if "anyOf" in schema:
            choices = [self.type(choice, depth - 1) for choice in schema["anyOf"]]
            return functools.reduce(operator.or_, choices)
        if "const" in schema or "enum" in schema:
            return Literal[tuple(schema.get("enum", [schema.get("const")]))]
        return self._plain_type(schema, depth - 1)

    def _plain_type(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if kind == "array":
            return list[self.type(schema.get("items"), depth)]  # type: ignore[misc]
        if kind == "object":
            return dict[str, self.type(schema.get("additionalProperties"), depth)]  # type: ignore[misc]
        return _SIMPLE.get(kind, Any) if isinstance(kind, str) else Any

    def signature(self, name: str) -> inspect.Signature:
        """How a host function is called; parameters that Python cannot name are left out."""
        method = self.methods[name]
        parameters = [
            inspect.Parameter(
                parameter["name"],
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(parameter),
                annotation=self.type(parameter["schema"]),
            )
            for parameter in method["params"]
            if parameter["name"].isidentifier() and not keyword.iskeyword(parameter["name"])
        ]
        result = self.type(method["result"]["schema"])
        return inspect.Signature(parameters, return_annotation=result)

    def help(self, name: str) -> str:
        """Signature, summary, parameters, result and errors of a function."""
        method = self.methods[name]
        lines = [f"{name}{self.signature(name)}", "", method["summary"]]
        fields = {parameter["name"]: parameter["schema"] for parameter in method["params"]}
        lines += self._fields("Parameters", fields)
        result = self.resolve(method["result"]["schema"])
        lines += self._fields("Result", result.get("properties", {}))
        errors = [f"    {error['code']}: {error['message']}" for error in method["errors"]]
        return "\n".join([*lines, *(["", "Errors:", *errors] if errors else [])])

    def _fields(self, title: str, fields: dict[str, Any]) -> list[str]:
        shown = [
            f"    {name}: {inspect.formatannotation(self.type(schema))}"
            + (f": {schema['description']}" if "description" in schema else "")
            for name, schema in fields.items()
        ]
        return ["", f"{title}:", *shown] if shown else []


def _default(parameter: dict[str, Any]) -> Any:
    if parameter["required"]:
        return inspect.Parameter.empty
    return parameter["schema"].get("default", ...)


def signature(name: str) -> inspect.Signature:
    """The signature of a host function.

    Raises:
        AttributeError: there is no such function within reach.
    """
    document = _Document()
    if name not in document.methods:
        raise AttributeError(f"no host function {name!r} within reach")
    return document.signature(name)


def text(name: str) -> str:
    """Help on a host function, or a list of those in a namespace."""
    document = _Document()
    if name in document.methods:
        return document.help(name)
    found = [
        f"    {method}: {described['summary']}"
        for method, described in document.methods.items()
        if method.startswith(f"{name}.")
    ]
    title = f"Host functions of {name}:" if found else f"No host function {name} is within reach."
    return "\n".join([title, *found])


def members(prefix: str) -> list[str]:
    """The names that follow a prefix such as "" or "fs."."""
    names = _Document().methods
    return sorted(
        {name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)}
    )
