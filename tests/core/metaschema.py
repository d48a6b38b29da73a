"""The meta-schema of OpenRPC documents, as far as their objects are used here.

Which members an object must and may have, and of what type, is that of the specification 1.3.2
(spec.open-rpc.org) and of the meta-schema that belongs to it; schemas are those of draft 7.
"""

from __future__ import annotations

from typing import Any

import jsonschema

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
TEXT = {"type": "string"}
NAME = {"type": "string", "minLength": 1}
FLAG = {"type": "boolean"}


def an_object(required: dict[str, Any], /, **optional: Any) -> dict[str, Any]:
    """An OpenRPC object: no other members but extensions."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }


def a_list(items: dict[str, Any]) -> dict[str, Any]:
    """An array of them."""
    return {"type": "array", "items": items}


DESCRIPTOR = an_object(
    {"name": NAME, "schema": {"$ref": DRAFT_7}},
    summary=TEXT,
    description=TEXT,
    required=FLAG,
    deprecated=FLAG,
)
METHOD = an_object(
    {"name": NAME, "params": a_list(DESCRIPTOR), "result": DESCRIPTOR},
    summary=TEXT,
    description=TEXT,
    tags=a_list(an_object({"name": NAME}, description=TEXT)),
    paramStructure={"enum": ["by-name", "by-position", "either"]},
    errors=a_list(an_object({"code": {"type": "integer"}, "message": TEXT}, data={})),
    deprecated=FLAG,
)
COMPONENTS = {
    "type": "object",
    "properties": {
        "schemas": {
            "type": "object",
            "propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"},
            "additionalProperties": {"$ref": DRAFT_7},
        }
    },
}
DOCUMENT = an_object(
    {
        "openrpc": {"type": "string", "pattern": r"^1\.\d+\.\d+$"},
        "info": an_object({"title": TEXT, "version": TEXT}, description=TEXT),
        "methods": a_list(METHOD),
    },
    components=COMPONENTS,
)


def faults(document: Any) -> list[str]:
    """What breaks the specification."""
    validator = jsonschema.Draft7Validator(DOCUMENT)
    return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(document)]
