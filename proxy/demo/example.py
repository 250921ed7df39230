"""A value that fits a JSON schema: the arguments of a call, or an answer in a wanted form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias

    Schema: TypeAlias = Mapping[str, Any]

DEEPEST = 20
"""Schemas may refer to themselves."""


def example(schema: Schema, words: Iterator[str]) -> Any:
    """The plainest value that fits; its texts are taken from `words`, as long as there are any."""
    return _Example(schema, words).of(schema)


class _Example:
    def __init__(self, root: Schema, words: Iterator[str]) -> None:
        self._root = root
        self._words = words
        self._depth = 0

    def of(self, schema: Any) -> Any:
        if not isinstance(schema, dict) or self._depth > DEEPEST:
            return None
        self._depth += 1
        try:
            return self._of(schema)
        finally:
            self._depth -= 1

    def _of(self, schema: Schema) -> Any:
        if "$ref" in schema:
            return self.of(self._referred(schema["$ref"]))
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key):
                return self.of(schema[key][0])
        return self._typed(schema)

    def _referred(self, reference: str) -> Any:
        """What "#/$defs/Name" refers to."""
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(part, {}) if part and isinstance(found, dict) else found
        return found

    def _typed(self, schema: Schema) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        match kind[0] if isinstance(kind, list) else kind:
            case "object":
                return self._object(schema)
            case "array":
                items = schema.get("items", {})
                return [self.of(items) for _ in range(schema.get("minItems", 1))]
            case "string":
                return next(self._words, "demo")
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: Schema) -> dict[str, Any]:
        properties = schema.get("properties", {})
        names = schema.get("required", properties)
        return {name: self.of(properties.get(name, {"type": "string"})) for name in names}
