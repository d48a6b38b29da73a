"""Finds the changes between two OpenRPC documents that break callers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hyperlight_core.schema.document import Document, Schema

__all__ = ["breaking_changes"]

#: Each bound, and which of two values allows more.
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("pattern", "format", "multipleOf", "uniqueItems", "prefixItems")


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a caller who knows `old` can no longer do, or no longer understand, with `new`.

    A method whose `x-version` was raised may differ as it likes. Where it cannot be decided
    whether a changed schema still allows everything, it counts as a change.
    """
    before, after = Document(old), Document(new)
    found = []
    for name, method in before.methods.items():
        other = after.methods.get(name)
        if other is None:
            found.append(f"{name} is gone")
        elif other.get("x-version", 1) <= method.get("x-version", 1):
            found += [f"{name}: {fault}" for fault in _differences(before, after, method, other)]
    return found


def _differences(
    before: Document, after: Document, old: dict[str, Any], new: dict[str, Any]
) -> Iterator[str]:
    known = {parameter["name"]: parameter for parameter in old["params"]}
    taken = {parameter["name"]: parameter for parameter in new["params"]}
    for name, parameter in taken.items():
        if parameter["required"] and not known.get(name, {}).get("required", False):
            yield f"parameter {name} must be given now"
    for name, parameter in known.items():
        if name not in taken:
            yield f"parameter {name} is gone"
        elif not _Pair(after, before).allows(taken[name]["schema"], parameter["schema"]):
            yield f"parameter {name} no longer takes all it took"
    pair = _Pair(before, after, more_members=True)
    if not pair.allows(old["result"]["schema"], new["result"]["schema"]):
        yield "the result is not always what it was"


class _Pair:
    """Compares the schemas of two documents.

    Args:
        wide: where the schema is from that should allow as much.
        narrow: where the other is from.
        more_members: whether objects of the narrow one may have members the wide one lacks.
    """

    def __init__(self, wide: Document, narrow: Document, *, more_members: bool = False) -> None:
        self._wide, self._narrow, self._more_members = wide, narrow, more_members
        self._known: dict[tuple[str | None, str | None], bool] = {}

    def allows(self, wide: Any, narrow: Any) -> bool:
        """Whether everything that `narrow` describes is described by `wide`, too."""
        names = _reference(wide), _reference(narrow)
        if names == (None, None):
            return self._compare(self._wide.resolve(wide), self._narrow.resolve(narrow))
        if names not in self._known:
            # A schema that contains itself holds if nothing else speaks against it.
            self._known[names] = True
            self._known[names] = self._compare(
                self._wide.resolve(wide), self._narrow.resolve(narrow)
            )
        return self._known[names]

    def _compare(self, wide: Schema, narrow: Schema) -> bool:
        if not wide:
            return True
        if "anyOf" in narrow:
            return all(self.allows(wide, choice) for choice in narrow["anyOf"])
        if "anyOf" in wide:
            return any(self.allows(choice, narrow) for choice in wide["anyOf"])
        values = _values(wide)
        if values is not None:
            possible = _values(narrow)
            return possible is not None and all(value in values for value in possible)
        return self._types(wide, narrow) and _bounds(wide, narrow) and self._parts(wide, narrow)

    def _types(self, wide: Schema, narrow: Schema) -> bool:
        kinds = wide.get("type"), narrow.get("type")
        return kinds[0] is None or kinds[0] == kinds[1] or kinds == ("number", "integer")

    def _parts(self, wide: Schema, narrow: Schema) -> bool:
        if not self.allows(wide.get("items", {}), narrow.get("items", {})):
            return False
        if not set(wide.get("required", [])) <= set(narrow.get("required", [])):
            return False
        members, others = wide.get("properties", {}), narrow.get("properties", {})
        if any(not self.allows(members[name], others[name]) for name in members.keys() & others):
            return False
        more = [others[name] for name in others.keys() - members.keys()]
        more_of_any_name = narrow.get("additionalProperties", True)
        if more_of_any_name is not False:
            more.append(more_of_any_name)
        rest = wide.get("additionalProperties", True)
        if rest is False:
            return self._more_members or not more
        return all(self.allows(rest, schema) for schema in more)


def _reference(schema: Any) -> str | None:
    return schema.get("$ref") if isinstance(schema, dict) else None


def _values(schema: Schema) -> list[Any] | None:
    """All that the schema allows, if it lists that."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    return list(listed) if listed is not None else None


def _bounds(wide: Schema, narrow: Schema) -> bool:
    """Whether no bound of `wide` excludes what `narrow` allows."""
    listed = _values(narrow) is not None
    for key in (*_LOWER, *_UPPER):
        if key not in wide:
            continue
        if listed or key not in narrow:
            return False
        if wide[key] > narrow[key] if key in _LOWER else wide[key] < narrow[key]:
            return False
    return all(key not in wide or wide[key] == narrow.get(key) for key in _SAME)
