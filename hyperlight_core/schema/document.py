"""Looks things up in an OpenRPC document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["Document", "one_line"]

#: JSON Schema: true and false stand for "anything" and "nothing".
Schema = dict[str, Any]


class Document:
    """An OpenRPC document, as `openrpc_document` makes it.

    Attributes:
        methods: by name.
        schemas: the shared ones, by name.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.methods: dict[str, Any] = {method["name"]: method for method in document["methods"]}
        self.schemas: dict[str, Schema] = document["components"]["schemas"]

    def resolve(self, schema: Schema | bool) -> Schema:
        """The schema itself, or what it refers to in the end; {} for true and false."""
        seen: set[str] = set()
        while isinstance(schema, dict) and "$ref" in schema and schema["$ref"] not in seen:
            seen.add(schema["$ref"])
            schema = self.schemas.get(schema["$ref"].rpartition("/")[2], {})
        return schema if isinstance(schema, dict) else {}

    def result(self, method: dict[str, Any]) -> Schema:
        """The schema of a method's result."""
        return self.resolve(method["result"]["schema"])

    def reachable(self, schema: Any) -> Iterator[str]:
        """Names of the shared schemas that a schema refers to, itself or through others."""
        found: dict[str, None] = {}
        pending = [schema]
        while pending:
            part = pending.pop()
            if isinstance(part, list):
                pending.extend(part)
            elif isinstance(part, dict):
                name = str(part.get("$ref", "")).rpartition("/")[2]
                if name in self.schemas and name not in found:
                    found[name] = None
                    pending.append(self.schemas[name])
                pending.extend(part.values())
        yield from found


def one_line(text: str) -> str:
    """Text for a comment or a table cell: printable, in one line, and unable to end either."""
    printable = "".join(c if c.isprintable() else " " for c in text).replace("*/", "* /")
    return re.sub(r" +", " ", printable).strip()
